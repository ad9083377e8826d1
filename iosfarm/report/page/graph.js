// The network: a box is a unit, its colour the stage that it runs in.
const NODE = { width: 168, height: 30, across: 184, down: 62 };

class GraphView {
  constructor(host, schedule, name, choose) {
    Object.assign(this, { host, schedule, choose });
    tools(host, "Graph", [
      ["+", "zoom in", () => this.zoom(1 / 1.5)],
      ["−", "zoom out", () => this.zoom(1.5)],
      ["All", "show the whole graph", () => this.fit()],
      ["Stage", "show the chosen stage", () => this.showStage(this.selected)],
    ]);
    this.port = put(host, "div", { class: "viewport pan", role: "group", tabindex: 0,
      "aria-label": "The graph; the arrow keys move it, plus and minus zoom. Below it is a table of all units." });
    this.svg = put(this.port, "svg", { role: "img", "aria-label": `${plural(schedule.units.length, "unit")} of ${schedule.model}, coloured by stage` });
    this.selected = 0;
    this.listen();
  }

  // A deep network stands in several columns, like a text, so that it is about as wide and high as the view.
  arrange() {
    const { units } = this.schedule, layers = [];
    for (const unit of units) (layers[unit.layer] ??= []).push(unit);
    const wide = (Math.max(...layers.map((layer) => layer.length)) + 0.5) * NODE.across, high = layers.length * NODE.down;
    const ratio = (this.port.clientWidth || 1200) / (this.port.clientHeight || 520);
    const count = Math.max(1, Math.min(8, Math.round(Math.sqrt(ratio * high / wide))));
    const cuts = [0];
    for (let k = 1; k < count; k++) {
      // Where the network is narrow: few tensors go from one column to the next.
      const ideal = Math.round(k * layers.length / count), near = Math.ceil(layers.length / count / 5);
      let best = ideal;
      for (let cut = Math.max(cuts[k - 1] + 1, ideal - near); cut <= Math.min(layers.length - 1, ideal + near); cut++) {
        if (layers[cut].length < layers[best].length) best = cut;
      }
      cuts.push(best);
    }
    const column = (layer) => cuts.findLastIndex((cut) => layer >= cut);
    this.places = units.map((unit) => {
      const k = column(unit.layer);
      return [k * wide + unit.column * NODE.across, (unit.layer - cuts[k]) * NODE.down];
    });
    const deepest = Math.max(...this.places.map(([, y]) => y));
    this.bounds = [-wide / 2, -20, wide * cuts.length, deepest + NODE.height + 40];
  }

  draw() {
    this.svg.replaceChildren();
    this.arrange();
    const { units } = this.schedule;
    const edges = put(this.svg, "g");
    let path = "";
    for (const [number, unit] of units.entries()) {
      const [x2, y2] = this.places[number];
      for (const source of unit.reads) {
        const [x1, y0] = this.places[source], y1 = y0 + NODE.height, bend = y2 > y1 ? Math.min(60, (y2 - y1) / 2) : 80;
        path += `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
      }
    }
    put(edges, "path", { class: "edge", d: path });
    units.forEach((unit, number) => {
      const [x, y] = this.places[number];
      const group = tint(put(this.svg, "g", { class: "node", "data-unit": number, "data-stage": unit.stage }), unit.stage);
      put(group, "rect", { x: x - NODE.width / 2, y, width: NODE.width, height: NODE.height, rx: 5 });
      put(group, "text", { x, y: y + 19, "text-anchor": "middle" }, short(`${unit.stage} · ${unitLabel([unit], NODE.width - 34)}`, NODE.width));
    });
    this.fit();
    this.mark();
  }

  look() { this.svg.setAttribute("viewBox", this.view.join(" ")); }
  fit() { this.view = [...this.bounds]; this.look(); }

  zoom(factor, at = null) {
    const [x, y, width, height] = this.view;
    const wide = Math.max(200, Math.min(this.bounds[2] * 40, width * factor)), tall = height * wide / width;
    const [fx, fy] = at ?? [x + width / 2, y + height / 2];
    this.view = [fx - (fx - x) * wide / width, fy - (fy - y) * tall / height, wide, tall];
    this.look();
  }

  move(dx, dy) { this.view = [this.view[0] + dx, this.view[1] + dy, this.view[2], this.view[3]]; this.look(); }

  select(number) { this.selected = number; this.mark(); }

  showStage(number) {
    const members = this.places.filter((_, unit) => this.schedule.units[unit].stage === number);
    const across = members.map(([x]) => x), down = members.map(([, y]) => y);
    const wide = this.port.clientWidth || 1200, tall = this.port.clientHeight || 520;
    const spread = [Math.max(...across) - Math.min(...across) + 2 * NODE.across, Math.max(...down) - Math.min(...down) + 3 * NODE.down];
    const scale = Math.max(1, spread[0] / wide, spread[1] / tall);
    const [x, y] = [(Math.max(...across) + Math.min(...across)) / 2, (Math.max(...down) + Math.min(...down) + NODE.height) / 2];
    this.view = [x - scale * wide / 2, y - scale * tall / 2, scale * wide, scale * tall];
    this.look();
  }

  mark() {
    for (const node of this.svg.querySelectorAll(".node")) {
      node.classList.toggle("chosen", Number(node.dataset.stage) === this.selected);
    }
  }

  listen() {
    const { port } = this;
    let down = null, moved = 0;
    // Units of the picture in a pixel of the screen; the picture keeps its proportions inside of the viewport.
    const pixel = () => Math.max(this.view[2] / port.clientWidth, this.view[3] / port.clientHeight);
    port.addEventListener("pointerdown", (event) => {
      const node = event.target.closest("[data-stage]");
      down = { x: event.clientX, y: event.clientY, view: this.view, stage: node ? Number(node.dataset.stage) : null };
      moved = 0;
    });
    addEventListener("pointermove", (event) => {
      if (!down || !event.buttons) return;
      const [dx, dy] = [event.clientX - down.x, event.clientY - down.y];
      moved = Math.max(moved, Math.abs(dx), Math.abs(dy));
      if (moved < 4) return;
      port.classList.add("dragging");
      hideTip();
      this.view = [down.view[0] - dx * pixel(), down.view[1] - dy * pixel(), down.view[2], down.view[3]];
      this.look();
    });
    addEventListener("pointerup", () => {
      if (down && moved < 4 && down.stage !== null) this.choose(down.stage);
      down = null;
      port.classList.remove("dragging");
    });
    port.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = port.getBoundingClientRect(), scale = pixel(), [x, y, width, height] = this.view;
      const at = [x + width / 2 + (event.clientX - box.left - box.width / 2) * scale,
        y + height / 2 + (event.clientY - box.top - box.height / 2) * scale];
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, at);
    }, { passive: false });
    port.addEventListener("pointerover", (event) => {
      const node = event.target.closest("[data-unit]");
      if (node && !event.buttons) showTip(event, unitTip(this.schedule, Number(node.dataset.unit)));
      else hideTip();
    });
    port.addEventListener("pointerleave", hideTip);
    port.addEventListener("keydown", (event) => {
      const step = this.view[3] * 0.15;
      const by = { ArrowUp: [0, -step], ArrowDown: [0, step], ArrowLeft: [-step, 0], ArrowRight: [step, 0] }[event.key];
      if (by) this.move(...by);
      else if (event.key === "+" || event.key === "=") this.zoom(1 / 1.5);
      else if (event.key === "-") this.zoom(1.5);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
    });
  }
}
