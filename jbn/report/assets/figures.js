"use strict";
// Figures that the filter does not change: importance, regions, what happened when, batch norm.

/** Words in the place of a figure. */
function note(plot, words) {
  if (plot.data) Plotly.purge(plot);
  plot.replaceChildren(element("p", { class: "note" }, words));
  plot.noted = true;
  plot.follows = plot.pointed = plot.listens = false; // what listened is gone
}

/** Draws a figure, or draws it anew. */
function draw(plot, traces, layout) {
  if (plot.noted) { plot.replaceChildren(); plot.noted = false; }
  Plotly.react(plot, traces, layout, CONFIG);
}

function drawImportance() {
  const own = content.importance, plot = byId("importance-plot");
  if (own.refused) { note(plot, own.refused); byId("importance-caption").textContent = ""; return; }
  const names = [...own.names].reverse(), [share, low, high] = ["share", "low", "high"].map((key) => [...own[key]].reverse());
  const away = (ends, sign) => share.map((value, place) => (ends[place] === null ? 0 : Math.max(0, sign * (ends[place] - value))));
  const known = low.some((value) => value !== null);
  const trace = {
    type: "bar", orientation: "h", x: share, y: names.map((name, place) => place), marker: { color: "#7aa6c9" }, hoverinfo: "skip", width: 0.62,
    error_x: known ? { type: "data", array: away(high, 1), arrayminus: away(low, -1), color: "#1b1b1b", thickness: 1.6, width: 5 } : undefined,
  };
  const top = Math.max(...share, ...high.map((value) => value ?? 0));
  const layout = {
    height: 70 + 30 * names.length, margin: { l: 10, r: 20, t: 6, b: 44 }, font: FONT, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    xaxis: { ...AXIS, title: { text: "share of what they explain" }, range: [0, top * 1.05], tickformat: ".0%" },
    yaxis: { ...AXIS, showgrid: false, tickvals: names.map((name, place) => place), ticktext: names.map((name) => plain(title(name))), ticks: "" },
  };
  draw(plot, [trace], layout);
  const spread = known ? " Error bars: 95 % of bootstrap resamples." : "";
  const first = content.about.rounds > 1 ? " By the first round, which alone fills the whole space." : "";
  byId("importance-caption").textContent = `PED-ANOVA: how differently the better tenth of the configurations lies along each hyper-parameter.${spread}${first}`;
}

function drawRegions() {
  if (!content.regions.length) return;
  const plot = byId("regions-plot"), rounds = content.regions[0].ends.length;
  const columns = Math.max(1, Math.min(content.regions.length, 3, Math.floor(plot.clientWidth / 330))), lines = Math.ceil(content.regions.length / columns);
  const height = 46 + 46 * rounds;
  const layout = {
    height: lines * (height + 46) + 20, margin: { l: 66, r: 12, t: 8, b: 46 }, font: { ...FONT, size: 12 }, showlegend: false, hovermode: "closest",
    paper_bgcolor: "#fff", plot_bgcolor: "#fff",
  };
  const traces = [];
  content.regions.forEach((own, place) => {
    const axis = content.axes.find((one) => one.name === own.name) || { name: own.name, kind: "linear", low: 0, high: 1, values: new Float64Array(content.count) };
    const [x, y] = [`x${place ? place + 1 : ""}`, `y${place ? place + 1 : ""}`], span = coordinateSpan(axis);
    const margin = 0.04 * (span.high - span.low), [column, line] = [place % columns, Math.floor(place / columns)];
    traces.push(...regionBars(axis, own.ends, x, y), ...regionPoints(axis, x, y));
    layout[x.replace("x", "xaxis")] = axisOf(axis, [span.low - margin, span.high + margin], title(axis.name), 5, { anchor: y, domain: [column / columns + (column ? 0.03 : 0), (column + 1) / columns - 0.015] });
    const top = 1 - line / lines;
    layout[y.replace("y", "yaxis")] = {
      ...AXIS, anchor: x, domain: [top - 1 / lines + 50 / layout.height, top], range: [rounds + 0.5, 0.5], tickvals: content.regions[0].ends.map((_, k) => k + 1),
      ticktext: content.regions[0].ends.map((_, k) => `round ${k + 1}`), showticklabels: column === 0, ticks: "", showgrid: false,
    };
  });
  draw(plot, traces, layout);
  followPointer(plot, (point) => (point.data.rows ? { row: point.data.rows[point.pointNumber], segment: null } : null));
}

