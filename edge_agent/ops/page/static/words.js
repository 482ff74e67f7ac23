// Numbers, times and units as people read them, in the language and time zone of the viewer.

const NUMBER = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 5 });
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });

export const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;

// Four or five digits, and the unit where there is one.
export function amount(value, unit = "") {
  const text = Math.abs(value) >= 1e5 ? Math.round(value).toLocaleString() : NUMBER.format(value);
  return unit ? `${text} ${unit}` : text;
}

export function moment(seconds) {
  return TIME.format(seconds * 1000);
}

export function age(seconds) {
  if (seconds < 1) return "just now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

// What a field measures and in what unit, where its name tells one; `units` are the tables of
// edge_agent/ops/units.py: those that are sure, and those that need a hint in the name.
export function named(path, [sure, hinted]) {
  // What turns the direction of writing in a name would turn what stands beside it, too.
  const field = path.replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
  const [, words, last] = /^(.+)_([A-Za-z0-9]+)$/.exec(field) ?? [null, "", ""];
  const key = last.toLowerCase();
  let unit = Object.hasOwn(sure, key) ? sure[key] : "";
  if (Object.hasOwn(hinted, key)) {
    const [maybe, hints] = hinted[key];
    if (hints.some((hint) => words.toLowerCase().includes(hint))) unit = maybe;
  }
  return unit ? { label: words, unit } : { label: field, unit: "" };
}

// An element with text and attributes; nothing is ever put together as HTML.
export function element(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}
