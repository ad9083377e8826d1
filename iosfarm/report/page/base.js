// What every view needs: elements, numbers for people, the tooltip. Text is always set as text, never as markup.
const report = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function put(parent, name, attributes = {}, text = null) {
  const vector = name === "svg" || (parent && parent.namespaceURI === SVG);
  const made = vector ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// The colour of a stage: neighbours are a golden angle apart.
function tint(element, stage) {
  element.style.setProperty("--h", (stage * 137.508) % 360);
  return element;
}

function digits(value, count = 4) {
  if (value === 0) return "0";
  const places = Math.max(0, Math.min(12, count - 1 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toFixed(places);
}
const ms = (seconds) => (seconds === null || seconds === undefined ? "–" : `${digits(seconds * 1e3)} ms`);
const percent = (share, places = 1) => `${(share * 100).toFixed(places)}%`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function short(text, width, size = 6.1) {
  const room = Math.floor((width - 8) / size);
  if (room < 3) return "";
  return text.length <= room ? text : `${text.slice(0, room - 1)}…`;
}

// Units in as many words as there is room for: all of it, the main operator of each, that
// without its channels, or its kernel.
function unitLabel(units, width) {
  const brief = (label) => (label.match(/\d+x\d+/) ?? label.match(/[^\s]+/) ?? [label])[0];
  const plain = (label) => label.split(" ").slice(0, 2).join(" ");
  const texts = [units.map((unit) => unit.words), ...[(label) => label, plain, brief].map((of) => units.map((unit) => of(unit.label)))];
  const found = texts.map((words) => words.join(" + ")).find((text) => short(text, width) === text);
  return found ?? (width > 60 ? short(texts[1].join(" + "), width) : "");
}

// About `count` round numbers between two.
function ticks(from, to, count) {
  const raw = (to - from) / Math.max(count, 1);
  if (!(raw > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) found.push(k * step);
  return found;
}

function tickLabel(seconds, step) {
  const places = Math.max(0, Math.min(9, -Math.floor(Math.log10(step * 1e3) + 1e-9)));
  return (seconds * 1e3).toFixed(places);
}

// How wide to draw, in pixels: on paper letters have to stay large enough.
let paper = false;
const drawingWidth = (host) => (paper ? 720 : Math.max(480, host.clientWidth || 1200));

const tip = document.querySelector(".tip");
function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  const below = event.clientY + 18;
  tip.style.top = `${below + box.height > innerHeight ? event.clientY - box.height - 10 : below}px`;
}
const hideTip = () => { tip.hidden = true; };

function tools(host, label, actions) {
  const bar = put(host, "div", { class: "tools", role: "group", "aria-label": label });
  for (const [name, spoken, act] of actions) {
    put(bar, "button", { type: "button", "aria-label": spoken, title: spoken }, name).addEventListener("click", act);
  }
  put(bar, "span", { class: "space" });
  return bar;
}

function unitTip(schedule, unit) {
  const item = schedule.units[unit];
  const alone = schedule.weighed ? `\nalone ${ms(item.seconds)}` : "";
  return `${item.name}: ${item.words}\n${item.shape}${alone}\nstage ${item.stage}`;
}

function stageWords(schedule, number) {
  const stage = schedule.stages[number];
  const took = stage.predicted === null ? "not measured" : ms(stage.predicted);
  const rows = Array.from({ length: stage.rows }, (_, row) =>
    stage.boxes.filter((box) => box.row === row)
      .map((box) => box.units.map((unit) => schedule.units[unit].name).join(" + ") + (box.merged ? " merged" : ""))
      .join(", then "));
  return `stage ${number}, ${took}, ${plural(stage.rows, "stream")}: ${rows.join("; beside it ")}`;
}
