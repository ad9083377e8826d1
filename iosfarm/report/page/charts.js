// Samples as distributions, the certificate over time, schedules side by side.
function quantile(sorted, share) {
  const at = share * (sorted.length - 1), below = Math.floor(at), above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

// One row of dots for each series: [name, samples in seconds].
function drawSamples(host, series, label) {
  const rows = series.filter(([, samples]) => samples.length);
  if (!rows.length) return;
  host.replaceChildren();
  const width = drawingWidth(host), left = 120, right = 44, row = 44, top = 8;
  const height = top + rows.length * row + 26, all = rows.flatMap(([, samples]) => samples);
  const margin = (Math.max(...all) - Math.min(...all) || Math.max(...all) * 0.02) * 0.06;
  const [from, to] = [Math.min(...all) - margin, Math.max(...all) + margin];
  const x = (seconds) => left + (seconds - from) / (to - from) * (width - left - right);
  const words = rows.map(([name, samples]) => `${name}: median ${ms(quantile([...samples].sort((a, b) => a - b), 0.5))} of ${plural(samples.length, "sample")}`);
  const svg = put(host, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label}. ${words.join("; ")}` });
  const found = ticks(from, to, (width - left) / 120), step = found[1] - found[0] || 1e-3;
  for (const time of found) {
    put(svg, "line", { class: "grid", x1: x(time), x2: x(time), y1: top, y2: height - 22 });
    put(svg, "text", { class: "soft", x: x(time), y: height - 8, "text-anchor": "middle" }, `${tickLabel(time, step)} ms`);
  }
  rows.forEach(([name, samples], number) => {
    const sorted = [...samples].sort((a, b) => a - b), middle = top + number * row + row / 2;
    put(svg, "text", { x: 10, y: middle + 4 }, short(name, left - 4));
    put(svg, "rect", { class: "box", x: x(quantile(sorted, 0.25)), y: middle - 12, height: 24,
      width: Math.max(1, x(quantile(sorted, 0.75)) - x(quantile(sorted, 0.25))) });
    // Dots are spread so that they do not hide each other: by their order, not by chance.
    samples.forEach((value, k) => put(svg, "circle", { class: "dot", cx: x(value), cy: middle - 9 + (k * 7.3) % 18, r: 3 }));
    put(svg, "line", { class: "median", x1: x(quantile(sorted, 0.5)), x2: x(quantile(sorted, 0.5)), y1: middle - 15, y2: middle + 15 });
  });
}

function drawProof(host, schedule) {
  const { proof } = schedule, points = proof.history;
  host.replaceChildren();
  const width = drawingWidth(host), height = 260, left = 74, right = 96, top = 22, bottom = 34;
  const last = points[points.length - 1], end = Math.max(last.seconds, 1e-9);
  const values = points.flatMap((point) => [point.lower, point.upper]);
  const pad = (Math.max(...values) - Math.min(...values) || Math.max(...values) * 0.1) * 0.12;
  const [from, to] = [Math.max(0, Math.min(...values) - pad), Math.max(...values) + pad];
  const x = (seconds) => left + seconds / end * (width - left - right);
  const y = (seconds) => top + (to - seconds) / (to - from) * (height - top - bottom);
  const gap = proof.gap === null ? "not known" : percent(proof.gap);
  const svg = put(host, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `The certificate over time: after ${digits(last.seconds, 3)} seconds the gap is ${gap}` });
  const values_ = ticks(from, to, 5), step = values_[1] - values_[0] || 1e-3;
  for (const value of values_) {
    put(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) });
    put(svg, "text", { class: "soft", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, `${tickLabel(value, step)} ms`);
  }
  for (const seconds of ticks(0, end, 8)) {
    put(svg, "text", { class: "soft", x: x(seconds), y: height - 12, "text-anchor": "middle" }, `${digits(seconds, 3)} s`);
  }
  // A bound holds until the next one is found.
  const line = (key) => points.map((point, k) => (k ? `H${x(point.seconds)}V${y(point[key])}` : `M${x(point.seconds)} ${y(point[key])}`)).join("");
  let area = line("upper");
  [...points].reverse().forEach((point, k, all) => {
    const before = all[k + 1];
    area += k ? `V${y(point.lower)}` : `L${x(point.seconds)} ${y(point.lower)}`;
    if (before) area += `V${y(before.lower)}H${x(before.seconds)}`;
  });
  put(svg, "path", { class: "between", d: `${area}Z` });
  put(svg, "path", { class: "upper", d: line("upper") });
  put(svg, "path", { class: "lower", d: line("lower") });
  for (const point of points) {
    for (const key of ["upper", "lower"]) {
      const dot = put(svg, "circle", { class: "point", cx: x(point.seconds), cy: y(point[key]), r: 3.5 });
      const words = `after ${digits(point.seconds, 3)} s, ${plural(point.known, "stage")} known\nbetween ${ms(point.lower)} and ${ms(point.upper)}`;
      dot.addEventListener("pointerover", (event) => showTip(event, words));
      dot.addEventListener("pointerleave", hideTip);
    }
  }
  const middle = (y(last.upper) + y(last.lower)) / 2 + 4;
  put(svg, "text", { x: width - right + 10, y: middle }, `gap ${gap}`);
  put(svg, "text", { class: "soft", x: x(end) - 8, y: y(last.upper) - 9, "text-anchor": "end" }, "the best schedule known");
  put(svg, "text", { class: "soft", x: x(end) - 8, y: y(last.lower) + 18, "text-anchor": "end" }, "no schedule takes less");
}

// Each schedule's stages under the sequential one: all on one time axis, or each as wide as the page.
let oneAxis = null;
function drawCompare(host) {
  host.replaceChildren();
  const shown = report.schedules.filter((schedule) => schedule.timed);
  if (!shown.length) return;
  const last = (items) => items[items.length - 1].begin + items[items.length - 1].seconds;
  const lengths = shown.map((schedule) => Math.max(last(schedule.units), last(schedule.stages)));
  oneAxis ??= Math.max(...lengths) < 20 * Math.min(...lengths);
  const bar = tools(host, "Side by side", [
    ["One time axis", "all on one time axis", () => { oneAxis = true; drawCompare(host); }],
    ["Each its own", "each on a time axis of its own", () => { oneAxis = false; drawCompare(host); }],
  ]);
  bar.querySelectorAll("button").forEach((button, k) => button.setAttribute("aria-pressed", String(oneAxis === (k === 0))));
  const width = drawingWidth(host), left = 210, right = 160, row = 62, top = oneAxis ? 24 : 8;
  const words = shown.map((s) => `${s.model} on ${s.spec}, batch ${s.batch}: ${ms(last(s.units))} becomes ${ms(last(s.stages))}`);
  const svg = put(host, "svg", { viewBox: `0 0 ${width} ${top + shown.length * row}`, role: "img",
    "aria-label": `Schedules side by side. ${words.join("; ")}` });
  const room = width - left - right, longest = Math.max(...lengths);
  if (oneAxis) {
    const found = ticks(0, longest, room / 120), step = found[1] - found[0] || 1e-3;
    for (const time of found) {
      const at = left + time / longest * room;
      put(svg, "line", { class: "grid", x1: at, x2: at, y1: top - 6, y2: top + shown.length * row - 6 });
      put(svg, "text", { class: "soft", x: at, y: 13, "text-anchor": "middle" }, `${tickLabel(time, step)} ms`);
    }
  }
  shown.forEach((schedule, number) => {
    const y = top + number * row, scale = room / (oneAxis ? longest : lengths[number]);
    put(svg, "text", { x: 10, y: y + 18 }, short(schedule.model, left - 10));
    put(svg, "text", { class: "soft", x: 10, y: y + 34 }, short(`${schedule.spec}, batch ${schedule.batch}`, left - 10));
    put(svg, "rect", { class: "grey", x: left, y: y + 4, width: last(schedule.units) * scale, height: 8 });
    put(svg, "text", { class: "soft", x: left + last(schedule.units) * scale + 8, y: y + 12 }, ms(last(schedule.units)));
    for (const [k, stage] of schedule.stages.entries()) {
      const block = tint(put(svg, "rect", { class: "block", x: left + stage.begin * scale, y: y + 15, width: Math.max(0.3, stage.seconds * scale), height: 28 }), k);
      block.addEventListener("pointerover", (event) => showTip(event, stageWords(schedule, k)));
      block.addEventListener("pointerleave", hideTip);
    }
    const factor = schedule.speedup ? `, ${digits(schedule.speedup, 3)}×` : "";
    put(svg, "text", { x: left + last(schedule.stages) * scale + 8, y: y + 33, "font-weight": 700 }, `${ms(last(schedule.stages))}${factor}`);
  });
}
