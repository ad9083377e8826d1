// Draws what is visible, and the rest when it becomes so.
const views = report.schedules.map((schedule, index) => {
  const panel = document.getElementById(`schedule-${index}`);
  const host = (name) => panel.querySelector(`[data-view="${name}"]`);
  let timeline = null, graph = null, chosen = 0;
  const choose = (number) => {
    chosen = number;
    timeline.select(number);
    graph.select(number);
    drawDetail(host("detail"), schedule, number);
  };
  // What is won the most is what one wants to see first.
  const saved = schedule.stages.map((stage) => (stage.alone ?? 0) - (stage.predicted ?? 0));
  const first = Math.max(0, saved.indexOf(Math.max(...saved)));
  const redraw = () => {
    timeline.draw();
    graph.draw();
    drawSamples(host("samples"), schedule.latencies.map((entry) => [entry.name, entry.samples]), "Samples of whole schedules");
    if (host("proof")) drawProof(host("proof"), schedule);
    drawDetail(host("detail"), schedule, chosen);
  };
  const draw = () => {
    if (timeline) { redraw(); return; }
    timeline = new Timeline(host("timeline"), schedule, `s${index}`, choose);
    graph = new GraphView(host("graph"), schedule, `s${index}`, (number) => choose(number));
    redraw();
    choose(first);
  };
  let before = null;
  return {
    panel, draw,
    drawn: () => timeline !== null,
    whole: () => {
      if (!timeline) draw();
      before = [timeline.range, graph.view];
      timeline.range = [0, timeline.total];
      redraw();
    },
    back: () => {
      timeline.range = before[0];
      if (!panel.hidden) redraw();
      graph.view = before[1];
      graph.look();
    },
  };
});
const compare = document.querySelector('[data-view="compare"]');

const tabs = [...document.querySelectorAll('[role="tab"]')];
function open(index) {
  tabs.forEach((tab, number) => {
    tab.setAttribute("aria-selected", String(number === index));
    tab.tabIndex = number === index ? 0 : -1;
    views[number].panel.hidden = number !== index;
  });
  views[index].draw();
}
tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => open(index));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + tabs.length) % tabs.length;
    open(next);
    tabs[next].focus();
  });
});

function drawAll() {
  if (compare) drawCompare(compare);
  for (const view of views) if (view.drawn() && !view.panel.hidden) view.draw();
}
if (compare) drawCompare(compare);
views[0].draw();
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  requestAnimationFrame(drawAll);
});
// On paper there is nothing to click: all schedules, whole.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const item of opened) item.open = true;
  paper = true;
  if (compare) drawCompare(compare);
  for (const view of views) view.whole();
});
addEventListener("afterprint", () => {
  for (const item of opened) item.open = false;
  paper = false;
  if (compare) drawCompare(compare);
  for (const view of views) view.back();
});
performance.mark("interactive");
document.documentElement.dataset.ready = String(Math.round(performance.now()));
