// The page of one stream: charts of its fields, asked of /api/query with as long steps as the
// range of time needs. What is shown is in the address, so that it can be kept and sent.

import { Plot } from "./plot.js";
import { fieldsOf, linesOf, splitFields, stepFor, summaryOf, textsOf } from "./steps.js";
import { age, amount, element, moment, named, zone } from "./words.js";

const FIELDS_AT_FIRST = 3;
const TABLE_ROWS_MAX = 200;
// Of a record with texts: so many records are looked at, and so much of them is shown.
const TEXT_RECORDS = 1000;
const TEXT_FIELDS_MAX = 8;
const TEXT_LENGTH_MAX = 500;

const main = document.querySelector("main");
const stream = main.dataset.stream;
const units = JSON.parse(main.dataset.units);
const { lengths: LENGTHS, steps: STEPS } = JSON.parse(main.dataset.times);
// The agent's clock decides what "now" is; the viewer's may be wrong.
const clockAhead = Number(main.dataset.now) - Date.now() / 1000;
const [charts, told, fields, table, texts, address, download, heard, fresh, pause] =
  ["charts", "told", "fields", "table", "texts", "address", "download", "heard", "fresh", "pause"]
    .map((id) => document.getElementById(id));

let view = viewOfAddress();
// The browser asks the first question while it still fetches this script.
let askedAhead = document.querySelector("link[as=fetch]")?.href;
let known = [];
let plots = new Map();
let shown = null;
let asking = null;
let isPaused = false;
let hasUnfolded = false;
let timer = 0;

// What the address says: `last` for the time until now, or `from` and `to` in seconds.
function viewOfAddress() {
  const given = new URLSearchParams(location.search);
  const from = Number(given.get("from"));
  const to = Number(given.get("to"));
  const wanted = given.has("fields") ? splitFields(given.get("fields")) : null;
  if (from > 0 && to > from) return { from, to, fields: wanted };
  const last = given.get("last");
  return { last: Object.hasOwn(LENGTHS, last ?? "") ? last : "24h", fields: wanted };
}

function rangeOf({ last, from, to }) {
  if (!last) return [from, to];
  const now = Date.now() / 1000 + clockAhead;
  return [now - LENGTHS[last], now];
}

function go(change) {
  view = change.from === undefined ? { ...view, ...change }
    : { fields: view.fields, from: change.from, to: change.to };
  const said = new URLSearchParams();
  if (view.last) said.set("last", view.last);
  else {
    said.set("from", view.from.toFixed(3));
    said.set("to", view.to.toFixed(3));
  }
  if (view.fields) said.set("fields", view.fields.join(","));
  history.pushState(null, "", `?${said}`);
  show();
}

function questionOf(range, step) {
  const question = new URLSearchParams({
    stream, step: step.text, aggregate: "min,mean,max,count,last",
    from: range[0].toFixed(3), to: range[1].toFixed(3),
  });
  if (view.fields) question.set("fields", view.fields.join(","));
  return question;
}

async function ask(path, signal) {
  // No answer may be kept, as the agent says of each; what the browser asked ahead is one of them.
  const answer = await fetch(path, { signal });
  // Signed out meanwhile: the page itself asks for the token.
  if (answer.status === 401) location.reload();
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? `HTTP ${answer.status}`);
  return body;
}

