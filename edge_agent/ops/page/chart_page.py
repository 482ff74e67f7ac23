"""The page of one stream: a place for charts, which its script fills (``static/chart.js``)."""

from __future__ import annotations

import json

from edge_agent.ops.page.frame import LOGOUT, document
from edge_agent.ops.units import HINTED, UNITS
from edge_agent.printable import html_text

_LENGTHS = (("1h", "1 h"), ("24h", "24 h"), ("7d", "7 days"), ("30d", "30 days"),
            ("1y", "1 year"))  # fmt: skip
_ACTIONS = (("earlier", "← Earlier"), ("later", "Later →"), ("closer", "Zoom in"),
            ("wider", "Zoom out"))  # fmt: skip


def render_chart(stream: str, now_s: float, *, signed_in: bool) -> bytes:
    """The whole page; ``now_s`` is the agent's time."""
    name = html_text(stream)
    header = (
        f'<header><h1><a href="/">edge-agent</a> · {name}</h1>'
        f"{LOGOUT if signed_in else ''}</header>"
    )
    lengths = "".join(
        f'<button type="button" data-last="{key}" aria-pressed="false">{words}</button>'
        for key, words in _LENGTHS
    )
    actions = "".join(
        f'<button type="button" data-action="{key}">{words}</button>' for key, words in _ACTIONS
    )
    raw = f"/api/query?stream={name}&amp;format=csv&amp;from=-24h&amp;limit=10000"
    main = (
        '<nav aria-label="Pages"><a href="/">All streams</a></nav><p id="heard"></p>'
        f'<div class="row" role="group" aria-label="Time until now">{lengths}</div>'
        f'<div class="row" role="group" aria-label="Move in time">{actions}</div>'
        '<fieldset id="fields"><legend>Show</legend></fieldset>'
        '<p id="told" role="status"></p><div id="charts"></div>'
        '<p class="soft">Drag across a chart to zoom in, with the shift key or a finger to move;'
        " a double click zooms out. The line is the mean, the band goes from the least to the"
        " greatest value.</p>"
        '<details id="table"><summary>These figures as a table</summary>'
        '<div class="wide" tabindex="0"><table></table></div></details>'
        '<section aria-labelledby="take"><h2 id="take">Take along</h2>'
        '<div class="row"><label for="address">Address of these figures as CSV</label>'
        '<input id="address" type="text" readonly>'
        '<button type="button" id="copy">Copy</button><a id="download" class="button"'
        f' href="{raw}" download>Download</a><span id="copied" role="status"></span></div>'
        "</section><noscript><p>Charts need JavaScript. Without it:"
        f' <a href="{raw}">the last day as CSV</a>.</p></noscript>'
    )
    units = html_text(json.dumps([UNITS, HINTED], separators=(",", ":")))
    return document(
        "chart",
        f"{stream} · edge-agent",
        header,
        main,
        modules=("chart.js", "plot.js", "steps.js", "words.js"),
        scripts=("uplot.min.js",),
        styles=("page.css", "uplot.min.css"),
        attributes=f' data-stream="{name}" data-now="{now_s:.3f}" data-units="{units}"',
    )
