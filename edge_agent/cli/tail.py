"""``edge-agent tail``: the latest records, and with ``-f`` those to come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from edge_agent.cli.agent_http import AGES, AgentAddress, filter_option, question, url_options
from edge_agent.cli.common import STREAM_PATTERN
from edge_agent.cli.output import line
from edge_agent.errors import ProtocolError
from edge_agent.output.printable import json_text
from edge_agent.values.field_path import MISSING
from edge_agent.values.field_paths import parse_paths

_Pick = Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]]


@click.command()
@click.argument("pattern", type=STREAM_PATTERN, default="**")
@url_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C.")
@click.option("--from", "from_", metavar="TIME", help="From there on, instead of the latest.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many of the latest.",
)
@filter_option
@click.option("--fields", metavar="FIELD,…", help="These alone, such as t,params.x.")
@click.option(
    "--step", metavar="DURATION", help="With -f: a record a stream and step, such as 10s."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    pattern: str,
    agent: AgentAddress,
    follow: bool,
    from_: str | None,
    lines: int,
    wanted: str | None,
    fields: str | None,
    step: str | None,
    as_json: bool,
) -> None:
    """Show the latest records of the streams that match PATTERN.

    In PATTERN * stands for one part of a name, ** for any number of parts. With --step, of each
    stream the last record of each step is shown, and how many it stands for; without it, all are.
    """
    if step is not None and not follow:
        raise click.UsageError("--step goes with -f: it is about what arrives")
    pick = _picker(fields)
    live = question(stream=pattern, from_=from_, filter=wanted, step=step, fields=fields)
    shown: Iterable[dict[str, Any]]
    if follow and from_ is not None:
        shown = agent.live(live)
    elif follow:
        stored = latest(agent, pattern, wanted, lines, oldest="-1h")
        shown = _and_then(agent, stored, pick, live)
    elif from_ is not None:
        parameters = question(stream=pattern, from_=from_, filter=wanted)
        pages = agent.pages(parameters, None)
        shown = pick(one for page in pages for one in page["records"])
    else:
        shown = pick(latest(agent, pattern, wanted, lines))
    try:
        for record in shown:
            print(json_text(record) if as_json else line(record), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read this, `head` for one, has seen enough.
        sys.stderr.close()


def latest(
    agent: AgentAddress, pattern: str, wanted: str | None, most: int, *, oldest: str | None = None
) -> list[dict[str, Any]]:
    """The ``most`` newest records, oldest first; none older than ``oldest`` (an age)."""
    if not most:
        return []
    ages = AGES if oldest is None else AGES[: AGES.index(oldest)]
    parameters = question(stream=pattern, filter=wanted)
    records, _ = agent.newest(parameters, most, (*ages, oldest))
    return records[::-1]


def _and_then(
    agent: AgentAddress,
    stored: Iterable[dict[str, Any]],
    pick: _Pick,
    parameters: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """The stored records, then those to come, from the position behind the last one on."""
    for record in stored:
        parameters["from"] = f"{record.get('log', 'main')}:{record['seq'] + 1}"
        yield from pick([record])
    yield from agent.live(parameters)


def _picker(text: str | None) -> _Pick:
    """What leaves of records the fields ``text`` alone, and out those that have none of them: as a
    live view does, for those that were stored before it.
    """
    if text is None:
        return iter
    try:
        paths = parse_paths(text)
    except ProtocolError as error:
        raise click.UsageError(f"--{error.message}") from error

    def pick(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            found = {
                path.text: value
                for path in paths
                if (value := path.of(record["fields"])) is not MISSING
            }
            if found:
                yield {**record, "fields": found}

    return pick
