"use strict";
// What the reader has chosen, and which configurations that leaves.

const VIRIDIS = ["#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151", "#bddf26"];
const BEST = "#000000", LOST = "#d55e00", STOPPED = "#8c8c8c";
const PINNED = ["#cc3399", "#0072b2", "#e69f00", "#009e73"]; // in turn

let content; // as of now
const state = {
  top: Infinity, hidden: new Set(), colour: "", brush: {}, pinned: [], metric: 0, smoothing: 0,
  curvesLog: null, epochsLog: false, objectiveLog: null, clock: "segment", order: "space",
};

let view; // what follows from content and state; made anew before everything is drawn

/** Finds what follows from content and state. */
function look() {
  settleLogs();
  view = { axes: coordinateAxes() };
  view.spans = new Map(view.axes.map((axis) => [axis.name, coordinateSpan(axis)]));
  view.candidates = content.order.filter((row, place) => place < state.top && !state.hidden.has(content.configs.status[row]));
  view.visible = view.candidates.filter(brushed);
  view.shades = shades();
}

/** Rows that the filter leaves, the best first. */
function candidates() { return view.candidates; }

/** Rows that the filter and the brush leave, the best first. */
function visible() { return view.visible; }

function brushed(row) {
  return view.axes.every((axis) => {
    const ranges = state.brush[axis.name];
    if (!ranges) return true;
    const place = coordinate(axis, row);
    return ranges.some(([low, high]) => place >= low && place <= high);
  });
}

/** Whether a row is drawn in grey: a policy stopped it. */
function stopped(row) { return content.configs.status[row] === "stopped"; }
function diverged(row) { return content.configs.status[row] === "diverged"; }

/** Numbers from 0 to 1 for the colours of all rows: the rank, or the place on an axis; NaN where there is none. */
function shades() {
  const axis = content.axes.find((own) => own.name === state.colour), { final } = content.configs;
  if (axis) {
    const [low, high] = [position(axis, axis.low), position(axis, axis.high)];
    return Array.from(axis.values, (value) => (high > low ? (position(axis, value) - low) / (high - low) : 0.5));
  }
  const ranked = final.filter((value) => Number.isFinite(value)).length;
  return Array.from(final, (value, row) => (Number.isFinite(value) ? content.rank[row] / Math.max(1, ranked - 1) : NaN));
}

function shade(row) { return view.shades[row]; }

/** The number of a colour in VIRIDIS; none for what has no shade. */
function bucket(row) {
  const own = shade(row);
  return Number.isNaN(own) ? -1 : Math.min(VIRIDIS.length - 1, Math.max(0, Math.floor(own * VIRIDIS.length)));
}

function colourOf(row) {
  const own = bucket(row);
  return own < 0 ? STOPPED : VIRIDIS[own];
}

/** Rows to draw thick, with their colours: the best, and those that were marked. */
function marked() {
  const found = state.pinned.map((row, place) => ({ row, colour: PINNED[place % PINNED.length], best: false }));
  return content.best === null ? found : [{ row: content.best, colour: BEST, best: true }, ...found];
}

function pin(row) {
  state.pinned = state.pinned.includes(row) ? state.pinned.filter((own) => own !== row) : [...state.pinned, row];
  changed("marks");
}

/** Log axes are there from the beginning where they are a help. */
function settleLogs() {
  const metric = content.metrics[state.metric];
  if (state.curvesLog === null) state.curvesLog = logSuits(metric.mean, metric.share).helpful;
  if (state.objectiveLog === null) state.objectiveLog = logSuits(content.configs.final, content.metrics[0].share).helpful;
}

/** The scale of what configurations are ranked by. */
function objectiveScale() {
  const share = content.metrics[0].share;
  return metricScale(content.configs.final, share, state.objectiveLog && logSuits(content.configs.final, share).possible);
}
