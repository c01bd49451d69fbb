"use strict";
// Learning curves of all configurations: a trace for each colour, with gaps between curves.

const FONT = { family: 'system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif', size: 13, color: "#1b1b1b" };
const CONFIG = {
  responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  toImageButtonOptions: { format: "png", scale: 3 },
};
const AXIS = { showline: true, linecolor: "#555", gridcolor: "#e4e7ea", zeroline: false, ticks: "outside", tickcolor: "#555", automargin: true };

/** An axis of positions with the ticks of its scale. */
function axisOf(scale, range, label, count = 6, more = {}) {
  const { at, text } = ticks(scale, range[0], range[1], count);
  return { ...AXIS, title: { text: plain(label), standoff: 8 }, range, tickmode: "array", tickvals: at, ticktext: text, ...more };
}

/** Sets ticks anew when the reader has zoomed; `scales` has a scale and a count for each name of an axis. */
function followZoom(plot, scales) {
  plot.scales = scales;
  if (plot.follows) return;
  plot.follows = true;
  plot.on("plotly_relayout", (event) => {
    const names = Object.keys(plot.scales).filter((name) => Object.keys(event).some((key) => key.startsWith(`${name}.range`) || key === `${name}.autorange`));
    const changes = {};
    for (const name of names) {
      const { at, text } = ticks(plot.scales[name].scale, ...plot._fullLayout[name].range, plot.scales[name].count);
      Object.assign(changes, { [`${name}.tickvals`]: at, [`${name}.ticktext`]: text });
    }
    if (names.length) Plotly.relayout(plot, changes);
  });
}

/** An exponentially weighted average without the bias of its start: of w m + (1 - w) x, divided by 1 - w^t. */
function smoothed(values, start, count, weight) {
  const found = new Float32Array(count);
  let mean = 0, power = 1;
  for (let place = 0; place < count; place += 1) {
    const value = values[start + place];
    if (Number.isNaN(value)) { found[place] = NaN; continue; }
    mean = weight * mean + (1 - weight) * value;
    power *= weight;
    found[place] = mean / (1 - power);
  }
  return found;
}

/** The curve of a row: positions, with a gap at its end. */
function curve(row, metric, scale) {
  const own = smoothed(metric.mean, row * content.segments, content.segments, state.smoothing);
  return Array.from(own, (value) => position(scale, value));
}

/** Positions of segments, and a gap. */
function epochPositions() {
  const scale = epochScale();
  return [...Array.from({ length: content.segments }, (_, place) => position(scale, place + 1)), NaN];
}

function epochScale() { return { kind: state.epochsLog ? "log" : "integer" }; }

/** One trace for many rows. */
function manyCurves(rows, metric, scale, look) {
  const length = content.segments + 1, epochs = epochPositions();
  const x = new Float32Array(rows.length * length), y = new Float32Array(rows.length * length).fill(NaN);
  rows.forEach((row, place) => {
    x.set(epochs, place * length);
    y.set(curve(row, metric, scale), place * length);
  });
  const mode = content.segments === 1 ? "markers" : "lines";
  return { type: "scatter", mode, x, y, rows, hoverinfo: "none", connectgaps: false, showlegend: false, marker: { size: 6, color: look.line.color }, ...look };
}

function curveTraces(metric, scale) {
  const rows = visible().reverse(), alive = rows.filter((row) => !stopped(row) && !diverged(row));
  const opacity = alive.length > 300 ? 0.55 : 0.8;
  const traces = [];
  const add = (own, name, line) => own.length && traces.push(manyCurves(own, metric, scale, { name, line, opacity, showlegend: Boolean(name) }));
  add(rows.filter(stopped), "stopped by the policy", { color: STOPPED, width: 0.8 });
  add(rows.filter(diverged), "diverged", { color: "#777777", width: 1, dash: "dash" });
  for (let own = VIRIDIS.length - 1; own >= -1; own -= 1) {
    add(alive.filter((row) => bucket(row) === own), "", { color: own < 0 ? STOPPED : VIRIDIS[own], width: 1.1 });
  }
  const ends = [[rows.filter(stopped), { size: 4, color: STOPPED }], [rows.filter(diverged), { symbol: "x", size: 7, color: LOST }]];
  return [...traces, ...ends.flatMap(([own, marker]) => lastPoints(own, metric, scale, marker)), ...markedCurves(metric, scale, new Set(rows))];
}

