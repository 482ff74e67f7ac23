// How far apart the points of a chart are, and how an answer of /api/query becomes its lines.
// Nothing in here knows of the page.

export const POINTS_MAX = 1000;

// Steps in seconds, and how the agent reads them; each at most two and a half times the one before,
// so that a chart has between 400 and POINTS_MAX points.
const STEPS = [
  [0.001, "1ms"], [0.002, "2ms"], [0.005, "5ms"], [0.01, "10ms"], [0.02, "20ms"], [0.05, "50ms"],
  [0.1, "100ms"], [0.2, "200ms"], [0.5, "500ms"], [1, "1s"], [2, "2s"], [3, "3s"], [5, "5s"],
  [10, "10s"], [15, "15s"], [30, "30s"], [60, "1m"], [120, "2m"], [180, "3m"], [300, "5m"],
  [600, "10m"], [900, "15m"], [1800, "30m"], [3600, "1h"], [7200, "2h"], [10800, "3h"],
  [21600, "6h"], [43200, "12h"], [86400, "24h"], [172800, "2d"], [345600, "4d"], [604800, "7d"],
  [1209600, "14d"], [2419200, "28d"],
];

const WORDS = { m: "min", d: "days" };

// The shortest step that needs no more than POINTS_MAX points for so many seconds.
export function stepFor(seconds) {
  const found = STEPS.find(([length]) => seconds / length <= POINTS_MAX) ?? STEPS.at(-1);
  const [, number, unit] = /^(\d+)(\D+)$/.exec(found[1]);
  return { seconds: found[0], text: found[1], words: `${number} ${WORDS[unit] ?? unit}` };
}

// Field names from a list with commas; a name that has a comma itself stands in backticks.
export function splitFields(text) {
  return (text.match(/(?:`[^`]*`|[^,`])+/g) ?? []).map((name) => name.trim()).filter(Boolean);
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
