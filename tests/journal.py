"""journald's socket, as far as the audit is concerned: what was written to it, field by field."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.security import audit


class JournalSocket:
    """A socket that takes what journald would."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def lines(self) -> list[dict[str, str]]:
        """The fields of each line since this was called last."""
        found: list[dict[str, str]] = []
        while True:
            try:
                text = self._socket.recv(65_536).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.splitlines()))

    def orders(self) -> list[tuple[str, ...]]:
        """The same, shorter: order, who, from, what and outcome of each."""
        keys = ("ORDER", "WHO", "FROM", "WHAT", "OUTCOME")
        return [tuple(one[f"EDGE_AGENT_{key}"] for key in keys) for one in self.lines()]

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()


@contextmanager
def journald(folder: Path) -> Iterator[JournalSocket]:
    """Have the audit of this process written to a socket in ``folder``."""
    path = folder / "journal.socket"
    made = JournalSocket(path)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(audit, "JOURNAL", path)
            yield made
    finally:
        made.close()
        path.unlink()
