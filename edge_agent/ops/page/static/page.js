// The overview, kept fresh: it is fetched again every two seconds as the HTML that the agent makes,
// and what has changed in it is put into the page. Nothing is formatted here.

import { renew } from "./renew.js";

const EVERY_MS = 2000;
const REFRESHED = "Refreshed every two seconds.";
const fresh = document.getElementById("fresh");
const pause = document.getElementById("pause");
const search = document.querySelector("form[role=search] input");
let isPaused = false;
let timer = 0;
let asked = 0;

// A screen reader says it, and so only where it says something new.
function tell(text) {
  if (fresh.textContent !== text) fresh.textContent = text;
}

async function refresh() {
  clearTimeout(timer);
  const begun = performance.now();
  const mine = ++asked;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== asked) return;
    // Signed out meanwhile, or the agent is another version: then all of it anew.
    const isOther = next.body.dataset.page !== document.body.dataset.page;
    if (isOther) location.reload();
    for (const part of document.querySelectorAll("[data-fresh]")) {
      const now = next.getElementById(part.id);
      const reached = document.activeElement;
      if (now) renew(part, now);
      // Streams may be in other groups than before; whoever was on one of them stays on it.
      if (reached?.href && !reached.isConnected) {
        [...part.querySelectorAll("a")].find(({ href }) => href === reached.href)
          ?.focus({ preventScroll: true });
      }
    }
    tell(REFRESHED);
  } catch (error) {
    tell(`No answer from the agent (${error.message}); trying again.`);
  }
  // An agent that needs long for its answer is asked less often.
  schedule(Math.max(EVERY_MS, 10 * (performance.now() - begun)));
}

function schedule(wait) {
  clearTimeout(timer);
  if (!isPaused) timer = setTimeout(() => document.hidden ? schedule(EVERY_MS) : refresh(), wait);
}

function look() {
  const said = new URLSearchParams(location.search);
  if (search.value.trim()) said.set("q", search.value.trim());
  else said.delete("q");
  history.replaceState(null, "", `${location.pathname}${said.size ? `?${said}` : ""}`);
  refresh();
}

let typing = 0;
search?.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(look, 150);
});
search?.form.addEventListener("submit", (event) => {
  event.preventDefault();
  look();
});
pause.hidden = false;
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Go on refreshing" : "Stop refreshing";
  tell(isPaused ? "Not refreshed." : REFRESHED);
  if (!isPaused) refresh();
  else clearTimeout(timer);
});
schedule(EVERY_MS);