function regionBars(axis, ends, xaxis, yaxis) {
  const half = axis.kind === "choice" || axis.kind === "integer" ? 0.3 : 0;
  return ends.flatMap((own, round) => (own === null ? [] : [{
    type: "scatter", mode: "lines", xaxis, yaxis, x: [position(axis, own[0]) - half, position(axis, own[1]) + half], y: [round + 1, round + 1],
    line: { width: 20, color: "#a9c6de" }, hoverinfo: "skip",
  }]));
}

function regionPoints(axis, xaxis, yaxis) {
  const rows = content.order.filter((row) => Number.isFinite(position(axis, axis.values[row]))).reverse();
  const tenth = content.order.length / 10;
  const colour = rows.map((row) => (diverged(row) ? LOST : content.rank[row] < tenth ? VIRIDIS[0] : "#76838f"));
  return [{
    type: "scatter", mode: "markers", xaxis, yaxis, rows, x: rows.map((row) => position(axis, axis.values[row]) + 0.4 * aside(axis, row)),
    y: rows.map((row) => content.configs.round[row] + (((row * 0.7548776662) % 1) - 0.5) * 0.3), marker: { size: 5, color: colour, opacity: 0.8 }, hoverinfo: "none",
  }];
}

/** Segments along the x axis: their number, all rounds after each other; or the minutes since the first began. */
function timelinePlaces(own) {
  if (state.clock === "segment" || !own.time.every((time) => time !== null)) return own.segment.map((_, place) => place + 1);
  const start = content.about.started ? Date.parse(content.about.started) / 1000 : own.time[0];
  return own.time.map((time) => (time - start) / 60);
}

function drawTimeline() {
  const own = content.timeline, plot = byId("timeline-plot"), timed = own.time.length > 0 && own.time.every((time) => time !== null);
  byId("clock").disabled = !timed;
  if (!own.segment.length) { note(plot, "No segment is done yet."); return; }
  const x = timelinePlaces(own), hover = own.segment.map((_, place) => timelineWords(own, place));
  const after = (name) => own[name].map((count, place) => (count ? [x[place], count] : null)).filter(Boolean);
  const alive = {
    type: "scatter", mode: own.segment.length === 1 ? "markers" : "lines", line: { shape: state.clock === "segment" ? "hvh" : "vh", color: "#0b5394", width: 2 }, fill: "tozeroy", fillcolor: "#0b539422",
    x, y: own.alive, text: hover, hovertemplate: "%{text}<extra></extra>", name: "members in training", marker: { size: 9, color: "#0b5394" },
  };
  const looks = { stopped: STOPPED, diverged: LOST, copied: "#009e73", set: "#cc79a7" };
  const bars = Object.entries(looks).filter(([name]) => own[name].some(Boolean)).map(([name, color]) => {
    const points = after(name);
    return { type: "scatter", mode: "markers", xaxis: "x", yaxis: "y2", x: points.map((point) => point[0]), y: points.map(() => name), name,
      marker: { symbol: name === "diverged" ? "x" : "circle", size: points.map((point) => 7 + 5 * Math.log10(point[1])), color }, text: points.map((point) => `${point[1]} ${name}`), hovertemplate: "%{text}<extra></extra>" };
  });
  const share = bars.length ? Math.min(0.4, 0.09 * bars.length + 0.04) : 0;
  const layout = {
    height: 300 + 26 * bars.length, margin: { l: 70, r: 14, t: 26, b: 44 }, font: FONT, showlegend: false, hovermode: "closest", paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    xaxis: { ...AXIS, title: { text: state.clock === "segment" ? "segment (epoch)" : "minutes since the start" }, anchor: bars.length ? "y2" : "y", range: [Math.min(0, x[0]), x.at(-1) + 0.02 * x.at(-1) + 1e-6] },
    yaxis: { ...AXIS, title: { text: "members in training" }, domain: [share + (share ? 0.05 : 0), 1], rangemode: "tozero" },
    yaxis2: { ...AXIS, domain: [0, share], type: "category", ticks: "" }, ...rungs(own, x),
  };
  draw(plot, [alive, ...bars], layout);
  byId("timeline-caption").textContent = `${spentWords(own, timed)}A member is a configuration with one of its seeds.`;
}

