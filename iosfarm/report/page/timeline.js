// The schedule over time beside the sequential one.
const GUTTER = 92, RIGHT = 16, AXIS = 26, TRACK = 34, RIBBONS = 46, STAGE_HEAD = 18, STREAM = 30, FOOT = 24;

class Timeline {
  constructor(host, schedule, name, choose) {
    Object.assign(this, { host, schedule, name, choose });
    const last = (items) => items[items.length - 1].begin + items[items.length - 1].seconds;
    this.before = last(schedule.units);
    this.after = last(schedule.stages);
    this.total = Math.max(this.before, this.after);
    this.range = [0, this.total];
    this.selected = 0;
    this.near = null;
    this.rows = Math.max(...schedule.stages.map((stage) => stage.rows));
    const bar = tools(host, "Timeline", [
      ["+", "zoom in", () => this.zoom(1 / 1.6)],
      ["−", "zoom out", () => this.zoom(1.6)],
      ["All", "show the whole schedule", () => this.show(0, this.total)],
      ["Stage", "zoom to the chosen stage", () => this.showStage()],
      ["◀", "earlier", () => this.pan(-0.3)],
      ["▶", "later", () => this.pan(0.3)],
    ]);
    this.output = put(bar, "output");
    this.svg = put(host, "svg", { class: "pan", role: "listbox", tabindex: 0, "aria-orientation": "horizontal",
      "aria-label": `Stages of ${schedule.model}; the arrow keys choose one` });
    this.top = AXIS;
    this.stages = AXIS + TRACK + RIBBONS;
    this.height = this.stages + STAGE_HEAD + this.rows * STREAM + FOOT;
    // The middle of each stage, and of its units in the sequential schedule.
    this.middles = schedule.stages.map((stage) => {
      const members = stage.boxes.flatMap((box) => box.units).map((unit) => schedule.units[unit]);
      const from = Math.min(...members.map((unit) => unit.begin)), to = Math.max(...members.map((unit) => unit.begin + unit.seconds));
      return [stage.begin + stage.seconds / 2, (from + to) / 2];
    });
    this.listen();
  }

  x(time) { return GUTTER + (time - this.range[0]) / (this.range[1] - this.range[0]) * this.room; }

  // Of the sequential schedule, which is as far along where the same work is done.
  early(time) { return this.x(time - this.shift); }

  // How much later the sequential schedule is drawn from: nothing while all is to be seen, and the closer one looks the
  // more, up to where the units of the stages in the middle of the view are above them.
  shifted() {
    const [from, to] = this.range, middle = (from + to) / 2, { middles } = this;
    const weight = Math.min(1, 2 * (1 - (to - from) / this.total));
    const after = middles.findIndex(([time]) => time > middle);
    if (after === -1) return weight * (middles[middles.length - 1][1] - middles[middles.length - 1][0]);
    if (after === 0) return weight * (middles[0][1] - middles[0][0]);
    const [[t0, s0], [t1, s1]] = [middles[after - 1], middles[after]];
    return weight * (s0 + (s1 - s0) * (middle - t0) / (t1 - t0) - middle);
  }

  show(from, to) {
    const least = this.total / 2000;
    const span = Math.min(this.total, Math.max(least, to - from));
    const begin = Math.max(0, Math.min(this.total - span, (from + to - span) / 2));
    this.range = [begin, begin + span];
    this.draw();
  }

  zoom(factor, at = null) {
    const [from, to] = this.range;
    const stage = this.schedule.stages[this.selected];
    const middle = stage.begin + stage.seconds / 2;
    const fixed = at ?? (middle > from && middle < to ? middle : (from + to) / 2);
    this.show(fixed - (fixed - from) * factor, fixed + (to - fixed) * factor);
  }

  pan(share) {
    const span = this.range[1] - this.range[0];
    this.show(this.range[0] + share * span, this.range[1] + share * span);
  }

  showStage() {
    const stage = this.schedule.stages[this.selected];
    this.show(stage.begin - stage.seconds * 0.6, stage.begin + stage.seconds * 1.6);
  }

  select(number) {
    this.selected = number;
    const stage = this.schedule.stages[number], [from, to] = this.range;
    if (stage.begin < from || stage.begin + stage.seconds > to) {
      const half = Math.max((to - from) / 2, stage.seconds * 0.8), middle = stage.begin + stage.seconds / 2;
      this.show(middle - half, middle + half);
    } else this.mark();
  }

