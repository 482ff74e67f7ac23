"""The last lines that the agent wrote to its journal, for people who look at the page.

Who looks at a page has no shell open beside it. What is kept is bounded in lines and characters,
and is what the journal has: no secret of ours is in it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from edge_agent.output.printable import printable

#: Lines that are kept, and characters of each.
KEPT: Final = 30
CHARACTERS_MAX: Final = 400
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One line. ``when_ns`` is wall clock, ``level`` as Python names it: INFO, WARNING, ERROR."""

    when_ns: int
    level: str
    text: str


class JournalTail(logging.Handler):
    """Keeps them; of a traceback, what the message says before it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[JournalLine] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Called by the library for each line, by whichever thread writes it."""
        try:
            text = printable(record.getMessage())
        except Exception:  # noqa: BLE001 - the library's own way: what is logged ends nobody
            self.handleError(record)
            return
        if len(text) > CHARACTERS_MAX:
            text = text[: CHARACTERS_MAX - 1] + "…"
        self._lines.append(JournalLine(int(record.created * _NS), record.levelname, text))

    def newest_first(self) -> tuple[JournalLine, ...]:
        """What is kept."""
        return tuple(reversed(self._lines))

    @contextmanager
    def attached(self, name: str = "edge_agent") -> Iterator[None]:
        """Around the time in which the lines of the logger ``name`` are kept."""
        logger = logging.getLogger(name)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
