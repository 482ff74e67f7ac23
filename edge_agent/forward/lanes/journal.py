"""A lane's journal writes a line for each change of cause, and one for the recovery.

``connection refused → 401 → 500 → recovered`` are four lines; a thousand times the same are one,
and so are a thousand answers that differ in a request's number only. Each cause gets a line every
`TOLD_EVERY_S` at most, with how often it was met meanwhile.
"""

from __future__ import annotations

import logging
import re
from typing import Final

import trio

from edge_agent.errors import EdgeAgentError, SinkError

#: One line of the same cause.
TOLD_EVERY_S: Final = 600.0
#: Causes that are remembered; further ones wait until older ones are forgotten.
CAUSES_MAX: Final = 20
_CAUSE_SHOWN: Final = 60
_CHANGING = re.compile(r"[0-9a-fA-F]*[0-9][0-9a-fA-F]*")


def cause_of(error: EdgeAgentError) -> str:
    """What errors have in common that say the same: the status, or the words without numbers."""
    kind = type(error).__name__
    if isinstance(error, SinkError) and error.status:
        return f"{kind} {error.status}"
    return f"{kind} {_CHANGING.sub('#', str(error))[:_CAUSE_SHOWN]}"


class Journal:
    """One lane's; ``who`` begins each line."""

    def __init__(self, logger: logging.Logger, who: str) -> None:
        self._logger, self._who = logger, who
        #: By cause: when it was told, and how often it was met since.
        self._told: dict[str, tuple[float, int]] = {}
        self._present = ""
        self._since = 0.0
        self._recovered_at = float("-inf")

    def failed(self, cause: str, sentence: str, level: int = logging.WARNING) -> None:
        """Nothing gets through, for ``cause``; the words of a cause do not change."""
        if not self._present:
            self._since = trio.current_time()
        is_news, self._present = cause != self._present, cause
        self._tell(cause, sentence, level, is_news=is_news)

    def noted(self, cause: str, sentence: str) -> None:
        """Something that a person should know, though it goes on."""
        self._tell(cause, sentence, logging.WARNING, is_news=True)

    def _tell(self, cause: str, sentence: str, level: int, *, is_news: bool) -> None:
        now = trio.current_time()
        when, met = self._told.get(cause, (float("-inf"), 0))
        is_due = is_news and now - when >= TOLD_EVERY_S
        if is_due and (cause in self._told or self._forget(now)):
            self._told[cause] = (now, 0)
            more = f" ({met} times more since it was told before)" if met else ""
            self._logger.log(level, "%s: %s%s", self._who, sentence, more)
            return
        if cause in self._told:
            self._told[cause] = (when, met + 1)
        self._logger.debug("%s: %s", self._who, sentence)

    def recovered(self) -> None:
        """The upstream has taken something."""
        if not self._present:
            return
        now, self._present = trio.current_time(), ""
        if now - self._recovered_at >= TOLD_EVERY_S or self._recovered_at < self._newest_told():
            self._recovered_at = now
            text = "%s: it takes records again, after %.0f s"
            self._logger.warning(text, self._who, now - self._since)

    def _newest_told(self) -> float:
        return max((when for when, _ in self._told.values()), default=float("-inf"))

    def _forget(self, now: float) -> bool:
        """Make room for one cause more; whether there is any."""
        if len(self._told) < CAUSES_MAX:
            return True
        for cause, (when, _) in list(self._told.items()):
            if now - when >= TOLD_EVERY_S:
                del self._told[cause]
        return len(self._told) < CAUSES_MAX