// Ask for what is to be seen and show it; a newer question takes the place of one under way.
// `isQuiet`: nobody did anything, the time has gone on.
async function show(isQuiet = false) {
  clearTimeout(timer);
  asking?.abort();
  const mine = asking = new AbortController();
  const ahead = askedAhead && new URL(askedAhead);
  askedAhead = undefined;
  const range = ahead ? ["from", "to"].map((end) => Number(ahead.searchParams.get(end)))
    : rangeOf(view);
  const step = stepFor(range[1] - range[0], STEPS);
  markButtons();
  const slow = setTimeout(() => { if (!isQuiet) tell("Asking the agent …"); }, 400);
  try {
    if (view.fields?.length === 0) {
      await draw({ columns: [], rows: [] }, range, step, mine.signal);
    } else {
      const question = questionOf(range, step);
      question.set("times", "unix");
      await draw(await ask(ahead ?? `/api/query?${question}`, mine.signal), range, step, mine.signal);
      question.delete("times");
      question.set("format", "csv");
      address.value = new URL(`/api/query?${question}`, location.href).href;
      download.href = address.value;
    }
    clearTimeout(slow);
    await tellHeard(mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    tell(`No answer: ${error.message}`);
  } finally {
    clearTimeout(slow);
  }
  // While the right edge is now: every three seconds, less often where a step lasts long.
  const wait = Math.min(Math.max(3, step.seconds / 10), 60);
  if (view.last && !isPaused && mine === asking) timer = setTimeout(again, wait * 1000);
}

function again() {
  if (document.hidden) timer = setTimeout(again, 1000);
  else show(true);
}

// What a screen reader says, too, and so only where it says something new.
function tell(text) {
  if (told.textContent !== text) told.textContent = text;
}

async function draw(answer, range, step, signal) {
  const found = fieldsOf(answer.columns);
  for (const field of [...found, ...(view.fields ?? [])]) {
    if (!known.includes(field)) known.push(field);
  }
  const chosen = view.fields ?? found.slice(0, FIELDS_AT_FIRST);
  const lines = linesOf(answer, step.seconds);
  shown = { chosen, lines, range, step };
  for (const [field, plot] of plots) {
    if (chosen.includes(field)) continue;
    plot.remove();
    plots.delete(field);
  }
  for (const field of chosen) {
    if (!plots.has(field)) plots.set(field, new Figure(field));
    plots.get(field).show(lines.get(field) ?? { times: [], low: [], mean: [], high: [], count: [], last: [] }, range);
  }
  offerFields(chosen);
  const points = Math.max(0, ...chosen.map((field) => lines.get(field)?.times.length ?? 0));
  const pressed = document.querySelector("button[aria-pressed=true]");
  const when = pressed ? `The last ${pressed.textContent} until now`
    : `${moment(range[0])} to ${moment(range[1])}`;
  if (table.open) drawTable();
  // A stream that says words and no numbers is no empty one: they are unfolded, once.
  const isOfWords = found.length === 0 && !view.fields;
  const said = texts.open || isOfWords ? await drawTexts(signal) : 0;
  if (isOfWords && said && !hasUnfolded) texts.open = hasUnfolded = true;
  tell(points > 0 ? `${when}, a point for each ${step.words}. Times are those of ${zone}.`
    : isOfWords && said ? `${when}: no numbers, and the texts that are listed below.`
      : `${when}: nothing was measured.`);
  // Tests, and whoever is curious, read here what is on the charts.
  main.dataset.step = step.text;
  main.dataset.points = points;
  performance.mark("shown");
}

// One chart with its heading and its reading, and an image for those who cannot see it.
class Figure {
  constructor(field) {
    const { label, unit } = named(field, units);
    this.unit = unit;
    const measure = unit ? ` in ${unit}` : "";
    const reading = `reading-${known.indexOf(field)}`;
    this.reading = element("span", { class: "soft", id: reading });
    // Its numbers change with the time: they describe it, as a name that changes is said aloud.
    this.place = element("div", { class: "plot", role: "img", tabindex: "0",
      "aria-describedby": reading,
      "aria-label": `Chart of ${label}${measure}. Arrow keys move in time, plus and minus zoom.` });
    this.place.addEventListener("keydown", onKey);
    this.box = element("section", { class: "chart" },
      element("h2", {}, label, element("span", { class: "soft" }, measure)),
      this.reading, this.place);
    charts.append(this.box);
    this.plot = this.makePlot(field);
  }

  makePlot(field) {
    return new Plot(this.place, Math.max(known.indexOf(field), 0), {
      zoom: (from, to) => go({ from, to }),
      zoomOut: () => scale(2),
      read: (index) => this.read(index),
    });
  }

  show(line, range) {
    this.line = line;
    this.plot.show(line, ...range);
    this.read(null);
  }

  // The words above the chart: the point under the pointer, or all of it in four numbers.
  read(index) {
    if (!this.line) return;
    const value = (number) => amount(number, this.unit);
    const summary = summaryOf(this.line);
    if (index !== null && typeof this.line.mean[index] === "number") {
      const [low, mean, high] = ["low", "mean", "high"].map((each) => this.line[each][index]);
      const band = low === high ? "" : `, from ${value(low)} to ${value(high)}`;
      this.reading.textContent = `${moment(this.line.times[index])}: ${value(mean)}${band}`;
    } else {
      this.reading.textContent = summary === null ? "nothing in this time"
        : `last ${value(summary.last)} · least ${value(summary.low)}`
          + ` · mean ${value(summary.mean)} · greatest ${value(summary.high)}`;
    }
  }

  remove() {
    this.plot.remove();
    this.box.remove();
  }
}

// Move by a part of what is seen; make what is seen longer or shorter, its end where it was.
function move(part) {
  const [from, to] = rangeOf(view);
  const by = (to - from) * part;
  go({ from: from + by, to: to + by });
}

function scale(factor) {
  const [from, to] = rangeOf(view);
  const middle = (from + to) / 2;
  const half = Math.min(Math.max((to - from) * factor / 2, 0.05), 5 * 365 * 86400);
  go({ from: middle - half, to: middle + half });
}

const ACTIONS = {
  earlier: () => move(-0.5),
  later: () => move(0.5),
  closer: () => scale(0.5),
  wider: () => scale(2),
};
const KEYS = { ArrowLeft: "earlier", ArrowRight: "later", "+": "closer", "-": "wider" };

function onKey(event) {
  const action = ACTIONS[KEYS[event.key]];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
}

// What goes on by itself can be stopped, as on the overview.
function stopOrGoOn() {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Go on refreshing" : "Stop refreshing";
  fresh.textContent = isPaused ? "Not refreshed." : "";
  if (isPaused) clearTimeout(timer);
  else show(true);
}

function markButtons() {
  pause.hidden = !view.last;
  for (const button of document.querySelectorAll("button[data-last]")) {
    button.setAttribute("aria-pressed", String(button.dataset.last === view.last));
  }
}

// Check boxes for all fields that are known; rebuilt only when there is another one, so that
// whoever is on one of them stays there.
function offerFields(chosen) {
  for (const field of known) {
    let box = [...fields.querySelectorAll("input")].find((each) => each.value === field);
    if (!box) {
      box = element("input", { type: "checkbox", value: field });
      box.addEventListener("change", () => go({ fields: chosenFields() }));
      fields.append(element("label", {}, box, ` ${field}`));
    }
    box.checked = chosen.includes(field);
  }
}

function chosenFields() {
  return [...fields.querySelectorAll("input:checked")].map((each) => each.value);
}

// The same figures as text, the newest first.
async function drawTable() {
  const { chosen, lines } = shown;
  const rows = new Map();
  for (const field of chosen) {
    const line = lines.get(field);
    line?.times.forEach((time, index) => {
      if (line.mean[index] === null) return;
      if (!rows.has(time)) rows.set(time, {});
      rows.get(time)[field] = [line.low, line.mean, line.high].map((each) => each[index]);
    });
  }
  const times = [...rows.keys()].sort((a, b) => b - a);
  const head = element("tr", {}, element("th", { scope: "col" }, "Time"));
  for (const field of chosen) {
    for (const word of ["least", "mean", "greatest"]) {
      head.append(element("th", { scope: "col", class: "n" }, `${field}, ${word}`));
    }
  }
  const body = element("tbody");
  for (const time of times.slice(0, TABLE_ROWS_MAX)) {
    const row = element("tr", {}, element("th", { scope: "row" }, moment(time)));
    for (const field of chosen) {
      for (const value of rows.get(time)[field] ?? ["", "", ""]) {
        row.append(element("td", { class: "n" }, value === "" ? "" : amount(value)));
      }
    }
    body.append(row);
  }
  const caption = times.length > TABLE_ROWS_MAX
    ? `The newest ${TABLE_ROWS_MAX} of ${times.length} points; the CSV has all.`
    : `All ${times.length} points.`;
  await fill(table, caption, head, body);
}

// What the newest records say in words, the newest first; how many of them do.
async function drawTexts(signal) {
  const mine = shown;
  const [from, to] = mine.range.map((seconds) => seconds.toFixed(3));
  const question = new URLSearchParams({ stream, order: "newest", limit: TEXT_RECORDS, from, to });
  const { records, truncated } = await ask(`/api/query?${question}`, signal);
  const rows = records.map(({ time, fields: all }) => [time, new Map(textsOf(all))])
    .filter(([, said]) => said.size > 0);
  const names = [...new Set(rows.flatMap(([, said]) => [...said.keys()]))];
  const head = element("tr", {}, element("th", { scope: "col" }, "Time"));
  const columns = names.slice(0, TEXT_FIELDS_MAX);
  for (const name of columns) head.append(element("th", { scope: "col", class: "text" }, name));
  const body = element("tbody");
  for (const [time, said] of rows.slice(0, TABLE_ROWS_MAX)) {
    const row = element("tr", {}, element("th", { scope: "row" }, moment(Date.parse(time) / 1000)));
    for (const name of columns) {
      const text = said.get(name) ?? "";
      row.append(element("td", { class: "text" }, text.length <= TEXT_LENGTH_MAX ? text
        : `${text.slice(0, TEXT_LENGTH_MAX)}…`));
    }
    body.append(row);
  }
  const looked = `${truncated ? "the newest" : "all"} ${records.length} records`;
  const left = names.length > columns.length ? `, ${names.length - columns.length} fields left out` : "";
  const caption = rows.length === 0 ? `No texts, true or false in ${looked}.`
    : `${Math.min(rows.length, TABLE_ROWS_MAX)} records with texts, of ${looked}${left}.`;
  await fill(texts, caption, head, body);
  mine.hasTexts = true;
  return rows.length;
}

async function fill(place, caption, head, body) {
  const { renew } = await import("./renew.js");
  renew(place.querySelector("table"), element("table", {},
    element("caption", {}, caption), element("thead", {}, head), body));
}

async function tellHeard(signal) {
  const answer = await ask(`/api/streams?stream=${encodeURIComponent(stream)}`, signal);
  const [one] = answer.streams;
  if (!one) return;
  const seconds = Date.now() / 1000 + clockAhead - Date.parse(one.last_stored) / 1000;
  const values = Object.entries(one.last ?? {}).slice(0, 8).map(([field, value]) => {
    const { label, unit } = named(field, units);
    return `${label} ${amount(value, unit)}`;
  });
  heard.textContent = `Last heard of ${age(seconds)}${values.length ? ": " : ""}`
    + values.join(" · ");
}

// A page without TLS has no clipboard; then the text is marked and copied as a person would.
async function copy() {
  const said = document.getElementById("copied");
  address.select();
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(address.value);
    else if (!document.execCommand("copy")) throw new Error("it is marked: copy it");
    said.textContent = "Copied.";
  } catch {
    said.textContent = "It is marked now: copy it with your keyboard.";
  }
}

