"use strict";
// Scales: a value has a position, and positions have ticks. Axes of figures are linear in positions.

/** The position of a value: a number that grows with it; NaN where the scale has no place for it. */
function position(scale, value) {
  switch (scale.kind) {
    case "log": return value > 0 ? Math.log10(value) : NaN;
    case "reverse_log": return value < 1 ? -Math.log10(1 - value) : NaN;
    case "share": return -Math.log10(Math.max(1 - value + scale.offset, 1e-12));
    default: return value;
  }
}

/** The value at a position. */
function valueAt(scale, place) {
  switch (scale.kind) {
    case "log": return 10 ** place;
    case "reverse_log": return 1 - 10 ** -place;
    case "share": return 1 + scale.offset - 10 ** -place;
    default: return place;
  }
}

/** The scale of a metric: of an accuracy, its error on a log axis, with a place for 1; of others their own. */
function metricScale(values, share, logarithmic) {
  if (!logarithmic) return { kind: "linear" };
  if (!share) return { kind: "log" };
  let least = Infinity;
  for (const value of values) if (1 - value > 1e-9 && 1 - value < least) least = 1 - value;
  return { kind: "share", offset: Number.isFinite(least) ? Math.min(0.1, Math.max(1e-5, least)) : 0.01 };
}

/** Whether a metric has a log axis at all, and whether it is a help: always for shares, else over a decade. */
function logSuits(values, share) {
  if (share) return { possible: true, helpful: true };
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { possible: low > 0 && Number.isFinite(low), helpful: low > 0 && high / low > 10 };
}

/** About so many ticks between two positions: where, and what they say. */
function ticks(scale, low, high, count = 6) {
  const makers = { log: logTicks, reverse_log: reverseTicks, share: shareTicks, choice: choiceTicks, integer: wholeTicks };
  return (makers[scale.kind] || evenTicks)(scale, low, high, count);
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((own) => own * power >= rough * 0.999);
}

function evenValues(low, high, count) {
  if (!(high > low)) return [low];
  const step = niceStep((high - low) / count), found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function evenTicks(scale, low, high, count) {
  const at = evenValues(low, high, count);
  const decimals = at.length > 1 ? Math.max(0, -Math.floor(Math.log10(at[1] - at[0]) + 1e-9)) : 4;
  const large = Math.max(...at.map(Math.abs)) >= 1e5 || decimals > 5;
  return { at, text: at.map((value) => (large ? digits(value, 5) : value.toFixed(decimals))) };
}

function wholeTicks(scale, low, high, count) {
  const step = Math.max(1, niceStep(Math.max(high - low, 1e-9) / count)), at = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) at.push(value);
  return { at, text: at.map(String) };
}

function choiceTicks(scale, low, high) {
  const at = scale.options.map((_, place) => place).filter((place) => place >= low && place <= high);
  const short = (word) => (word.length > 14 ? `${word.slice(0, 13)}…` : word);
  return { at, text: at.map((place) => plain(short(scale.options[place]))) };
}

/** Round values between two positive ones: 1, 2 and 5 times powers of ten, or fewer; even ones in a narrow range. */
function logValues(low, high, count) {
  const decades = Math.log10(high / low);
  if (decades < 0.8) return evenValues(low, high, Math.min(count, 5)).filter((value) => value > 0);
  const digitsOfDecade = [[1, 2, 5], [1, 3], [1]].find((own) => own.length * decades <= count) || [1];
  const every = Math.max(1, Math.ceil(decades / count)), found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    if (power % every) continue;
    for (const digit of digitsOfDecade) {
      const value = Number(`${digit}e${power}`);
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  }
  return found;
}

function logTicks(scale, low, high, count) {
  const values = logValues(10 ** low, 10 ** high, count);
  return { at: values.map(Math.log10), text: values.map((value) => digits(value)) };
}

function reverseTicks(scale, low, high, count) {
  const values = logValues(10 ** -high, 10 ** -low, count);
  return { at: values.map((own) => -Math.log10(own)), text: values.map((own) => nearOne(1 - own)) };
}

/** Labels of an axis of shares, the most telling first, none that touches another. */
function shareTicks(scale, low, high, count) {
  const errors = [1, 0];
  for (const digit of [1, 5, 2]) for (const power of [1, 2, 3, 4, 5]) errors.push(digit * 10 ** -power);
  errors.push(0.9, 0.8, 0.7, 0.6, 0.3, 0.4);
  const at = [], text = [];
  for (const error of errors) {
    const share = Number((1 - error).toFixed(9)), place = position(scale, share);
    const free = at.every((other) => Math.abs(other - place) > (high - low) / (1.6 * count));
    if (place >= low && place <= high && free) { at.push(place); text.push(String(share)); }
  }
  if (at.length > 3) return { at, text };
  const even = evenValues(valueAt(scale, low), Math.min(1, valueAt(scale, high)), count);
  return { at: even.map((share) => position(scale, share)), text: even.map((share) => digits(share, 6)) };
}

/** The least and the greatest of the finite numbers, with a margin; never an empty range. */
function spanned(values, margin = 0.04) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low && value > -Infinity) low = value;
    if (value > high && value < Infinity) high = value;
  }
  if (!(low <= high)) return [0, 1];
  const around = high > low ? margin * (high - low) : 0.5 * Math.max(Math.abs(high) * 0.1, 0.1);
  return [low - around, high + around];
}

/** A share of the numbers are below this one; NaN does not count. */
function quantile(values, share) {
  const known = Float64Array.from(values).filter((value) => Number.isFinite(value)).sort();
  return known.length ? known[Math.min(known.length - 1, Math.floor(share * known.length))] : NaN;
}
