"use strict";
// Parallel coordinates, and the brush: along each axis the ranges that a configuration must lie in.

const OBJECTIVE = "\u0000objective"; // no hyper-parameter has this name
const FRAME = { top: 64, bottom: 16, left: 64, right: 30, height: 430 }; // pixels around the axes
const FAINT = "#d3d8dc";

/** The axes; the objective comes last. */
function coordinateAxes() {
  return [...content.axes, { name: OBJECTIVE, ...objectiveScale(), label: content.objective.label, values: content.configs.final }];
}

/** From where to where an axis goes, with a place for what has no value. */
function coordinateSpan(axis) {
  const own = axis.name === OBJECTIVE ? spanned(Array.from(axis.values, (value) => position(axis, value)), 0.02)
    : axis.kind === "choice" ? [-0.3, axis.high + 0.3] : [position(axis, axis.low), position(axis, axis.high)];
  const [low, high] = own[1] > own[0] ? own : [own[0] - 0.5, own[1] + 0.5];
  const absent = axis.values.some((value) => !Number.isFinite(position(axis, value)));
  const nowhere = low - 0.09 * (high - low);
  return { low, high, nowhere: absent ? nowhere : null, range: [absent ? nowhere : low, high] };
}

/** Where a row crosses an axis, in positions of its scale. */
function coordinate(axis, row) {
  const place = position(axis, axis.values[row]);
  return Number.isFinite(place) ? place : view.spans.get(axis.name).nowhere;
}

/** The same, from 0 at the foot of the axis to 1 at its top. */
function height(axis, place) {
  const { range } = view.spans.get(axis.name);
  return (place - range[0]) / (range[1] - range[0]);
}

function placeAt(axis, share) {
  const { range } = view.spans.get(axis.name);
  return range[0] + share * (range[1] - range[0]);
}

function shortLabel(label) { return label.replace(" (smoothed, or the best of all epochs)", "").replace("validation ", "val. "); }

/** The axes as they are drawn: in the order of the space, or of what mattered. */
function drawnAxes() {
  const names = state.order === "importance" ? content.importance.names || [] : [];
  const place = (axis) => (axis.name === OBJECTIVE ? Infinity : names.includes(axis.name) ? names.indexOf(axis.name) : names.length);
  return [...view.axes].sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)));
}

/** One trace for many rows, with a gap after each. */
function manyLines(rows, axes, look) {
  const x = [], y = [];
  for (const row of rows) {
    axes.forEach((axis, at) => { x.push(at); y.push(height(axis, coordinate(axis, row))); });
    x.push(NaN); y.push(NaN);
  }
  return { type: "scatter", mode: "lines", x, y, hoverinfo: "skip", connectgaps: false, ...look };
}

function lineTraces(axes) {
  const rows = [...candidates()].reverse(), kept = new Set(visible()), traces = [];
  const opacity = kept.size > 300 ? 0.5 : 0.8;
  const add = (own, look) => { if (own.length) traces.push(manyLines(own, axes, look)); };
  add(rows.filter((row) => !kept.has(row)), { line: { color: FAINT, width: 0.7 }, opacity: 0.6 });
  for (let own = VIRIDIS.length - 1; own >= -1; own -= 1) {
    add(rows.filter((row) => kept.has(row) && bucket(row) === own), { line: { color: own < 0 ? STOPPED : VIRIDIS[own], width: 1.1 }, opacity });
  }
  for (const { row, colour, best } of marked()) if (!best || kept.has(row)) add([row], { line: { color: colour, width: 3 } });
  return traces;
}