// Fields that were silent in the time that is seen first can be chosen, too.
async function findFields() {
  // Of the newest minute: the columns are all that is looked at, and a year takes a second.
  const question = new URLSearchParams({
    stream, step: "1m", aggregate: "mean", from: "-365d", order: "newest", limit: "1",
  });
  const { columns } = await ask(`/api/query?${question}`);
  for (const field of fieldsOf(columns)) {
    if (!known.includes(field)) known.push(field);
  }
  if (shown) offerFields(shown.chosen);
}

for (const button of document.querySelectorAll("button[data-last]")) {
  button.addEventListener("click", () => go({ last: button.dataset.last }));
}
for (const button of document.querySelectorAll("button[data-action]")) {
  button.addEventListener("click", ACTIONS[button.dataset.action]);
}
document.getElementById("copy").addEventListener("click", copy);
pause.addEventListener("click", stopOrGoOn);
table.addEventListener("toggle", () => {
  if (table.open && shown) drawTable();
});
texts.addEventListener("toggle", () => {
  if (texts.open && shown && !shown.hasTexts) drawTexts().catch(() => {});
});
addEventListener("popstate", () => {
  view = viewOfAddress();
  show();
});
// The colours of a canvas do not follow by themselves.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots.values()) plot.remove();
  plots = new Map();
  show();
});
show().then(findFields).catch(() => {});