/** Where curves end: a curve of a single segment is seen by it alone. */
function lastPoints(rows, metric, scale, marker) {
  const epochs = epochPositions(), points = [];
  for (const row of rows) {
    const own = curve(row, metric, scale);
    const last = own.findLastIndex((value) => Number.isFinite(value));
    if (last >= 0) points.push([epochs[last], own[last], row]);
  }
  const [x, y, ids] = [0, 1, 2].map((part) => points.map((point) => point[part]));
  return points.length ? [{ type: "scatter", mode: "markers", x, y, rows: ids, single: true, showlegend: false, hoverinfo: "none", marker }] : [];
}

function markedCurves(metric, scale, shown) {
  const epochs = epochPositions();
  return marked().filter(({ row, best }) => !best || shown.has(row)).flatMap(({ row, colour, best }) => {
    const line = {
      type: "scatter", mode: content.segments === 1 ? "markers" : "lines", x: epochs, y: [...curve(row, metric, scale), NaN], rows: [row],
      hoverinfo: "none", name: `${best ? "best: " : ""}configuration ${content.configs.id[row]}`, line: { color: colour, width: 3 },
      marker: { size: 9, color: colour }, showlegend: true,
    };
    return [...band(row, metric, scale, colour), line];
  });
}

/** One standard error around the mean over seeds or folds. */
function band(row, metric, scale, colour) {
  if (!metric.error) return [];
  const start = row * content.segments, epochs = epochPositions(), x = [], low = [], high = [];
  for (let place = 0; place < content.segments; place += 1) {
    const mean = metric.mean[start + place], error = metric.error[start + place];
    const [below, above] = [position(scale, mean - error), position(scale, mean + error)];
    if (Number.isFinite(below) && Number.isFinite(above)) { x.push(epochs[place]); low.push(below); high.push(above); }
  }
  return x.length ? [{
    type: "scatter", mode: "lines", x: [...x, ...x.toReversed()], y: [...high, ...low.toReversed()], fill: "toself",
    fillcolor: `${colour}30`, line: { width: 0 }, hoverinfo: "skip", showlegend: false,
  }] : [];
}

/** What the y axis spans: all of what is seen, but not the few losses that began far worse than the others. */
function curveRange(metric, scale) {
  const length = content.segments;
  const own = visible().flatMap((row) => Array.from(metric.mean.subarray(row * length, (row + 1) * length), (value) => position(scale, value)));
  const range = spanned(own);
  if (scale.kind === "share" || metric.share) return range;
  const good = metric.name === content.objective.metric && content.objective.maximize;
  if (good) return [Math.max(range[0], Math.min(quantile(own, 0.05), quantile(own, 0.5) - 2 * (range[1] - quantile(own, 0.5))) - 1e-9), range[1]];
  return [range[0], Math.min(range[1], quantile(own, 0.98) + 0.05 * (quantile(own, 0.98) - range[0]) + 1e-9)];
}

function drawCurves() {
  const metric = content.metrics[state.metric], plot = byId("curves-plot");
  if (!content.segments) { note(plot, "No segment is done yet."); return; }
  const scale = metricScale(metric.mean, metric.share, state.curvesLog && logSuits(metric.mean, metric.share).possible);
  const epochs = epochScale(), xRange = spanned(epochPositions(), 0.015), yRange = curveRange(metric, scale);
  const layout = {
    height: 460, margin: { l: 60, r: 12, t: 8, b: 44 }, font: FONT, hovermode: "closest", paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, uirevision: `${metric.name}-${scale.kind}-${epochs.kind}`,
    xaxis: axisOf(epochs, xRange, "epoch", 10), yaxis: axisOf(scale, yRange, metric.label, 8),
  };
  draw(plot, curveTraces(metric, scale), layout);
  followZoom(plot, { xaxis: { scale: epochs, count: 10 }, yaxis: { scale, count: 8 } });
  followPointer(plot, (point) => {
    const { rows, single } = point.data, length = content.segments + 1;
    return { row: single ? rows[point.pointNumber] : rows[Math.floor(point.pointNumber / length)], segment: single ? null : point.pointNumber % length };
  });
  const several = content.metrics[0].error ? ` Means over ${content.about.folds > 1 ? "folds" : "seeds"}; bands: one standard error of the mean.` : "";
  byId("curves-caption").textContent = `Black: the best. Grey: stopped by the policy; dashed up to a cross: diverged.${several}`;
}
