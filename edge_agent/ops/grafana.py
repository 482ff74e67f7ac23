"""The Grafana dashboard of the agent's own metrics, as ``docs/grafana/edge-agent.json``.

    python -m edge_agent.ops.grafana > docs/grafana/edge-agent.json

It is made of the table of metrics, so that it cannot name one that there is not, and one that no
panel here is about gets one in the last row. A test holds the file against what this writes, and
every expression against what ``/metrics`` shows. Nothing else imports it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.metrics import TABLE, Metric

TITLE = "edge-agent"
#: Changed with the dashboard's panels, never with a release: a link to it stays.
UID = "edge-agent"
_PREFIX = "edge_agent_"
_PICKED = 'instance=~"$instance"'
_WIDTH = 24
#: What Grafana calls the units of the table.
_UNITS = {
    "bytes": "bytes", "seconds": "s", "ratio": "none", "bool": "bool", "records": "short",
}  # fmt: skip
_COLOURS = {"ok": "green", "bad": "red"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title, help: what stands above it, and behind its mark.
        unit: in Grafana's word.
        expressions: of each line its PromQL, in which ``NAME{}`` is a metric of ours, and its
            legend.
        stat: one number in place of lines; the value from which it is red, None for none.
        width: in columns of 24.
    """

    title: str
    unit: str
    expressions: Sequence[tuple[str, str]]
    help: str = ""
    stat: bool = False
    red_from: float | None = None
    width: int = 8


def _rate(name: str, by: str = "") -> str:
    total = f"sum by (instance{', ' * bool(by)}{by})"
    return f"{total} (rate({name}{{}}[$__rate_interval]))"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            Panel("Kept", "cps", [(_rate("records_committed_total"), "")], "Records made durable per second: transfer rate R.", True, width=4),
            Panel("Sent on", "cps", [(_rate("forwarded_records_total"), "")], "Records that upstreams acknowledged, per second.", True, width=4),
            Panel("Backlog", "short", [("sum by (instance) (forward_backlog_records{})", "")], "Records that upstreams have not acknowledged yet.", True, width=4),
            Panel("Lost in 24 h", "short", [("sum by (instance) (increase(records_discarded_total{}[24h]))", "discarded"), ("sum by (instance) (increase(records_damaged_total{}[24h]))", "damaged")], "Discarded before an upstream had them, or damaged on the card.", True, 1, 4),
            Panel("Store in use", "percentunit", [("store_used_bytes{} / store_bytes{}", "")], "", True, 0.9, 4),
            Panel("Card lasts", "s", [("wear_life_seconds{}", "")], "At the last day's rate, of wear.endurance.", True, width=4),
        ),
    ),
    (
        "Coming in",
        (
            Panel("Records kept, by log", "cps", [(_rate("records_committed_total", "log"), "{{log}}")]),
            Panel("Bytes kept, by log", "Bps", [(_rate("committed_bytes_total", "log"), "{{log}}")], "As sent; blocks are compressed."),
            Panel("Connections", "short", [("connections{}", "open"), (_rate("connections_refused_total", "reason"), "refused per second: {{reason}}")]),
            Panel("Refused for their content", "cps", [(_rate("records_nacked_total", "code"), "{{code}}")]),
            Panel("Told 'not now'", "cps", [(_rate("stops_total", "code"), "{{code}}")]),
            Panel("Repeats and gaps of sources", "cps", [(_rate("records_duplicate_total"), "sent again, stored once"), (_rate("source_gaps_total"), "numbers skipped")]),
        ),
    ),
    (
        "Keeping",
        (
            Panel("A commit takes", "s", [("rate(commit_seconds_total{}[$__rate_interval]) / rate(commits_total{}[$__rate_interval])", "mean")], "Mean time of a synced transaction."),
            Panel("Stored, by log", "bytes", [("log_bytes{}", "{{log}}"), ("store_bytes{}", "reserved")]),
            Panel("Until a loss, by log", "s", [("log_seconds_until_loss{}", "{{log}}")], "Until a log loses, thins or refuses the oldest undelivered record."),
            Panel("Lost, thinned, refused", "short", [(f"sum by (instance, log) (increase({name}{{}}[1h]))", f"{word}: {{{{log}}}}") for name, word in (("records_discarded_total", "discarded"), ("records_thinned_total", "thinned"), ("records_refused_total", "refused"), ("records_damaged_total", "damaged"))], "In an hour."),
            Panel("Written to the card per day", "bytes", [("wear_bytes_per_day{}", "{{by}}")]),
            Panel("Written for each byte kept", "none", [("write_amplification{}", "write amplification"), ("commit_interval_factor{}", "commits spread by")]),
        ),
    ),
    (
        "Going out",
        (
            Panel("Records acknowledged", "cps", [(_rate("forwarded_records_total", "upstream"), "{{upstream}}")]),
            Panel("Backlog", "short", [("forward_backlog_records{}", "{{upstream}}")]),
            Panel("Backlog drains in", "s", [("upstream_drain_seconds{}", "{{upstream}}")]),
            Panel("Connected", "bool", [("forward_connected{}", "{{upstream}}")]),
            Panel("Failures", "cps", [(_rate("forward_failures_total", "upstream, kind"), "{{upstream}}: {{kind}}")]),
            Panel("Refused for good", "short", [("increase(forward_refused_total{}[1h])", "{{upstream}}")], "In an hour; they are in quarantine."),
        ),
    ),
    (
        "The agent itself",
        (
            Panel("CPU", "percentunit", [("rate(cpu_seconds_total{}[$__rate_interval])", "of a core")]),
            Panel("Records per CPU second", "short", [("sum by (instance) (rate(records_committed_total{}[$__rate_interval])) / on (instance) rate(cpu_seconds_total{}[$__rate_interval])", "E")], "Processing efficiency E."),
            Panel("Answers per second of answering", "short", [("rate(queries_total{}[$__rate_interval]) / rate(query_seconds_total{}[$__rate_interval])", "Q")], "Query performance Q."),
        ),
    ),
    (
        "Streams in http.expose",
        (
            Panel("Last values", "short", [("stream_value{}", "{{stream}} {{field}}")], width=16),
            Panel("Silent for", "s", [("stream_age_seconds{}", "{{stream}}")]),
        ),
    ),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    panels = [*_placed((*ROWS, ("Everything else", tuple(_others()))))]
    return {
        "uid": UID,
        "title": TITLE,
        "tags": ["edge-agent"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [_data_source(), _instances()]},
        "annotations": {"list": []},
        "panels": panels,
    }


