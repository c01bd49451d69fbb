"use strict";
// Controls, drawing in turn, and, where the report is served, looking for news.

// What changes of the reader's each part depends on: the filter, the brush, marks, and how curves are drawn.
const PARTS = {
  ranking: { draw: drawTable, place: "ranking", on: ["marks"] },
  curves: { draw: drawCurves, place: "curves-plot", on: ["filter", "brush", "marks", "curves"] },
  coordinates: { draw: drawCoordinates, place: "coordinates-plot", on: ["filter", "brush", "marks", "order"] },
  ranges: { draw: drawRanges, place: "ranges", on: ["filter", "brush"] },
  slices: { draw: drawSlices, place: "slices-plot", on: ["filter", "brush", "marks"] },
  importance: { draw: drawImportance, place: "importance-plot", on: [] },
  regions: { draw: drawRegions, place: "regions", on: [] },
  timeline: { draw: drawTimeline, place: "timeline-plot", on: ["clock"] },
  changes: { draw: drawChanges, place: "changes", on: [] },
  statistics: { draw: drawStatistics, place: "statistics-plot", on: [] },
  cost: { draw: drawCost, place: "cost", on: [] },
  command: { draw: drawCommand, place: "command", on: [] },
};
const PAUSE = 120; // milliseconds without a change after which what is out of sight is drawn too

const stale = new Set();
let frame = null, later = null;

/** Says what has changed; what depends on it is drawn anew, first what is in sight. But for one part, which has drawn itself. */
function changed(what, { but = null } = {}) {
  for (const [name, part] of Object.entries(PARTS)) if (name !== but && (what === "all" || part.on.includes(what))) stale.add(name);
  document.body.dataset.settled = "no";
  if (frame === null) frame = requestAnimationFrame(drawInSight);
}

function drawInSight() {
  frame = null;
  look();
  drawControls();
  for (const name of Object.keys(PARTS)) if (stale.has(name) && inSight(byId(PARTS[name].place))) drawPart(name);
  clearTimeout(later);
  later = setTimeout(drawNext, PAUSE);
}

/** Draws one part that is out of sight, then the next: in between the page answers. */
function drawNext() {
  const [name] = stale;
  if (name === undefined) { describe(); document.body.dataset.settled = "yes"; return; }
  drawPart(name);
  later = setTimeout(drawNext, 0);
}

/** All that waits, at once: before printing. */
function drawRest() {
  for (const name of [...stale]) drawPart(name);
}

function drawPart(name) {
  stale.delete(name);
  PARTS[name].draw();
}

function inSight(place) {
  const { top, bottom } = place.getBoundingClientRect();
  return bottom > -100 && top < innerHeight + 100;
}

/** The controls as the state is. */
function drawControls() {
  const count = content.count, top = Math.min(state.top, count);
  for (const id of ["top", "top-range"]) { byId(id).max = count; if (document.activeElement !== byId(id)) byId(id).value = top; }
  byId("all").textContent = count;
  drawStatuses();
  drawOptions(byId("colour"), [["", "objective"], ...content.axes.map((axis) => [axis.name, title(axis.name)])], state.colour);
  drawOptions(byId("metric"), content.metrics.map((own, place) => [String(place), own.label]), String(state.metric));
  const metric = content.metrics[state.metric];
  drawLog("curves-log", metric.mean, metric.share, "curvesLog");
  drawLog("objective-log", content.configs.final, content.metrics[0].share, "objectiveLog");
  byId("shown").textContent = `${visible().length} shown`;
  drawKey();
}

function drawLog(id, values, share, key) {
  const { possible } = logSuits(values, share), box = byId(id);
  box.checked = state[key] && possible;
  box.disabled = !possible;
  const what = id === "curves-log" ? "log axis" : "log axis for the objective";
  byId(`${id}-label`).textContent = share ? `${what} (of the error)` : what;
}

function drawOptions(select, options, value) {
  const now = JSON.stringify(options);
  if (select.dataset.options !== now) {
    select.replaceChildren(...options.map(([own, text]) => element("option", { value: own }, text)));
    select.dataset.options = now;
  }
  select.value = value;
}

function drawStatuses() {
  const box = byId("statuses"), words = Object.keys(content.about.counts);
  if (box.dataset.words === words.join()) return;
  box.dataset.words = words.join();
  const labels = words.map((word) => {
    const input = element("input", { type: "checkbox", checked: !state.hidden.has(word), "data-status": word });
    input.addEventListener("change", () => { if (input.checked) state.hidden.delete(word); else state.hidden.add(word); changed("filter"); });
    return element("label", {}, input, ` ${WORDS[word] || word}`);
  });
  box.replaceChildren(element("legend", {}, "status"), ...labels);
  box.hidden = words.length < 2;
}

