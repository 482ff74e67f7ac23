"""The command and its loop: ask, draw, wait for a second or for a key."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from edge_agent.cli.agent_http import AgentAddress, url_options
from edge_agent.cli.common import STREAM_PATTERN, Failure
from edge_agent.cli.top.keys import Keys
from edge_agent.cli.top.picture import AgentMoment, Line, Screen, UpstreamRates, draw
from edge_agent.output.printable import json_text

_EVERY_S = 1.0
#: Where an answer takes long, for ten thousand streams, so much longer is waited for the next one.
_PATIENCE = 10


@click.command()
@click.argument("pattern", type=STREAM_PATTERN, default="**")
@url_options
@click.option(
    "--sort", type=click.Choice(["rate", "name"]), default="rate", show_default=True, help="Order."
)
@click.option("--once", is_flag=True, help="One picture, and the end; also where no terminal is.")
@click.option("--json", "as_json", is_flag=True, help="What one picture is made of, as JSON.")
def command(pattern: str, agent: AgentAddress, sort: str, once: bool, as_json: bool) -> None:
    """Show streams with rates and last values, upstreams, store and health, anew each second.

    In PATTERN * stands for one part of a stream's name, ** for any number of parts. Keys: q quits,
    s sorts by rate or by name, r reverses the order. NO_COLOR=1 leaves colours out.
    """
    from rich.console import Console

    # Lines are cut to the width here, and are not to be wrapped anywhere.
    console = Console(highlight=False, soft_wrap=True)
    top = _Top(agent, pattern, sort)
    if as_json:
        click.echo(json_text(top.ask(), indent=2))
        return
    screen = Screen(console.width, console.height, _has_blocks(console.encoding))
    if once or not console.is_terminal:
        # Paper is as long as it has to be.
        moment = top.look()
        lines = draw(moment, Screen(screen.width, 1_000_000, screen.unicode), sort)
        for line in lines:
            console.print(_text(line))
        return
    try:
        top.run(console)
    except KeyboardInterrupt:
        sys.exit(130)


class _Top:
    """Asks, remembers what rates are made of, and draws."""

    def __init__(self, agent: AgentAddress, pattern: str, sort: str) -> None:
        self._agent = agent
        self._pattern = pattern
        self._sort = sort
        self._reverse = False
        self._rates = UpstreamRates()
        self._took_s = 0.0

    def ask(self) -> dict[str, Any]:
        """What a picture is made of.

        Raises:
            Failure: no agent answers; says what to do.
        """
        status = self._agent.json("/api/status", told="agent")
        streams = self._agent.json("/api/streams", {"stream": self._pattern}, told="streams")
        if any("last" not in one for one in streams["streams"]):
            raise Failure(
                f"{self._agent.url} is an agent of an earlier version: without last values"
            )
        return {"status": status, "streams": streams["streams"]}

    def look(self) -> AgentMoment:
        """The moment that is drawn. Raises Failure likewise."""
        began_s = time.monotonic()
        found = self.ask()
        self._took_s = time.monotonic() - began_s
        rates = self._rates.note(found["status"])
        return AgentMoment(found["status"], found["streams"], rates)

    def run(self, console: Any) -> None:
        """Draw until somebody quits; while the agent is away, its last picture with the reason.

        Raises:
            Failure: there is no agent to begin with.
        """
        from rich.console import Group
        from rich.live import Live

        moment = self.look()
        with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                # Looked up each time: windows change their size.
                screen = Screen(console.width, console.height, _has_blocks(console.encoding))
                lines = draw(moment, screen, self._sort, reverse=self._reverse, has_keys=True)
                live.update(Group(*map(_text, lines)), refresh=True)
                key = keys.wait(max(_EVERY_S, _PATIENCE * self._took_s))
                if key in ("q", "Q"):
                    return
                self._obey(key)
                if not key:
                    moment = self._next(moment)

    def _next(self, moment: AgentMoment) -> AgentMoment:
        try:
            return self.look()
        except Failure as failure:
            told = failure.format_message()
            return AgentMoment(moment.status, moment.streams, moment.upstream_rates, told)

    def _obey(self, key: str) -> None:
        if key == "s":
            self._sort = "name" if self._sort == "rate" else "rate"
        elif key == "r":
            self._reverse = not self._reverse


def _text(line: Line) -> Any:
    from rich.text import Text

    return Text(line[0], style=line[1], no_wrap=True, overflow="crop")


def _has_blocks(encoding: str) -> bool:
    try:
        return bool("▁█…·".encode(encoding))
    except (LookupError, UnicodeEncodeError):
        return False
