"use strict";
// A panel for each hyper-parameter: the objective against it, each on its own scale.

/** Whole numbers and choices are moved sideways a little, always the same way, so that points do not hide each other. */
function aside(axis, row) {
  const few = axis.kind === "choice" || (axis.kind === "integer" && axis.high - axis.low <= 24);
  return few ? (((row * 0.6180339887) % 1) - 0.5) * 0.5 : 0;
}

function sliceColumns(count) { return Math.max(1, Math.min(count, 4, Math.floor(byId("slices-plot").clientWidth / 250))); }

function drawSlices() {
  const plot = byId("slices-plot"), axes = content.axes, scale = objectiveScale();
  if (!axes.length) return;
  if (!content.segments) { note(plot, "No segment is done yet."); return; }
  const columns = sliceColumns(axes.length), rows = Math.ceil(axes.length / columns);
  const finite = Array.from(content.configs.final, (value) => position(scale, value));
  const yRange = spanned(finite, 0.06), foot = yRange[0];
  const lost = candidates().some(diverged);
  if (lost) yRange[0] -= 0.06 * (yRange[1] - yRange[0]);
  const layout = {
    height: 60 + 235 * rows, margin: { l: 62, r: 12, t: 10, b: 48 }, font: { ...FONT, size: 12 }, showlegend: false, hovermode: "closest",
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", uirevision: `${scale.kind}-${columns}`,
  };
  const traces = [], scales = {};
  axes.forEach((axis, place) => {
    const [x, y] = [`x${place ? place + 1 : ""}`, `y${place ? place + 1 : ""}`];
    traces.push(...slicePoints(axis, scale, x, y, foot));
    const span = coordinateSpan(axis), margin = 0.04 * (span.high - span.low) + (aside(axis, 1) && axis.kind === "integer" ? 0.25 : 0);
    const range = [span.low - margin, span.high + margin];
    const [column, line] = [place % columns, Math.floor(place / columns)];
    const [left, right] = [column / columns + (column ? 0.045 : 0), (column + 1) / columns - 0.012];
    const top = 1 - line / rows, gap = 58 / (60 + 235 * rows);
    const [xName, yName] = [x.replace("x", "xaxis"), y.replace("y", "yaxis")];
    layout[xName] = axisOf(axis, range, title(axis.name), axis.kind === "reverse_log" ? 4 : 5, { anchor: y, domain: [left, right] });
    const first = column === 0;
    layout[yName] = axisOf(scale, yRange, first ? shortLabel(content.objective.label) : "", 6, { anchor: x, domain: [top - 1 / rows + gap, top], showticklabels: first, matches: place ? "y" : undefined });
    scales[xName] = { scale: axis, count: axis.kind === "reverse_log" ? 4 : 5 };
    scales[yName] = { scale, count: 6 };
  });
  draw(plot, traces, layout);
  followZoom(plot, scales);
  followPointer(plot, (point) => ({ row: point.data.rows[point.pointNumber], segment: null }));
  const some = axes.some((axis) => aside(axis, 1)) ? " Whole numbers and choices are spread sideways a little." : "";
  byId("slices-caption").textContent = `A point is a configuration. Crosses at the foot: diverged. Rings: the best, and those that are marked.${some}`;
}

function slicePoints(axis, scale, xaxis, yaxis, foot) {
  const rows = visible().reverse().filter((row) => Number.isFinite(position(axis, axis.values[row])));
  const place = (row) => position(axis, axis.values[row]) + aside(axis, row);
  const points = (own, y, marker) => ({
    type: "scatter", mode: "markers", x: own.map(place), y: own.map(y), rows: own, xaxis, yaxis, marker, hoverinfo: "none",
  });
  const height = (row) => position(scale, content.configs.final[row]);
  const well = rows.filter((row) => !diverged(row) && Number.isFinite(height(row)));
  const found = [
    points(well, height, { size: 6, opacity: 0.85, color: well.map(colourOf) }),
    points(rows.filter(diverged), () => foot, { symbol: "x", size: 6, color: LOST }),
  ];
  for (const { row, colour } of marked()) {
    if (rows.includes(row)) found.push({ ...points([row], (own) => (diverged(own) ? foot : height(own)), { symbol: "circle-open", size: 13, color: colour, line: { width: 2.5 } }), type: "scatter" });
  }
  return found;
}