/** Lines where a policy stopped members, and where rounds begin. */
function rungs(own, x) {
  const shapes = [], annotations = [];
  const line = (place, words, dash) => {
    shapes.push({ type: "line", x0: place, x1: place, yref: "paper", y0: 0, y1: 1, line: { color: "#555", width: 1, dash } });
    annotations.push({ x: place, yref: "paper", y: 1, yanchor: "bottom", xanchor: "left", text: words, showarrow: false, font: { size: 11 } });
  };
  own.stopped.forEach((count, place) => count && own.stopped.filter(Boolean).length <= 24 && line(x[place], `−${count}`, "dot"));
  own.round.forEach((round, place) => place && round !== own.round[place - 1] && line((x[place] + x[place - 1]) / 2, `round ${round}`, "solid"));
  return { shapes, annotations };
}

function timelineWords(own, place) {
  const parts = ["stopped", "diverged", "copied", "set"].filter((name) => own[name][place]).map((name) => `${own[name][place]} ${name}`);
  const round = content.about.rounds > 1 ? `round ${own.round[place]}, ` : "";
  return [`${round}segment ${own.segment[place]}: ${own.alive[place]} in training`, ...parts].join("<br>");
}

function spentWords(own, timed) {
  if (!timed || !content.about.started) return "";
  const start = Date.parse(content.about.started) / 1000, [first, last] = [own.time[0] - start, own.time.at(-1) - start];
  return `The first segment was done after ${duration(first)}, the last after ${duration(last)}. `;
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  return whole < 7200 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const STATISTICS = { mean: "running mean", var: "running variance" };

function drawStatistics() {
  const series = content.winner ? content.winner.statistics : [], plot = byId("statistics-plot");
  const caption = byId("statistics-caption");
  if (!series.length) {
    note(plot, content.best === null ? "There is no winner yet." : "The run has recorded no running statistics: there is no batch norm, or it was made by an older version.");
    caption.textContent = "";
    return;
  }
  const layers = [...new Set(series.map((own) => own.layer))], kinds = [...new Set(series.map((own) => own.statistic))];
  const height = 135, layout = {
    height: layers.length * height + 70, margin: { l: 64, r: 12, t: 26, b: 44 }, font: { ...FONT, size: 12 }, showlegend: false, hovermode: "x",
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", annotations: kinds.map((kind, k) => ({ text: plain(STATISTICS[kind] || kind), xref: "paper", yref: "paper", x: (k + 0.5) / kinds.length, y: 1, yanchor: "bottom", showarrow: false })),
  };
  const traces = [];
  series.forEach((own, place) => {
    const [line, k] = [layers.indexOf(own.layer), kinds.indexOf(own.statistic)], [x, y] = [`x${place ? place + 1 : ""}`, `y${place ? place + 1 : ""}`];
    const scale = { kind: own.statistic === "var" && own.low.every((value) => value > 0) ? "log" : "linear" };
    const at = (key) => own[key].map((value) => (value === null ? NaN : position(scale, value)));
    traces.push(...statisticTraces(own, at, x, y, scale));
    const top = 1 - line / layers.length, bottom = top - 1 / layers.length + 22 / layout.height;
    layout[x.replace("x", "xaxis")] = { ...AXIS, anchor: y, domain: [k / kinds.length + (k ? 0.06 : 0), (k + 1) / kinds.length - 0.01], showticklabels: line === layers.length - 1, title: line === layers.length - 1 ? { text: "segment (epoch)" } : undefined, rangemode: "tozero" };
    layout[y.replace("y", "yaxis")] = axisOf(scale, spanned([...at("low"), ...at("high")], 0.08), k ? "" : title(own.layer), 4, { anchor: x, domain: [bottom, top] });
  });
  draw(plot, traces, layout);
  const copied = content.winner.changes.some((own) => own.copied) ? " Before a copy, those of the configuration that was copied." : "";
  caption.textContent = `Of configuration ${content.winner.config_id}: the mean over the channels of a layer, in a band from the lowest to the highest channel. Variances are on a log axis.${copied}`;
}

function statisticTraces(own, at, xaxis, yaxis, scale) {
  const text = own.segment.map((segment, place) => `segment ${segment}: ${digits(own.mean[place])} (${digits(own.low[place])} to ${digits(own.high[place])})`);
  return [
    { type: "scatter", mode: "lines", xaxis, yaxis, x: [...own.segment, ...own.segment.toReversed()], y: [...at("high"), ...at("low").toReversed()], fill: "toself", fillcolor: "#0b539426", line: { width: 0 }, hoverinfo: "skip" },
    { type: "scatter", mode: own.segment.length === 1 ? "markers" : "lines+markers", marker: { size: 4 }, xaxis, yaxis, x: own.segment, y: at("mean"), line: { color: "#0b5394", width: 2 }, text, hovertemplate: "%{text}<extra></extra>" },
  ];
}
