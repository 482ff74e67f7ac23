"""What the commands that send records share: options, and the manner of telling trouble."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.cli.common import Decorated, Failure, port_options
from edge_agent.client import Trouble

DEFAULT_URL = "ws://127.0.0.1:8765"
#: Exit codes of sysexits.h: some data was refused; the agent wants another token.
EX_DATAERR = 65
EX_UNAVAILABLE = 69
EX_NOPERM = 77


def agent_options(function: Decorated) -> Decorated:
    """``--url``, ``--token-file``, ``--ca-file`` of the sensors' port."""
    return port_options(
        function,
        url=DEFAULT_URL,
        variable="EDGE_AGENT_SENSOR_URL",
        port="The agent's sensor port; a path /ingest/STREAM may follow.",
        token="the scope that this needs",
        scheme="wss",
    )


def read_token(token_file: Path | None) -> str | None:
    """The token in the file, or None."""
    return None if token_file is None else token_file.read_text().strip()


def ingest_url(url: str, stream: str | None) -> str:
    """The URL to send to, of a base URL and a stream, or of a whole one.

    Raises:
        Failure: the stream is missing, or named twice.
    """
    path = urlsplit(url).path.rstrip("/")
    if path.startswith("/ingest/"):
        if stream is not None and path != f"/ingest/{stream}":
            raise Failure(f"--url already names a stream ({path}); leave --stream out", 2)
        return url
    if path:
        raise Failure(f"--url: expected ws://HOST:PORT or …/ingest/STREAM, found {url!r}", 2)
    if stream is None:
        raise Failure("say which stream: --stream greenhouse/1", 2)
    return f"{url.rstrip('/')}/ingest/{stream}"


@dataclass(slots=True)
class Diary:
    """Tells trouble on stderr, each kind once in a row, so that a long outage is one line."""

    quiet: bool = False
    _last: str = ""

    def trouble(self, trouble: Trouble) -> None:
        """For `Producer`'s ``on_error``, all but nacks."""
        if trouble.message != self._last:
            self._last = trouble.message
            self.say(f"{trouble.message}; trying again")

    def opened(self) -> None:
        """There is a session again; only worth a line after trouble."""
        if self._last:
            self._last = ""
            self.say("connected")

    def say(self, line: str) -> None:
        """One line on stderr."""
        if not self.quiet:
            print(f"edge-agent: {line}", file=sys.stderr, flush=True)