/** A name in lines of a few letters. */
function folded(name, letters = 11) {
  const lines = [];
  for (const word of name.split(/[ _]/)) {
    if (lines.length && lines.at(-1).length + 1 + word.length <= letters) lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  return lines.map(plain).join("<br>");
}

/** What stands at the axes: ticks and names; as annotations, since a plot may cut off what is outside of it. */
function axisTexts(axes) {
  const look = { xref: "x", yref: "y", showarrow: false };
  return axes.flatMap((axis, at) => {
    const span = view.spans.get(axis.name), { at: places, text } = ticks(axis, span.low, span.high, 6);
    const without = span.nowhere === null ? [] : [[span.nowhere, axis.name === OBJECTIVE ? "diverged" : "none"]];
    const words = [...without, ...places.map((own, k) => [own, text[k]])].map(([place, label]) => (
      { ...look, x: at, y: height(axis, place), text: label, xanchor: "right", xshift: -3, yanchor: "middle", font: { size: 11 } }));
    const name = folded(axis.name === OBJECTIVE ? shortLabel(axis.label) : title(axis.name));
    return [...words, { ...look, x: at, y: 1, yshift: 8, text: name, xanchor: "center", yanchor: "bottom", font: { size: 12.5 } }];
  });
}

function drawCoordinates() {
  const plot = byId("coordinates-plot"), axes = drawnAxes();
  const line = (at) => ({ type: "line", x0: at, x1: at, y0: 0, y1: 1, line: { color: "#444", width: 1 } });
  const hidden = { visible: false, fixedrange: true };
  const layout = {
    height: FRAME.height, margin: { l: FRAME.left, r: FRAME.right, t: FRAME.top, b: FRAME.bottom }, font: FONT, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    showlegend: false, dragmode: false, hovermode: false, shapes: axes.map((_, at) => line(at)), annotations: axisTexts(axes),
    xaxis: { ...hidden, range: [0, Math.max(1, axes.length - 1)] }, yaxis: { ...hidden, range: [0, 1] },
  };
  draw(plot, lineTraces(axes), layout);
  byId("brushes").replaceChildren(...axes.map((axis, at) => brushOf(axis, at, axes.length)));
}

/** The strip along an axis in which a drag sets its range. */
function brushOf(axis, at, count) {
  const width = byId("coordinates-plot").clientWidth - FRAME.left - FRAME.right, name = axis.name === OBJECTIVE ? "objective" : axis.name;
  const left = FRAME.left + (count > 1 ? (at / (count - 1)) * width : 0);
  const strip = element("div", { class: "brush", "data-axis": name, style: `left:${left - 13}px;top:${FRAME.top}px;height:${FRAME.height - FRAME.top - FRAME.bottom}px` });
  const bars = (ranges) => strip.replaceChildren(...ranges.map(([low, high]) => {
    const [bottom, top] = [low, high].map((place) => Math.min(1, Math.max(0, height(axis, place))));
    return element("i", { style: `bottom:${100 * bottom}%;height:max(3px, ${100 * (top - bottom)}%)` });
  }));
  bars(state.brush[axis.name] || []);
  followBrush(strip, axis, bars);
  return strip;
}

function followBrush(strip, axis, bars) {
  let start = null;
  const share = (event) => {
    const box = strip.getBoundingClientRect();
    return Math.min(1, Math.max(0, (box.bottom - event.clientY) / box.height));
  };
  const range = (event) => [start, share(event)].sort((a, b) => a - b).map((own) => placeAt(axis, own));
  const kept = (event) => (event.shiftKey ? state.brush[axis.name] || [] : []);
  strip.addEventListener("pointerdown", (event) => { start = share(event); strip.setPointerCapture(event.pointerId); event.preventDefault(); });
  strip.addEventListener("pointermove", (event) => {
    if (start === null) pointAt(nearest(axis, share(event)), event);
    else bars([...kept(event), range(event)]);
  });
  strip.addEventListener("pointerleave", () => { byId("tip").hidden = true; });
  strip.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const moved = Math.abs(share(event) - start) * strip.clientHeight > 4, found = range(event);
    start = null;
    if (moved) setBrush(axis.name, [...kept(event), found]);
    else if (state.brush[axis.name]) setBrush(axis.name, []);
    else { const row = nearest(axis, share(event)); if (row !== null) pin(row); }
  });
}

function pointAt(row, event) {
  if (row === null) byId("tip").hidden = true;
  else showTip({ row, segment: null }, event);
}

/** The configuration that crosses an axis next to a height; none where all are far. */
function nearest(axis, share) {
  let found = null, least = 6 / (FRAME.height - FRAME.top - FRAME.bottom);
  for (const row of visible()) {
    const away = Math.abs(height(axis, coordinate(axis, row)) - share);
    if (away < least) { least = away; found = row; }
  }
  return found;
}

function setBrush(name, ranges) {
  if (ranges.length) state.brush[name] = ranges;
  else delete state.brush[name];
  changed("brush");
}

/** Inputs that say what the brush says. */
function drawRanges() {
  const box = byId("range-inputs");
  if (box.contains(document.activeElement)) return;
  box.replaceChildren(...view.axes.map((axis) => (axis.kind === "choice" ? choiceInputs(axis) : rangeInputs(axis))));
}

function rangeInputs(axis) {
  const name = axis.name === OBJECTIVE ? content.objective.label : title(axis.name);
  const ranges = state.brush[axis.name], text = (place) => String(Number(valueAt(axis, place).toPrecision(6)));
  const make = (which, place) => element("input", {
    type: "number", step: "any", "aria-label": `${name}, ${which}`, placeholder: which, value: place === undefined || !Number.isFinite(place) ? "" : text(place),
  });
  const low = make("least", ranges && ranges[0][0]), high = make("greatest", ranges && ranges.at(-1)[1]);
  const change = () => {
    const ends = [low, high].map((own) => (own.value === "" ? NaN : position(axis, Number(own.value))));
    const { low: least, high: greatest } = view.spans.get(axis.name), open = [least, greatest];
    setBrush(axis.name, ends.every(Number.isNaN) ? [] : [ends.map((end, place) => (Number.isNaN(end) ? open[place] : end))]);
  };
  for (const own of [low, high]) own.addEventListener("change", change);
  return element("div", {}, element("span", {}, name), element("span", {}, low, " to ", high));
}

function choiceInputs(axis) {
  const ranges = state.brush[axis.name] || [];
  const boxes = axis.options.map((option, place) => {
    const box = element("input", { type: "checkbox", checked: !ranges.length || ranges.some(([low, high]) => place >= low && place <= high) });
    box.addEventListener("change", () => {
      const kept = boxes.flatMap((own, which) => (own.box.checked ? [[which - 0.3, which + 0.3]] : []));
      setBrush(axis.name, kept.length === axis.options.length ? [] : kept);
    });
    return { box, label: element("label", {}, box, ` ${option}`) };
  });
  return element("div", {}, element("span", {}, title(axis.name)), element("span", {}, ...boxes.map((own) => own.label)));
}
