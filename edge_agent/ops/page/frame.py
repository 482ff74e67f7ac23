"""What the page is built with: style, a few lines of script, the policy that allows only them.

Nothing comes from elsewhere, as the policy in `CSP` enforces: style and script are named by their
hash, so that a word that slipped through unescaped could still not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --good: #1a7f37; --bad: #c62828;
  --mid: #b26a00; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem .8rem; align-items: baseline; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.soft, footer { color: var(--soft); } footer { margin-top: 2rem; font-size: .85rem; }
.word { color: #fff; border-radius: 1rem; padding: .05rem .7rem; font-weight: 600; }
.ok { background: var(--good); } .degraded { background: var(--mid); }
.failed { background: var(--bad); }
ul.reasons { padding-left: 1.2rem; margin: .6rem 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .7rem;
  margin-top: 1rem; }
.figure { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.figure b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.figure small { color: var(--soft); display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem min(1.3rem, 2.5vw) .3rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td.text { white-space: normal; min-width: 12rem; overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); font-size: .85rem; }
th.n, td.n { text-align: right; }
meter { width: 7rem; vertical-align: middle; }
form { margin-top: 1rem; } input { font: inherit; width: min(30rem, 100%); }
"""

_SCRIPT = """
"use strict";
const every = 2000;
let token = sessionStorage.getItem("token");
async function refresh() {
  if (document.hidden || (!token && document.getElementById("token"))) return;
  const foot = document.getElementById("fresh");
  try {
    const headers = token ? { Authorization: "Bearer " + token } : {};
    const answer = await fetch("/", { headers, cache: "no-store" });
    if (answer.status === 401) { token = null; sessionStorage.removeItem("token"); }
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const typing = document.activeElement && document.activeElement.tagName === "INPUT";
    if (!typing) document.querySelector("main").replaceWith(next.querySelector("main"));
    foot.textContent = "Refreshed every two seconds.";
  } catch (error) {
    foot.textContent = "No answer from the agent (" + error.message + "); trying again.";
  }
}
document.addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value.trim();
  sessionStorage.setItem("token", token);
  document.activeElement.blur();
  refresh();
});
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, every);
if (token) refresh();
"""


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


#: Only this page's own style and script, only requests to this agent, in nobody's frame.
CSP = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def document(main: str) -> bytes:
    """The whole document around ``main``, which is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<noscript><meta http-equiv="refresh" content="5"></noscript>'
        f"<title>edge-agent</title><style>{_STYLE}</style></head><body><main>{main}</main>"
        '<footer><span id="fresh"></span> As data: <a href="/api/status">status</a>,'
        ' <a href="/api/streams">streams</a>, <a href="/api/query?limit=20">the last records</a>,'
        ' <a href="/metrics">metrics</a>, <a href="/healthz">health</a>.</footer>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    ).encode()


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: set[int],
    texts: frozenset[int] | set[int] = frozenset(),
) -> str:
    """Cells are HTML already; ``numbers`` and ``texts`` are columns, counted from 0."""

    def kind(index: int) -> str:
        return ' class="n"' if index in numbers else ' class="text"' if index in texts else ""

    lines = [
        "<tr>" + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    ]
    if not lines:
        return "<p class=soft>None.</p>"
    top = "".join(f"<th{kind(i)}>{cell}</th>" for i, cell in enumerate(head))
    return f'<div class="wide"><table><tr>{top}</tr>{"".join(lines)}</table></div>'
