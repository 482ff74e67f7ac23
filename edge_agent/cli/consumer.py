"""``edge-agent consumer``: how far each upstream has come, and a person's hand on it.

Works on a running agent, through its people's port, and on the store of one that does not run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.common import Family, json_option, yes_option
from edge_agent.cli.output import print_columns
from edge_agent.cli.store_access import agreed, reach, reach_options
from edge_agent.ops.text import amount
from edge_agent.output.printable import json_text

if TYPE_CHECKING:
    from edge_agent.forward import Order

_log_option = click.option("--log", metavar="LOG", help="In this log alone. [all logs]")


@click.group(cls=Family)
def command() -> None:
    """Show, pause, rewind and skip what goes upstream."""


@command.command("list")
@json_option
@reach_options
def list_(*, as_json: bool, **where: Any) -> None:
    """Show every consumer of every log and how far it has come."""
    _show(reach(**where).consumers(), as_json=as_json)


@command.command()
@click.argument("name")
@_log_option
@json_option
@reach_options
def pause(name: str, log: str | None, *, as_json: bool, **where: Any) -> None:
    """Send nothing more to NAME until it is resumed, across restarts too.

    What comes in is kept for it as long as its log keeps anything.
    """
    _move("pause", name, log, None, as_json, where)


@command.command()
@click.argument("name")
@_log_option
@json_option
@reach_options
def resume(name: str, log: str | None, *, as_json: bool, **where: Any) -> None:
    """Go on sending to NAME; also where it had stopped because all it was sent was refused."""
    _move("resume", name, log, None, as_json, where)


@command.command()
@click.argument("name")
@click.option("--to", metavar="SEQ|TIME|start", required=True, help="The first to be sent again.")
@_log_option
@yes_option
@json_option
@reach_options
def rewind(name: str, to: str, log: str | None, *, yes: bool, as_json: bool, **where: Any) -> None:
    """Send NAME again what it has acknowledged, from a record or a time on.

    It will have those records twice: another agent stores them a second time, an HTTP server gets
    them in other batches and can tell them by their id.
    """
    agreed(f"Send again everything from {to} on, which {name} will then have twice?", yes=yes)
    _move("rewind", name, log, to, as_json, where)


@command.command()
@click.argument("name")
@click.option("--to", metavar="SEQ|TIME|end", required=True, help="The first to be sent.")
@_log_option
@yes_option
@json_option
@reach_options
def skip(name: str, to: str, log: str | None, *, yes: bool, as_json: bool, **where: Any) -> None:
    """Never send NAME what comes before a record or a time. Counted as discarded."""
    agreed(f"{name} will never get what comes before {to}, if it lacks it. Skip it?", yes=yes)
    _move("skip", name, log, to, as_json, where)


@command.command()
@click.argument("name")
@_log_option
@yes_option
@json_option
@reach_options
def forget(name: str, log: str | None, *, yes: bool, as_json: bool, **where: Any) -> None:
    """Remove the position of NAME, which is no longer configured.

    If it is configured again, it begins with the oldest record that is still there.
    """
    agreed(f"Forget how far {name} had come?", yes=yes)
    _move("forget", name, log, None, as_json, where)


def _move(
    order: Order, name: str, log: str | None, to: str | None, as_json: bool, where: dict[str, Any]
) -> None:
    from edge_agent.ops.orders.orders import ConsumerOrder

    _show(reach(**where).move(ConsumerOrder(order, name, log, to)), as_json=as_json)


def _show(consumers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(consumers, indent=2))
        return
    rows = [
        [
            one["consumer"],
            one["log"],
            str(one["floor"]),
            str(one["last"]),
            amount(one["backlog"]),
            amount(one["skipped"]),
            _state(one),
        ]
        for one in consumers
    ]
    if rows:
        heading = ("consumer", "log", "floor", "last", "backlog", "skipped", "")
        print_columns(heading, rows, sys.stdout)
    else:
        click.echo("no consumers", err=True)


def _state(one: dict[str, Any]) -> str:
    if not one["configured"]:
        return "not configured: holds nothing"
    return "paused" if one["paused"] else ""
