"""``edge-agent status``: the agent's own picture of itself, over its people's port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from edge_agent.cli.agent_http import AgentAddress, url_options
from edge_agent.cli.common import Failure
from edge_agent.cli.doctor.deliveries import limits
from edge_agent.ops.text import (
    amount,
    bridging,
    duration,
    percent,
    phase,
    ratio,
    resending,
    size,
    taken,
)
from edge_agent.output.printable import counted, json_text, often, printable

_ALARMS_SHOWN = 10
_REFUSED_SHOWN = 5
_COLOURS = {"ok": "green", "degraded": "yellow", "failed": "red"}


@click.command()
@url_options
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def command(agent: AgentAddress, *, as_json: bool) -> None:
    """Show how the agent is doing: health, speed (R, Q, E), store, upstreams.

    Exit code 1 where the agent says that it has failed, or where none answers.
    """
    status = agent.json("/api/status", told="agent")
    if as_json:
        click.echo(json_text(status, indent=2))
    else:
        _print(status)
    if status["health"]["status"] == "failed":
        raise Failure("the agent has failed: it cannot keep what it is given")


def _print(status: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    agent, health = status["agent"], status["health"]
    colour = _COLOURS[health["status"]]
    console.print(
        f"[bold]edge-agent[/] {_text(agent['id'])} {_text(agent['version'])},"
        f" up {duration(agent['uptime_s'])}: [bold {colour}]{health['status']}[/]"
    )
    for reason in (*health["reasons"], *health["warnings"]):
        console.print(f"  • {_text(reason['message'])}")
    console.print()
    tables = (_figures(status["figures"]), _upstreams(status), _logs(status), _card(status))
    for table in tables:
        if table is not None:
            console.print(table)
            console.print()
    for line in (*_alarms(status), *_outlook(status), *_refused(status)):
        console.print(f"• {_text(line)}")
    store = status["store"]
    console.print(
        f"store {percent(store['fill'])} of {size(store['size_bytes'])}"
        f" · {counted(status['streams']['seen'], 'stream')}{_undated(status)}"
        f" · {counted(status['connections_open'], 'connection')}"
        f" · {store['quarantine_entries']} in quarantine{_scrub(store)}{_sealed(store)}",
        style="dim",
    )
    if (certificate := status.get("certificate")) is not None:
        console.print(f"certificate good until {_text(certificate['ends'][:10])}", style="dim")
    if (history := status.get("history")) is not None:
        console.print(_history(history), style="dim")


def _sealed(store: dict[str, Any]) -> str:
    # An agent of an earlier version does not say.
    key = store.get("key_id", "")
    return f" · sealed with the key {key}" if key else ""


def _text(text: str, most: int | None = None) -> str:
    """Text of the agent's, which may be a peer's, for a table or a line of Rich's."""
    from rich.markup import escape

    shown = printable(text)
    return escape(shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…")


def _history(history: dict[str, Any]) -> str:
    full = history["used_bytes"] / max(history["limit_bytes"], 1)
    lag = f" · {history['lag']} records behind" if history["lag"] else ""
    return (
        f"history {percent(full)} of {size(history['limit_bytes'])}"
        f" · {counted(history['records'], 'record')} of {counted(history['series'], 'stream')}{lag}"
    )


def _undated(status: dict[str, Any]) -> str:
    # An agent of an earlier version does not say.
    undated = status["streams"].get("undated", 0)
    return f" ({undated} with no time key: dated on arrival)" if undated else ""


def _scrub(store: dict[str, Any]) -> str:
    # An agent of an earlier version has none.
    finished, blocks = store.get("scrub_finished"), store.get("scrub_blocks", 0)
    if finished:
        return f" · all of it read and checked by {finished}"
    return f" · {amount(blocks)} blocks read and checked so far" if blocks else ""


def _figures(figures: dict[str, Any]) -> Any:
    now, ever = figures["now"], figures["since_start"]
    table = _table("", ("now", True), ("since start", True))
    for title, key in (("R received", "received"), ("R forwarded", "forwarded")):
        table.add_row(title, _rate(now[key]), _rate(ever[key]))
    others = (("Q answers per", "queries_per_s"), ("E records per CPU", "records_per_cpu_s"))
    for title, key in others:
        table.add_row(f"{title} second", amount(now[key]), amount(ever[key]))
    table.add_row("CPU", percent(now["cpu"]), percent(ever["cpu"]))
    return table


def _upstreams(status: dict[str, Any]) -> Any:
    if not status["upstreams"]:
        return None
    table = _table(
        "upstream",
        ("phase", False),
        ("backlog", True),
        ("forwarded", True),
        ("takes", True),
        ("", False),
    )
    for one in status["upstreams"]:
        table.add_row(
            _text(one["name"]),
            _text(phase(one["phase"], one["retry_in_s"], one.get("outlook"))),
            amount(one["backlog_records"]),
            amount(one["acknowledged_records"]),
            # An agent of an earlier version does not say.
            taken(one.get("records_per_s"), one.get("bytes_per_s")),
            _text(one["error"] or "", 60),
        )
    return table


def _logs(status: dict[str, Any]) -> Any:
    table = _table(
        "log",
        ("share", True),
        ("records", True),
        ("size", True),
        ("discarded", True),
        ("thinned", True),
    )
    for log in status["logs"]:
        table.add_row(
            _text(log["name"]),
            percent(log["fill"]),
            amount(log["records"]),
            size(log["bytes"]),
            amount(log["discarded"]),
            # An agent of an earlier version knows of none.
            amount(log.get("thinned", 0)),
        )
    return table


def _card(status: dict[str, Any]) -> Any:
    wear = status["wear"]
    # An agent of an earlier version does not tell its pages.
    pages = status["store"].get("page_bytes", 0)
    table = _table(
        "written to the card" + (f", in pages of {size(pages)}" if pages else ""),
        ("a day", True),
        ("by everybody", True),
        ("a commit", True),
        ("per byte kept", True),
    )
    for title, key in (("last hour", "hour"), ("last 24 h", "day"), ("since start", "since_start")):
        stretch = wear[key]
        table.add_row(
            title,
            size(stretch["written_per_day"], 1000),
            size(stretch["card_per_day"], 1000),
            size(stretch["bytes_per_commit"], 1000),
            ratio(stretch["amplification"]),
        )
    return table


def _alarms(status: dict[str, Any]) -> Iterator[str]:
    # An agent of an earlier version has none.
    alarms = status.get("alarms", [])
    for one in alarms[:_ALARMS_SHOWN]:
        value = "" if one["value"] is None else f" ({one['value']:.6g})"
        told = f"{one['rule']}, {one['meaning']}: {one['stream']}{value}"
        yield f"alarm {told}, since {one['since']}"
    if len(alarms) > _ALARMS_SHOWN:
        yield f"and {amount(len(alarms) - _ALARMS_SHOWN)} more alarms"


def _outlook(status: dict[str, Any]) -> Iterator[str]:
    for log in status["logs"]:
        if log["outlook"]:
            yield f"log {log['name']}: {log['outlook']}"
    for one in status["upstreams"]:
        if one["outlook"]:
            yield f"{one['name']}: {one['outlook']}"
        if (waits := bridging(one)) is not None:
            yield f"{one['name']}: {waits}"
        if one.get("expired_records"):
            yield f"{one['name']}: {amount(one['expired_records'])} records were too old to be sent"
        # An agent of an earlier version has none, and does not tell its lanes' limits.
        yield from (f"{one['name']}: {resending(told)}" for told in one.get("resends", ()))
        for lane in one.get("lanes", ()):
            yield from (f"{one['name']}, log {lane['log']}: {told}" for told in limits(lane))
            if lane.get("part") == "backlog":
                behind = amount(lane["backlog_records"])
                yield f"{one['name']}, log {lane['log']}: {behind} records go beside newer ones"
    yield from status["wear_outlook"]


def _refused(status: dict[str, Any]) -> Iterator[str]:
    # An agent of an earlier version tells of none.
    for one in status.get("refused", [])[:_REFUSED_SHOWN]:
        yield (
            f"refused {one['address'] or 'a peer'} at {one['port']}, {often(one['count'])},"
            f" last {duration(one['last_s'])} ago: {one['sentence']}"
        )


def _table(first: str, *columns: tuple[str, bool]) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    table.add_column(first)
    for title, number in columns:
        table.add_column(title, justify="right" if number else "left")
    return table


def _rate(rate: dict[str, float]) -> str:
    return f"{amount(rate['records_per_s'])}/s  {size(rate['bytes_per_s'])}/s"
