// One stage in words: its streams, its samples, and what could have run instead.
function drawDetail(host, schedule, number) {
  const stage = schedule.stages[number];
  host.replaceChildren();
  const took = stage.predicted === null ? "not measured" : ms(stage.predicted);
  put(host, "h4", {}, `Stage ${number} of part ${stage.part}: ${took}, ${stage.rows === 1 ? "one stream" : `${stage.rows} streams side by side`}`);
  put(host, "p", {}, verdict(stage));
  const list = put(host, "ol");
  for (let row = 0; row < stage.rows; row++) {
    const item = put(list, "li");
    put(item, "b", {}, `stream ${row + 1}`);
    stage.boxes.filter((box) => box.row === row).forEach((box, k) => {
      if (k) put(item, "span", { "aria-label": "then" }, "→");
      box.units.forEach((unit, j) => {
        if (j) put(item, "span", {}, "merged with");
        const chip = tint(put(item, "span", { class: "swatch" }), number), found = schedule.units[unit];
        put(chip, "span", {}, `${found.name}: ${found.words} `);
        if (schedule.weighed) put(chip, "small", {}, `alone ${ms(found.seconds)}`);
      });
    });
  }
  if (stage.samples) {
    const simulated = schedule.simulated ? "simulated" : "measured";
    put(host, "p", {}, `${plural(stage.samples.length, "sample")} of the stage, ${simulated} ${stage.measured_at.replace("T", " ").replace("+00:00", " UTC")}:`);
    drawSamples(put(host, "div", { class: "canvas" }), [[`stage ${number}`, stage.samples]], `Samples of stage ${number}`);
  }
  if (stage.alternatives) drawAlternatives(host, schedule, stage, number);
}

function verdict(stage) {
  if (stage.alone === null || stage.predicted === null) return "";
  const saved = stage.alone - stage.predicted;
  if (stage.boxes.length === 1 && !stage.boxes[0].merged) return "A single unit: there is nothing beside it.";
  const times = digits(stage.alone / stage.predicted, 3);
  if (saved <= 0) return `One after the other its units take ${ms(stage.alone)}, which is not longer.`;
  return `One after the other its units take ${ms(stage.alone)}: ${ms(saved)} are saved, ${times}× as fast.`;
}

// Groups of names, each on a line; side by side where they are several.
function putGroups(cell, groups, merged) {
  if (groups.length === 1) { put(cell, "span", {}, groups[0]); return; }
  if (merged) { put(cell, "span", {}, `${groups.join(" + ")}, merged`); return; }
  const list = put(cell, "ul", { class: "groups", "aria-label": "side by side" });
  for (const group of groups) put(list, "li", {}, group);
}

function putChoice(cell, schedule, choice) {
  if (choice.simpler) {
    const alone = choice.groups.every((groups) => groups.length === 1 && groups[0].length === 1);
    put(cell, "span", {}, `simpler: its ${choice.groups.length} ${alone ? "units" : "groups"}, one after the other`);
    return;
  }
  choice.groups.forEach((groups, k) => putGroups(cell,
    groups.map((group) => group.map((unit) => schedule.units[unit].name).join(", then ")), choice.strategies[k] === "merge"));
}

function drawAlternatives(host, schedule, stage, number) {
  const { alternatives } = stage;
  const some = alternatives.others === null ? "What simpler stages would have cost"
    : alternatives.others ? `What the best of ${alternatives.others} other stages would have cost (${alternatives.measured} ${schedule.simulated ? "simulated" : "measured"})`
      : "Nothing else could run here";
  if (!alternatives.choices.length) { put(host, "p", {}, `${some}.`); return; }
  const table = put(put(host, "div", { class: "wide" }), "table", { class: "alternatives" });
  put(table, "caption", {}, some);
  const head = put(put(table, "thead"), "tr");
  for (const [name, kind] of [["instead", ""], ["itself", "n"], ["the part with it", "n"], ["and so", ""]]) put(head, "th", { scope: "col", class: kind }, name);
  const body = put(table, "tbody"), ours = put(body, "tr", { class: "ours" });
  const streams = Array.from({ length: stage.rows }, (_, row) => stage.boxes.filter((box) => box.row === row)
    .map((box) => box.units.map((unit) => schedule.units[unit].name).join(" + ") + (box.merged ? ", merged" : "")).join(", then "));
  putGroups(put(ours, "th", { scope: "row" }, `stage ${number} as it is: `), streams, false);
  put(ours, "td", { class: "n" }, ms(stage.predicted));
  put(ours, "td", { class: "n" }, cost(alternatives.part));
  put(ours, "td", {}, "chosen");
  for (const choice of alternatives.choices) {
    const row = put(body, "tr");
    putChoice(put(row, "th", { scope: "row" }), schedule, choice);
    put(row, "td", { class: "n" }, choice.infeasible ? "cannot run" : cost(choice.own, choice.expected));
    put(row, "td", { class: "n" }, choice.infeasible ? "–" : cost(choice.part));
    put(row, "td", {}, choice.why);
  }
  for (const note of alternatives.notes) put(host, "p", {}, `Note: ${note}.`);
}

function cost(found, expected = null) {
  if (found.measured !== null) return ms(found.measured);
  if (expected !== null) return `about ${ms(expected)}`;
  return found.at_least === null ? "not known" : `≥ ${ms(found.at_least)}`;
}
