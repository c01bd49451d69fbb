"use strict";
// What the report says, unpacked. The content is that of jbn/report/content.py.

const TYPES = { f4: Float32Array, f8: Float64Array };

/** Numbers from base64, by the name of their type. */
function unpacked(packed) {
  if (packed === null) return null;
  const [[type, text]] = Object.entries(packed);
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new TYPES[type](bytes.buffer);
}

/** The content with its arrays, the rank of every configuration, and the number of segments. */
function unpackedContent(raw) {
  const found = { ...raw };
  found.metrics = raw.metrics.map((own) => ({ ...own, mean: unpacked(own.mean), error: unpacked(own.error) }));
  found.axes = raw.axes.map((own) => ({ ...own, values: unpacked(own.values) }));
  found.configs = {
    ...raw.configs, final: unpacked(raw.configs.final), loss: unpacked(raw.configs.loss), error: unpacked(raw.configs.error),
  };
  found.count = raw.configs.id.length;
  found.segments = found.count ? found.metrics[0].mean.length / found.count : 0;
  found.order = bestFirst(found);
  found.rank = new Array(found.count);
  found.order.forEach((row, place) => { found.rank[row] = place; });
  return found;
}

/** Rows, the best first; ties by loss, then by number; what has no objective comes last. */
function bestFirst(content) {
  const { final, loss } = content.configs;
  const sign = content.objective.maximize ? -1 : 1;
  const key = (row) => (Number.isFinite(final[row]) ? sign * final[row] : Infinity);
  const own = (row) => (Number.isFinite(loss[row]) ? loss[row] : Infinity);
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const rows = Array.from({ length: content.count }, (_, row) => row);
  return rows.sort((a, b) => compare(key(a), key(b)) || compare(own(a), own(b)) || a - b);
}

/** A number with as many digits as are of use. */
function digits(value, significant = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(significant - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  if (size >= 1000) return String(Math.round(value));
  const text = value.toPrecision(significant);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** A value near 1 with the digits that tell its distance to 1. */
function nearOne(value) {
  if (!(value > 0.9 && value < 1)) return digits(value);
  const decimals = Math.min(12, 2 - Math.floor(Math.log10(1 - value)));
  return value.toFixed(decimals).replace(/0+$/, "");
}

/** The value of an axis as text. */
function valueText(axis, value) {
  if (Number.isNaN(value)) return "–";
  if (axis.kind === "choice") return axis.options[value];
  if (axis.kind === "integer") return String(value);
  return axis.kind === "reverse_log" ? nearOne(value) : digits(value);
}

/** A name as a heading. */
function title(name) { return name.replaceAll("_", " "); }

/** Text for Plotly, which takes some tags for its own. */
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** An element with attributes and children; text is never taken for HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function byId(id) { return document.getElementById(id); }
