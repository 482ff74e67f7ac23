"""The page of one stream: a place for charts, which its script fills (``static/chart.js``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from urllib.parse import urlencode

from edge_agent.ops.page.frame import LOGOUT, PAUSE, document
from edge_agent.ops.units import HINTED, UNITS
from edge_agent.output.printable import html_text

#: Seconds and words of the times until now that there are buttons for.
_LENGTHS = {
    "1h": (3600, "1 h"), "24h": (86_400, "24 h"), "7d": (7 * 86_400, "7 days"),
    "30d": (30 * 86_400, "30 days"), "1y": (365 * 86_400, "1 year"),
}  # fmt: skip
_FIRST = "24h"
_ACTIONS = (("earlier", "← Earlier"), ("later", "Later →"), ("closer", "Zoom in"),
            ("wider", "Zoom out"))  # fmt: skip
_POINTS_MAX = 1000
#: Each at most two and a half times the one before, so that a chart has 400 points or more.
_STEPS = (
    (0.001, "1ms"), (0.002, "2ms"), (0.005, "5ms"), (0.01, "10ms"), (0.02, "20ms"), (0.05, "50ms"),
    (0.1, "100ms"), (0.2, "200ms"), (0.5, "500ms"), (1, "1s"), (2, "2s"), (3, "3s"), (5, "5s"),
    (10, "10s"), (15, "15s"), (30, "30s"), (60, "1m"), (120, "2m"), (180, "3m"), (300, "5m"),
    (600, "10m"), (900, "15m"), (1800, "30m"), (3600, "1h"), (7200, "2h"), (10_800, "3h"),
    (21_600, "6h"), (43_200, "12h"), (86_400, "24h"), (172_800, "2d"), (345_600, "4d"),
    (604_800, "7d"), (1_209_600, "14d"), (2_419_200, "28d"),
)  # fmt: skip


def first_question(stream: str, given: Mapping[str, str], now_s: float) -> str | None:
    """What the script will ask first, by what the address says: ``last``, or ``from`` and ``to``,
    and ``fields``. The browser asks it while it fetches the script, which saves a chart a journey
    and what the answer takes. None where no field is to be seen.
    """
    if "fields" in given and not given["fields"].strip(", "):
        return None
    begin, end = _seconds(given.get("from")), _seconds(given.get("to"))
    if not 0 < begin < end:
        last = given.get("last", "")
        begin, end = now_s - _LENGTHS.get(last, _LENGTHS[_FIRST])[0], now_s
    fits = (text for length, text in _STEPS if (end - begin) / length <= _POINTS_MAX)
    question = {
        "stream": stream, "step": next(fits, _STEPS[-1][1]),
        "aggregate": "min,mean,max,count,last", "from": f"{begin:.3f}", "to": f"{end:.3f}",
    }  # fmt: skip
    if "fields" in given:
        question["fields"] = given["fields"]
    return "/api/query?" + urlencode(question | {"times": "unix"})


def _seconds(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0
    return number if math.isfinite(number) else 0


def render_chart(stream: str, given: Mapping[str, str], now_s: float, *, signed_in: bool) -> bytes:
    """The whole page; ``given`` is what the address says, ``now_s`` the agent's time."""
    name = html_text(stream)
    header = (
        f'<header><h1><a href="/">edge-agent</a> · {name}</h1>'
        f"{LOGOUT if signed_in else ''}</header>"
    )
    raw = f"/api/query?stream={name}&amp;format=csv&amp;from=-24h&amp;limit=10000"
    main = (
        '<nav aria-label="Pages"><a href="/">All streams</a></nav><p id="heard"></p>'
        f"{_buttons()}"
        '<fieldset id="fields"><legend>Show</legend></fieldset>'
        '<p id="told" role="status"></p><div id="charts"></div>'
        '<p class="soft">Drag across a chart to zoom in, with the shift key or a finger to move;'
        " a double click zooms out. The line is the mean, the band goes from the least to the"
        " greatest value.</p>"
        f"{_folded('table', 'These figures as a table', 'Table of the figures')}"
        f"{_folded('texts', 'Texts of this time', 'Table of the texts')}"
        '<section aria-labelledby="take"><h2 id="take">Take along</h2>'
        '<div class="row"><label for="address">Address of these figures as CSV</label>'
        '<input id="address" type="text" readonly>'
        '<button type="button" id="copy">Copy</button><a id="download" class="button"'
        f' href="{raw}" download>Download</a><span id="copied" role="status"></span></div>'
        "</section><noscript><p>Charts need JavaScript. Without it:"
        f' <a href="{raw}">the last day as CSV</a>.</p></noscript>'
    )
    units = _told([UNITS, HINTED])
    lengths_s = {key: seconds for key, (seconds, _) in _LENGTHS.items()}
    times = _told({"lengths": lengths_s, "steps": [_POINTS_MAX, _STEPS]})
    asked = first_question(stream, given, now_s)
    return document(
        "chart",
        f"{stream} · edge-agent",
        header,
        main,
        module="charts.js",
        scripts=("uplot.min.js",),
        style="charts.css",
        foot=f"{PAUSE}<br>",
        attributes=f' data-stream="{name}" data-now="{now_s:.3f}" data-units="{units}"'
        f' data-times="{times}"',
        asked=() if asked is None else (asked,),
    )


def _folded(name: str, summary: str, label: str) -> str:
    """A table that the script fills when somebody opens it."""
    return (
        f'<details id="{name}"><summary>{summary}</summary>'
        f'<div class="wide" tabindex="0" role="group" aria-label="{label}">'
        "<table></table></div></details>"
    )


def _buttons() -> str:
    lengths = "".join(
        f'<button type="button" data-last="{key}" aria-pressed="false">{words}</button>'
        for key, (_, words) in _LENGTHS.items()
    )
    actions = "".join(
        f'<button type="button" data-action="{key}">{words}</button>' for key, words in _ACTIONS
    )
    return (
        f'<div class="row" role="group" aria-label="Time until now">{lengths}</div>'
        f'<div class="row" role="group" aria-label="Move in time">{actions}</div>'
    )


def _told(value: object) -> str:
    return html_text(json.dumps(value, separators=(",", ":")))
