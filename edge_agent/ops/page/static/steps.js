// How far apart the points of a chart are, and how an answer of /api/query becomes its lines.
// Nothing in here knows of the page.

const WORDS = { m: "min", d: "days" };

// The shortest of `steps`, pairs of seconds and how the agent reads them, that needs no more than
// `pointsMax` points for so many seconds.
export function stepFor(seconds, [pointsMax, steps]) {
  const found = steps.find(([length]) => seconds / length <= pointsMax) ?? steps.at(-1);
  const [, number, unit] = /^(\d+)(\D+)$/.exec(found[1]);
  return { seconds: found[0], text: found[1], words: `${number} ${WORDS[unit] ?? unit}` };
}

// Field names from a list with commas; a name that has a comma itself stands in backticks.
export function splitFields(text) {
  return (text.match(/(?:`[^`]*`|[^,`])+/g) ?? []).map((name) => name.trim()).filter(Boolean);
}

// What no chart shows of a record's fields: texts, true and false, by path, as [path, text] pairs.
export function textsOf(fields, above = "") {
  return Object.entries(fields).flatMap(([name, value]) => {
    const path = above + (/[.,`"\s]/.test(name) ? `\`${name.replaceAll("`", "``")}\`` : name);
    if (typeof value === "string" || typeof value === "boolean") return [[path, String(value)]];
    const isMap = value !== null && typeof value === "object" && !Array.isArray(value);
    return isMap ? textsOf(value, `${path}.`) : [];
  });
}

// The fields that an answer has columns of, in its order.
export function fieldsOf(columns) {
  return columns.filter((name) => name.endsWith("_mean")).map((name) => name.slice(0, -5));
}

// For each field { times, low, mean, high, count, last }. Steps without a value are left out, because fields of
// one stream may come at different times; where a field was silent for much longer than it usually
// is there is a null, which a chart shows as a gap.
export function linesOf({ columns, rows }, stepSeconds) {
  const lines = new Map();
  for (const field of fieldsOf(columns)) {
    const places = ["min", "mean", "max", "count", "last"].map((word) =>
      columns.indexOf(`${field}_${word}`));
    lines.set(field, withGaps(rows.filter((row) => typeof row[places[1]] === "number")
      .map((row) => [row[0], ...places.map((place) => row[place])]), stepSeconds));
  }
  return lines;
}

function withGaps(points, stepSeconds) {
  const between = points.slice(1).map((point, index) => point[0] - points[index][0]);
  const usual = [...between].sort((a, b) => a - b)[between.length >> 1] ?? 0;
  const silence = Math.max(10 * usual, 3 * stepSeconds);
  const line = { times: [], low: [], mean: [], high: [], count: [], last: [] };
  const names = Object.keys(line);
  const add = (...values) => names.forEach((name, index) => line[name].push(values[index]));
  points.forEach((point, index) => {
    if (index > 0 && between[index - 1] > silence) {
      add(points[index - 1][0] + stepSeconds, null, null, null, null, null);
    }
    add(...point);
  });
  return line;
}

// Least, mean and greatest of all values that a line stands for, and the last of them; null where it
// shows nothing. A step counts as often as it has values: the mean of means would be another number.
export function summaryOf(line) {
  const counts = line.mean.map((value, index) => (value === null ? 0 : line.count[index]));
  const count = counts.reduce((sum, value) => sum + value, 0);
  if (count === 0) return null;
  const least = (a, b) => Math.min(a, b);
  const greatest = (a, b) => Math.max(a, b);
  return {
    low: line.low.filter((value) => value !== null).reduce(least),
    high: line.high.filter((value) => value !== null).reduce(greatest),
    mean: counts.reduce((sum, value, index) => sum + value * (line.mean[index] ?? 0), 0) / count,
    last: line.last.filter((value) => value !== null).at(-1),
  };
}
