"""Parts that the commands share that send records: options, and the way trouble is told."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from edge_agent.cli.common import Failure, certificate_advice, is_service, sudo_advice
from edge_agent.client import Trouble
from edge_agent.output.printable import printable

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Exit codes of sysexits.h: some data was refused; the agent wants another token.
EX_DATAERR = 65
EX_UNAVAILABLE = 69
EX_NOPERM = 77


def buffer_option(function: Decorated) -> Decorated:
    """``--buffer FILE``, given as ``buffer``."""
    return click.option(
        "--buffer",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Keep what is not acked in FILE, through restarts and power cuts.",
    )(function)


def hint(trouble: Trouble) -> str:
    """What to do about ``trouble``, behind its message; "" where that says enough."""
    if trouble.status in (401, 403):
        return f" (try {sudo_advice()}--token-file FILE, with a token's secret in it)"
    if "certificate verify failed" in trouble.message.lower():
        return f" ({certificate_advice(trouble.message)})"
    if "refused" in trouble.message.lower() and not trouble.status and not trouble.code:
        return " (is the agent running there?)"
    return ""


def failure_of(trouble: Trouble) -> Failure | None:
    """What ends a command at once, with what to do: a fault that no waiting mends."""
    return Failure(f"{trouble.message}{hint(trouble)}", EX_NOPERM) if trouble.lasting else None


def told_counts(acked: int, unacked: int, *, kept: bool) -> str:
    """How a sensor ended: what was acked, and what became of the rest."""
    lost = unacked and not kept
    rest = f"{unacked} lost (--buffer FILE keeps them)" if lost else f"{unacked} kept"
    return f"{acked} records acked, {rest}"


def host_name() -> str:
    """This machine's name in the letters that names of streams and sources have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname()).strip(".")[:100] or "host"


def ingest_url(url: str, stream: str | None) -> str:
    """The URL to send to, of a base URL and a stream, or of a whole one.

    Raises:
        Failure: the stream is missing, or named twice; or it is no URL.
    """
    try:
        path = urlsplit(url).path.rstrip("/")
    except ValueError:
        path = url
    if path.startswith("/ingest/"):
        if stream and path != f"/ingest/{stream}":
            raise Failure(f"--url already names a stream ({path}); leave --stream out", 2)
        return url
    if path:
        raise Failure(f"--url: expected ws://HOST:PORT or …/ingest/STREAM, found {url!r}", 2)
    if not stream:
        raise Failure("say which stream: --stream greenhouse/1", 2)
    return f"{url.rstrip('/')}/ingest/{stream}"


@dataclass(slots=True)
class Diary:
    """Tells trouble on stderr, each kind once in a row, so that a long outage is one line.

    A fault that no waiting mends ends a sensor that has not been connected yet, for whoever has
    just started it. A service tries on, as all that it needs may be mended on the other side; and
    so does one that was connected, for what it has read meanwhile.
    """

    quiet: bool = False
    tries_on: bool = field(default_factory=is_service)
    _last: str = ""

    def trouble(self, trouble: Trouble) -> None:
        """For `Producer`'s ``on_error``, all but nacks.

        Raises:
            Failure: the sensor ends; through `Producer` to whoever opened it.
        """
        if not self.tries_on and (failure := failure_of(trouble)) is not None:
            raise failure
        if trouble.message != self._last:
            self._last = trouble.message
            self.say(f"{trouble.message}{hint(trouble)}; trying again")

    def refused(self, trouble: Trouble, what: str) -> bool:
        """For ``on_error`` where ``what`` the agent refuses stays in its quarantine: tell trouble;
        whether it was that.
        """
        if trouble.kind != "nack":
            self.trouble(trouble)
            return False
        self.say(f"the agent has put a {what} in quarantine: {trouble.message}")
        return True

    def opened(self) -> None:
        """There is a session again; only worth a line after trouble."""
        self.tries_on = True
        if self._last:
            self._last = ""
            self.say("connected")

    def say(self, line: str) -> None:
        """One line on stderr."""
        if not self.quiet:
            print(f"edge-agent: {printable(line)}", file=sys.stderr, flush=True)