function drawKey() {
  const axis = content.axes.find((own) => own.name === state.colour);
  const [low, high] = axis ? [valueText(axis, axis.low), valueText(axis, axis.high)] : ["best", "worst"];
  byId("key").replaceChildren(low, element("i", { style: `background:linear-gradient(90deg,${VIRIDIS.join()})` }), high);
}

/** What figures show, in words, for those who do not see them. */
function describe() {
  const shown = visible().length, best = bestWords();
  const about = { "curves-plot": `${content.metrics[state.metric].label} of ${shown} configurations by epoch. ${best}.`,
    "coordinates-plot": `Hyper-parameters and objective of ${candidates().length} configurations, ${shown} of them inside the ranges.`,
    "slices-plot": `The objective of ${shown} configurations against each of ${content.axes.length} hyper-parameters.`,
    "importance-plot": (content.importance.names || []).map((name, place) => `${title(name)} ${digits(100 * content.importance.share[place], 3)} %`).join(", ") || "importance",
    "regions-plot": "How the region that was searched moved from round to round.", "timeline-plot": "Members in training after every segment.",
    "statistics-plot": "Running mean and variance of every batch norm layer of the winner, by segment." };
  for (const [id, words] of Object.entries(about)) byId(id).setAttribute("aria-label", words);
}

function listen() {
  const set = (id, event, what, change) => byId(id).addEventListener(event, () => { change(byId(id)); changed(what); });
  const top = (own) => { const value = Number(own.value); state.top = value >= 1 ? value : Infinity; };
  set("top", "input", "filter", (own) => { top(own); byId("top-range").value = own.value; });
  set("top-range", "input", "filter", (own) => { top(own); byId("top").value = own.value; });
  set("colour", "change", "filter", (own) => { state.colour = own.value; });
  set("metric", "change", "curves", (own) => { state.metric = Number(own.value); state.curvesLog = null; });
  set("smoothing", "input", "curves", (own) => { state.smoothing = Number(own.value); byId("smoothing-value").textContent = own.value; });
  set("curves-log", "change", "curves", (own) => { state.curvesLog = own.checked; });
  set("epochs-log", "change", "curves", (own) => { state.epochsLog = own.checked; });
  set("objective-log", "change", "filter", (own) => { state.objectiveLog = own.checked; delete state.brush[OBJECTIVE]; });
  set("reset", "click", "all", () => { Object.assign(state, { top: Infinity, brush: {}, pinned: [] }); state.hidden.clear(); byId("statuses").dataset.words = ""; byId("top").value = byId("top-range").value = content.count; });
  set("order", "change", "order", (own) => { state.order = own.value; });
  set("clock", "change", "clock", (own) => { state.clock = own.value; });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; changed("all"); } });
  addEventListener("scroll", () => { if (stale.size && frame === null) frame = requestAnimationFrame(drawInSight); }, { passive: true });
  addEventListener("beforeprint", drawRest);
}

function drawContents() {
  const links = [...document.querySelectorAll("main > section")].filter((section) => !section.hidden)
    .map((section) => element("li", {}, element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)));
  byId("contents").replaceChildren(...links);
}

function show(raw) {
  content = unpackedContent(raw);
  state.metric = Math.min(state.metric, content.metrics.length - 1);
  if (!content.axes.some((axis) => axis.name === state.colour)) state.colour = "";
  byId("regions").hidden = !content.regions.length;
  byId("slices").hidden = !content.axes.length;
  drawHead();
  drawContents();
  changed("all");
}

/** Asks for news until the run has ended; the server answers 304 where there are none. */
async function follow(seconds, tag) {
  let newest = tag, wait = seconds;
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, 1000 * wait); });
    try {
      const began = performance.now(), answer = await fetch("content.json", { headers: { "If-None-Match": newest }, cache: "no-store" });
      if (answer.status === 200) {
        newest = answer.headers.get("ETag");
        show(await answer.json());
        wait = Math.max(seconds, (4 * (performance.now() - began)) / 1000);
      } else if (answer.status === 304) drawHead();
      else drawHead(await answer.text());
    } catch (error) {
      drawHead("The server of this report has ended; what is shown is the last that it said.");
    }
  }
}

const said = JSON.parse(byId("content").textContent);
listen();
show(said);
if (said.follow) follow(said.follow.seconds, said.follow.tag);