def named_in(expression: str) -> set[str]:
    """The metrics that an expression names, as in the table."""
    return set(re.findall(r"\b([a-z_]+)\{", expression))


def _others() -> Iterator[Panel]:
    """A panel for each metric that none of the rows is about."""
    shown = {
        name
        for _, panels in ROWS
        for panel in panels
        for expression, _ in panel.expressions
        for name in named_in(expression)
    }
    for metric in TABLE:
        if metric.name not in shown:
            yield _plain(metric)


def _plain(metric: Metric) -> Panel:
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    if metric.kind == "counter":
        expression = f"increase({metric.name}{{}}[1h])"
        return Panel(metric.name, "short", [(expression, legend)], f"{metric.help} In an hour.")
    unit = _UNITS.get(metric.unit, "short")
    return Panel(metric.name, unit, [(f"{metric.name}{{}}", legend)], metric.help)


def _placed(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[dict[str, Any]]:
    """Rows and panels with their numbers and places; the last row is folded."""
    number = top = 0
    for index, (title, panels) in enumerate(rows):
        number += 1
        folded = index == len(rows) - 1
        row = {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": folded,
            "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        left = 0
        placed: list[dict[str, Any]] = []
        for panel in panels:
            height = 4 if panel.stat else 8
            if left + panel.width > _WIDTH:
                left, top = 0, top + height
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            placed.append(_shown(panel, number, place))
            left += panel.width
        top += placed[-1]["gridPos"]["h"]
        if folded:
            yield {**row, "panels": placed}
        else:
            yield row
            yield from placed


def _shown(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": _COLOURS["ok"], "value": None}]
    if panel.red_from is not None:
        steps.append({"color": _COLOURS["bad"], "value": panel.red_from})
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.stat:
        # What was never counted is no series yet.
        defaults["noValue"] = "0"
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place,
        "fieldConfig": {
            "defaults": {**defaults, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.stat else {},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": _full(expression),
                "legendFormat": f"{{{{instance}}}} {legend}".strip(),
            }
            for index, (expression, legend) in enumerate(panel.expressions)
        ],
    }


def _full(expression: str) -> str:
    """With the whole names of the metrics, and of the chosen agents alone."""
    return re.sub(r"\b([a-z_]+)\{\}", rf"{_PREFIX}\1{{{_PICKED}}}", expression)


def _data_source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }


def _instances() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Agent",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({_PREFIX}start_time_seconds, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> None:
    """Write it."""
    json.dump(dashboard(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