  listen() {
    const svg = this.svg;
    let down = null, moved = 0;
    const stageAt = (event) => {
      const found = event.target.closest("[data-stage]");
      return found ? Number(found.dataset.stage) : null;
    };
    svg.addEventListener("pointerdown", (event) => {
      down = { x: event.clientX, range: this.range, stage: stageAt(event) };
      moved = 0;
    });
    addEventListener("pointermove", (event) => {
      if (!down || !event.buttons) return;
      moved = Math.max(moved, Math.abs(event.clientX - down.x));
      if (moved < 4) return;
      svg.classList.add("dragging");
      hideTip();
      const span = down.range[1] - down.range[0];
      const shift = (event.clientX - down.x) * (this.width / svg.clientWidth) / this.room * span;
      this.show(down.range[0] - shift, down.range[1] - shift);
    });
    addEventListener("pointerup", () => {
      if (down && moved < 4 && down.stage !== null) this.choose(down.stage);
      down = null;
      svg.classList.remove("dragging");
    });
    svg.addEventListener("dblclick", () => this.showStage());
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = svg.getBoundingClientRect();
      const place = (event.clientX - box.left) * (this.width / box.width) - GUTTER;
      const at = this.range[0] + Math.max(0, place / this.room) * (this.range[1] - this.range[0]);
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, at);
    }, { passive: false });
    svg.addEventListener("pointerover", (event) => {
      if (event.buttons) return;
      const stage = stageAt(event), unit = event.target.closest("[data-unit]");
      this.near = stage;
      this.mark();
      if (unit) showTip(event, unitTip(this.schedule, Number(unit.dataset.unit)));
      else if (stage !== null) showTip(event, stageWords(this.schedule, stage));
      else hideTip();
    });
    svg.addEventListener("pointerleave", () => { this.near = null; this.mark(); hideTip(); });
    svg.addEventListener("keydown", (event) => {
      const last = this.schedule.stages.length - 1;
      const to = { ArrowRight: this.selected + 1, ArrowLeft: this.selected - 1, ArrowDown: this.selected + 1,
        ArrowUp: this.selected - 1, Home: 0, End: last }[event.key];
      if (to !== undefined) this.choose(Math.max(0, Math.min(last, to)));
      else if (event.key === "+" || event.key === "=") this.zoom(1 / 1.6);
      else if (event.key === "-") this.zoom(1.6);
      else if (event.key === "0") this.show(0, this.total);
      else if (event.key === "Enter" || event.key === " ") this.showStage();
      else return;
      event.preventDefault();
    });
  }

  draw() {
    this.width = drawingWidth(this.host);
    this.room = this.width - GUTTER - RIGHT;
    this.shift = this.shifted();
    const { svg, schedule } = this;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const defs = put(svg, "defs");
    const clip = put(defs, "clipPath", { id: `${this.name}-clip` });
    put(clip, "rect", { x: GUTTER, y: 0, width: this.room, height: this.height });
    const hatch = put(defs, "pattern", { id: `${this.name}-hatch`, width: 8, height: 8, patternUnits: "userSpaceOnUse" });
    put(hatch, "path", { class: "hatch", d: "M-2 2L2-2M0 8L8 0M6 10L10 6" });
    this.drawAxis(put(svg, "g", { "aria-hidden": "true" }));
    this.ribbons = put(svg, "g", { "aria-hidden": "true", "clip-path": `url(#${this.name}-clip)` });
    this.drawBefore(put(svg, "g", { class: "before", "aria-hidden": "true", "clip-path": `url(#${this.name}-clip)` }));
    const body = put(svg, "g", { role: "presentation", "clip-path": `url(#${this.name}-clip)` });
    schedule.stages.forEach((stage, number) => {
      if (stage.begin <= this.range[1] && stage.begin + stage.seconds >= this.range[0]) this.drawStage(body, stage, number);
    });
    this.drawSaved(put(svg, "g", { class: "saved", "aria-hidden": "true", "clip-path": `url(#${this.name}-clip)` }));
    this.output.textContent = schedule.timed
      ? `${ms(this.range[0])} to ${ms(this.range[1])}` : `stages ${Math.round(this.range[0])} to ${Math.round(this.range[1])}`;
    this.mark();
  }

  drawAxis(group) {
    const foot = this.height - FOOT;
    this.drawTicks(group, this.shift, 14, AXIS - 6, this.top + TRACK);
    this.drawTicks(group, 0, this.height - 7, this.stages - 4, foot + 4);
    if (Math.abs(this.shift) < 1e-3 * this.total) {
      put(group, "line", { class: "grid", x1: this.x(this.after), x2: this.x(this.after), y1: this.top, y2: foot });
    }
    put(group, "text", { x: 10, y: this.top + 15 }, "one at a");
    put(group, "text", { x: 10, y: this.top + 28 }, "time");
    put(group, "text", { x: 10, y: this.stages + 13 }, "stage");
    for (let row = 0; row < this.rows; row++) {
      put(group, "text", { class: "soft", x: 10, y: this.stages + STAGE_HEAD + row * STREAM + 18 }, `stream ${row + 1}`);
    }
  }

  drawTicks(group, shift, y, from, to) {
    const found = ticks(this.range[0] + shift, this.range[1] + shift, this.room / 110), step = found[1] - found[0] || 1e-3;
    for (const time of found) {
      const x = this.x(time - shift), label = this.schedule.timed ? `${tickLabel(time, step)} ms` : digits(time, 3);
      put(group, "line", { class: "grid", x1: x, x2: x, y1: from, y2: to });
      put(group, "text", { class: "soft", x, y, "text-anchor": "middle" }, label);
    }
  }

  drawBefore(group) {
    this.schedule.units.forEach((unit, number) => {
      const from = this.early(unit.begin), to = this.early(unit.begin + unit.seconds);
      if (from <= this.width && to >= GUTTER) this.drawUnit(group, unit.stage, [number], from, this.top, to, TRACK - 4);
    });
  }

  drawStage(body, stage, number) {
    const from = this.x(stage.begin), to = this.x(stage.begin + stage.seconds);
    const group = put(body, "g", { class: "stage", role: "option", id: `${this.name}-stage-${number}`, "data-stage": number,
      "aria-selected": "false", "aria-label": stageWords(this.schedule, number) });
    put(group, "rect", { class: "back", x: from, y: this.stages, width: Math.max(0.5, to - from),
      height: STAGE_HEAD + this.rows * STREAM });
    if (to - from > 16) put(group, "text", { class: "soft", x: Math.max(from, GUTTER) + 4, y: this.stages + 13 }, number);
    for (const box of stage.boxes) {
      const begin = this.x(stage.begin + box.begin), end = this.x(stage.begin + box.begin + box.seconds);
      this.drawUnit(group, number, box.units, begin, this.stages + STAGE_HEAD + box.row * STREAM, end, STREAM - 4, box.merged);
    }
  }

  drawUnit(parent, stage, units, from, top, to, height, merged = false) {
    const group = tint(put(parent, "g", { class: merged ? "unit merged" : "unit", "data-stage": stage, "data-unit": units[0] }), stage);
    put(group, "rect", { x: from + 0.4, y: top, width: Math.max(0.4, to - from - 0.8), height, rx: Math.min(4, (to - from) / 4) });
    const left = Math.max(from, GUTTER), room = Math.min(to, this.width) - left;
    const text = room > 20 ? unitLabel(units.map((unit) => this.schedule.units[unit]), room) : "";
    if (text) put(group, "text", { x: left + 4, y: top + height / 2 + 4 }, text);
  }

  drawSaved(group) {
    const saved = this.before - this.after, from = this.x(this.after), to = Math.min(this.early(this.before), this.width - RIGHT);
    if (saved <= 0 || to - Math.max(from, GUTTER) < 3) return;
    const left = Math.max(from, GUTTER), room = to - left;
    const box = { x: left, y: this.stages, width: room, height: STAGE_HEAD + this.rows * STREAM };
    put(group, "rect", { ...box, fill: `url(#${this.name}-hatch)` });
    const text = this.schedule.timed ? `${ms(saved)} saved` : "";
    if (room > text.length * 8.5) {
      put(group, "text", { x: left + room / 2, y: this.stages + (STAGE_HEAD + this.rows * STREAM) / 2 + 5, "text-anchor": "middle" }, text);
    }
  }

  // What is chosen and what is under the pointer, without drawing everything again.
  mark() {
    const { svg } = this;
    for (const group of svg.querySelectorAll(".stage")) {
      const number = Number(group.dataset.stage);
      group.classList.toggle("chosen", number === this.selected);
      group.classList.toggle("near", number === this.near && number !== this.selected);
      group.setAttribute("aria-selected", String(number === this.selected));
    }
    for (const unit of svg.querySelectorAll(".before .unit")) {
      unit.classList.toggle("chosen", Number(unit.dataset.stage) === this.selected);
    }
    const active = svg.querySelector(".stage.chosen");
    if (active) svg.setAttribute("aria-activedescendant", active.id);
    else svg.removeAttribute("aria-activedescendant");
    this.ribbons.replaceChildren();
    for (const number of new Set([this.selected, this.near ?? this.selected])) this.ribbon(number);
  }

  // From a stage's units, one after the other, to where they run side by side.
  ribbon(number) {
    const stage = this.schedule.stages[number];
    const top = this.top + TRACK - 4, middle = top + RIBBONS / 2;
    for (const box of stage.boxes) {
      const foot = this.stages + STAGE_HEAD + box.row * STREAM;
      for (const unit of box.units) {
        const item = this.schedule.units[unit];
        const [a, b] = [this.early(item.begin), this.early(item.begin + item.seconds)];
        const [c, d] = [this.x(stage.begin + box.begin), this.x(stage.begin + box.begin + box.seconds)];
        const path = `M${a} ${top}C${a} ${middle} ${c} ${middle} ${c} ${foot}L${d} ${foot}C${d} ${middle} ${b} ${middle} ${b} ${top}Z`;
        tint(put(this.ribbons, "path", { class: "ribbon", d: path }), number);
      }
    }
  }
}
