"""A `Pump` moves what one connection sends into the log, and tells it what became of that.

Here is what sessions and plain connections have in common: their debts, their share of what may be
in flight, and one way to end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import trio

from edge_agent.commit import Closed
from edge_agent.errors import ProtocolError
from edge_agent.server.acks import Answers, Owed
from edge_agent.server.closing import LastWords, NotNow, close_of, not_now
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.websocket import WebSocket
from edge_agent.wire import TooBigMessage

#: Of the time that a close may take, this part is for what was accepted to be committed and acked;
#: the rest is for the close itself.
SETTLE_PART = 0.75


class Pump(ABC):
    """One connection's. `run` is called once; `Answers` calls `tell`, `refused` and `fail`."""

    def __init__(self, socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
        self._socket, self._parts, self._visitor = socket, parts, visitor
        self._limits = parts.wire_limits
        self._share = parts.windows.open()
        self._answers = Answers(parts.log, parts.teller, self)
        self._not_now: NotNow | None = None

    async def run(self) -> None:
        """From the first message to the last answer."""
        try:
            await self._run()
        finally:
            self._parts.windows.close(self._share)
            self._answers.let_go()

    @abstractmethod
    async def _run(self) -> None:
        """Until everything that was appended has its answer."""

    @abstractmethod
    def tell(self, done: Sequence[Owed]) -> None:
        """Send what a commit has settled."""

    @abstractmethod
    def _stop(self, reason: NotNow) -> LastWords:
        """How a stop is told."""

    @property
    @abstractmethod
    def _failure(self) -> ProtocolError | None:
        """What the peer did wrong, if that ended it."""

    @property
    def can_be_told(self) -> bool:
        """Whether the socket takes what it is told."""
        return self._socket.can_be_told

    def refused(self) -> None:
        """The log has refused something."""
        self._socket.interrupt("refused")

    def fail(self, error: Exception) -> None:
        """Telling failed on a mistake of ours."""
        self._socket.fail(error)

    def _is_over_rate(self) -> bool:
        name = self._visitor.grant.name
        wait = self._parts.rates.wait(name, trio.current_time())
        if wait:
            self._not_now = NotNow("rate", wait, f"{name} sends faster than it may")
        return wait > 0

    def _too_big(self) -> TooBigMessage:
        most, got = self._limits.message_bytes, self._socket.too_big_bytes
        return TooBigMessage(f"a message has at most {most} bytes, got {got}")

    async def _farewell(self) -> None:
        """Close the socket within ``close_timeout``; `Answers` goes on after that."""
        socket, timeout = self._socket, self._parts.listen.close_timeout
        deadline = trio.current_time() + timeout
        if socket.end not in ("peer", "broken"):
            self._answers.hurry()
            with trio.move_on_after(timeout * SETTLE_PART):
                await self._answers.settled()
        words = self._last_words()
        if words.message is not None:
            with trio.move_on_at(deadline):
                await socket.send(words.message)
        left = deadline - trio.current_time()
        await socket.close(words.code, words.reason, max(left, timeout * (1 - SETTLE_PART)))

    def _last_words(self) -> LastWords:
        """Asked once what was accepted has settled, or has not in time."""
        reason, dice = self._not_now, self._parts.random
        # A refused entry says more than anything else.
        if self._answers.refusal is not None:
            reason = not_now(self._answers.refusal, dice)
        elif reason is None and self._socket.end == "closing":
            reason = not_now(Closed("the agent is stopping"), dice)
        if reason is None:
            return LastWords(None, *close_of(self._socket.end, self._failure))
        self._parts.metrics.add("stops_total", 1, reason.code)
        return self._stop(reason)
