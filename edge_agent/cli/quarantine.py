"""``edge-agent quarantine``: what could not be used, and what becomes of it.

Works on a running agent, through its people's port, and on the store of one that does not run.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from edge_agent.cli.common import Failure, Family, json_option, yes_option
from edge_agent.cli.output import print_columns
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.store_access import Reached, agreed, reach, reach_options
from edge_agent.ops.text import size
from edge_agent.output.printable import json_text, printable
from edge_agent.values.record import format_time

#: Entries asked for, and settled, at a time.
_PAGE = 500


@click.group(cls=Family)
def command() -> None:
    """Show, replay or drop what could not be used."""


@command.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="At most so many.",
)
@json_option
@reach_options
def list_(limit: int, *, as_json: bool, **where: Any) -> None:
    """Show what is in quarantine, oldest first."""
    entries = list(_entries(reach(**where), limit))
    if as_json:
        click.echo(json_text(entries, indent=2))
        return
    rows = [
        [
            str(one["number"]),
            format_time(one["arrival_ns"])[:19],
            one["stream"],
            one["source"],
            size(one["bytes"]),
            one["code"],
            one["reason"],
        ]
        for one in entries
    ]
    if rows:
        heading = ("number", "arrived", "stream", "source", "size", "code", "reason")
        print_columns(heading, rows, sys.stdout)
    else:
        click.echo("quarantine is empty", err=True)


@command.command()
@click.argument("number", type=click.IntRange(1))
@json_option
@reach_options
def show(number: int, *, as_json: bool, **where: Any) -> None:
    """Show entry NUMBER with what was sent, its first 4 KiB."""
    found = reach(**where).quarantined(number - 1, 1)
    if not found or found[0]["number"] != number:
        raise Failure(f"there is no entry {number} in quarantine")
    (one,) = found
    if as_json:
        click.echo(json_text(one, indent=2))
        return
    keys = ["number", "code", "reason", "stream", "source", "source_number"]
    # An agent of an earlier version notes none of these.
    keys += [key for key in ("consumer", "log", "seq") if one.get(key)]
    for key in keys:
        click.echo(f"{key.replace('_', ' '):<14} {printable(str(one[key]))}")
    click.echo(f"{'arrived':<14} {format_time(one['arrival_ns'])}")
    ((form, body),) = one["body"].items()
    click.echo(f"{'sent, ' + form:<14} {printable(body)}")


@command.command()
@click.argument("numbers", nargs=-1, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="Everything that is there now.")
@json_option
@reach_options
def replay(numbers: tuple[int, ...], *, everything: bool, as_json: bool, **where: Any) -> None:
    """Read entries again, as if they had just arrived; those that can be used now are stored.

    For use after a limit or a rule has changed. Entry and record change places in one commit.

    What an upstream refused (code upstream_…) is stored already: it is sent to that upstream again,
    as long as its log holds it, and leaves quarantine when the upstream has taken it.
    """
    _settle("replay", numbers, everything, as_json, where)


@command.command()
@click.argument("numbers", nargs=-1, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="Everything that is there now.")
@click.option("--before", type=click.IntRange(1), metavar="NUMBER", help="All below NUMBER.")
@yes_option
@json_option
@reach_options
def drop(
    numbers: tuple[int, ...],
    *,
    everything: bool,
    before: int | None,
    yes: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Remove entries for good."""
    # Asked first: nobody agrees to drop what was not named.
    _one_way(bool(numbers) or before is not None, everything)
    what = "everything" if everything else f"{len(numbers)} entries"
    agreed(f"Drop {f'all before {before}' if before else what} for good?", yes=yes)
    if before is not None:
        there = _entries(reach(**where), sys.maxsize)
        numbers = (*numbers, *(one["number"] for one in there if one["number"] < before))
        if not numbers:
            click.echo("nothing to do", err=True)
            return
    _settle("drop", numbers, everything, as_json, where)


def _one_way(named: bool, everything: bool) -> None:
    if named == everything:
        raise click.UsageError("name entries by their NUMBER, or say --all")


def _settle(
    order: Any, numbers: Sequence[int], everything: bool, as_json: bool, where: dict[str, Any]
) -> None:
    from edge_agent.ops.orders.orders import QuarantineOrder

    _one_way(bool(numbers), everything)
    target = reach(**where)
    wanted = list(numbers)
    if everything:
        wanted = [one["number"] for one in _entries(target, sys.maxsize)]
    done: list[dict[str, Any]] = []
    with ProgressBar(f"{order} {len(wanted)}", len(wanted)) as bar:
        for begin in range(0, len(wanted), _PAGE):
            page = tuple(wanted[begin : begin + _PAGE])
            done += target.settle(QuarantineOrder(order, page))
            bar.show(len(done), f"{len(done)}")
    if as_json:
        click.echo(json_text(done, indent=2))
    else:
        _tell(order, done)
    if any(not one["done"] for one in done):
        raise Failure("some are still in quarantine")


def _tell(order: str, done: Sequence[dict[str, Any]]) -> None:
    for one in done:
        if not one["done"]:
            click.echo(f"{one['number']}: still there: {printable(one['problem'])}")
    settled = [one for one in done if one["done"]]
    if order == "drop":
        click.echo(f"{len(settled)} dropped")
        return
    theirs = Counter(one["upstream"] for one in settled if "upstream" in one)
    for upstream, count in theirs.items():
        click.echo(f"{count} on their way to upstream {upstream} again, and here until it has them")
    ours = [one for one in settled if "upstream" not in one]
    if ours or not theirs:
        records = sum(one["records"] for one in ours)
        click.echo(f"{len(ours)} read again: {records} records stored")


def _entries(target: Reached, limit: int) -> Iterator[dict[str, Any]]:
    after = 0
    while limit > 0 and (page := target.quarantined(after, min(limit, _PAGE))):
        yield from page
        limit -= len(page)
        after = page[-1]["number"]
