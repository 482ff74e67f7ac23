"""``edge-agent rules test``: what a configuration's rules make of records, without an agent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from edge_agent.cli.common import STREAM_NAME, Failure, Family
from edge_agent.errors import ConfigError
from edge_agent.output.printable import printable

if TYPE_CHECKING:
    from edge_agent.config import Config
    from edge_agent.rules import Tried

#: A configuration that cannot be used; here it is what the command was given to try.
_BAD_CONFIGURATION = 2


@click.group(cls=Family)
def command() -> None:
    """Try the rules of a configuration."""


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--input", "lines", metavar="LINES", type=click.File("r", encoding="utf-8"), default="-",
    help="JSON, one message a line, as sensors send them. [stdin]",
)  # fmt: skip
@click.option(
    "--stream",
    metavar="NAME",
    type=STREAM_NAME,
    help="Where they are sent. [one that the first rule is for]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a record.")
def test(file: Path, lines: IO[str], stream: str | None, as_json: bool) -> None:
    """Show what the rules in FILE make of records, and store nothing.

    Under each record stands what would be stored (=), which rule would leave it out (-), or why it
    would go to quarantine (!). Windows and alarms are not tried. Exit code 2 where FILE cannot be
    used.
    """
    from edge_agent.cli.run import settings_of
    from edge_agent.output.render import encode_json

    try:
        settings = settings_of(file)
        tried = _tried(settings, lines, stream)
        untried = [rule.name for rule in settings.rule if rule.acts_after]
    except ConfigError as error:
        raise Failure(str(error), _BAD_CONFIGURATION) from error
    if untried:
        names = ", ".join(untried)
        click.echo(f"not tried, as they act after storing: {names}", err=True)
    for number, each in enumerate(tried, 1):
        if as_json:
            click.echo(encode_json(_told(number, each)).decode())
            continue
        shown = "cannot be read" if each.sent is None else encode_json(each.sent).decode()
        click.echo(printable(f"{number} {each.stream} {shown}"))
        for one in each.stored:
            fields = encode_json(one.fields).decode()
            click.echo(printable(f"  = {one.stream} {one.time} {fields}"))
        for rule, why in each.left_out:
            click.echo(printable(f"  - left out by the rule {rule}: {why}"))
        for code, reason in each.set_aside:
            click.echo(printable(f"  ! quarantine, {code}: {reason}"))
        sys.stdout.flush()


def _tried(config: Config, lines: IO[str], stream: str | None) -> Iterator[Tried]:
    """What becomes of each record.

    Raises:
        ConfigError: at once, a rule cannot be used.
    """
    from time import perf_counter

    from edge_agent.metrics import Metrics
    from edge_agent.rules import Trial, compile_rules, stream_for
    from edge_agent.system.clock import SystemClock
    from edge_agent.values.stream_names import stream_problem
    from edge_agent.wire import Arrival, WireLimits

    limits = config.limits
    rules = compile_rules(config.rule, Metrics(), limits=limits, timer=perf_counter)
    name = stream or stream_for(config.rule)
    problem = stream_problem(name)
    if problem is not None:
        raise Failure(f"--stream: {problem}", 2)
    trial, clock = Trial(rules, WireLimits.of(limits)), SystemClock()

    def each() -> Iterator[Tried]:
        for line in filter(str.strip, lines):
            arrival = Arrival(name, "trial", clock.read().wall_ns, True, None, rules.time_key)
            yield from trial.try_message(line.strip(), arrival)

    return each()


def _told(number: int, tried: Tried) -> dict[str, Any]:
    return {
        "number": number,
        "stream": tried.stream,
        "sent": tried.sent,
        "stored": [
            {"stream": one.stream, "time": one.time, "fields": one.fields} for one in tried.stored
        ],
        "left_out": [{"rule": rule, "why": why} for rule, why in tried.left_out],
        "quarantine": [{"code": code, "reason": reason} for code, reason in tried.set_aside],
    }
