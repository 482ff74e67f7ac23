"""A `Pump` moves what one connection sends into the log, and tells it what became of that.

Here is what sessions and plain connections have in common: their debts, their share of what may be
in flight, one way to end, and where messages are pushed (`receive_queue`) a `Feed`, which hands
them to the log without waiting. When the log has no room, the entry waits there, the pump's own
task asks for room (`Feed.until_end`), and nothing more is read until there is. Nor is anything
while the pump is behind with what was read (`Feed.later`): its task goes on with it in turns
(`fair_turns`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from edge_agent.commit import Closed
from edge_agent.errors import ProtocolError
from edge_agent.log import Log
from edge_agent.server.acks import Answers, Owed
from edge_agent.server.closing import LastWords, NotNow, close_of
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.fair_turns import Turns
from edge_agent.server.websocket import WebSocket
from edge_agent.store import Entry
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
            self._answers.stop_telling()

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

    async def _answered(self) -> None:
        """Wait until the peer has been told all that it may be told."""
        await self._answers.settled()

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
                await self._answered()
        words = self._last_words()
        if words.message is not None:
            with trio.move_on_at(deadline):
                await socket.send(words.message)
        left = deadline - trio.current_time()
        await socket.close(words.code, words.reason, max(left, timeout * (1 - SETTLE_PART)))

    def _last_words(self) -> LastWords:
        """Asked once what was accepted has settled, or has not in time."""
        reason = self._not_now
        # A refused entry says more than anything else.
        if self._answers.refusal is not None:
            reason = self._parts.not_now(self._answers.refusal)
        elif reason is None and self._socket.end == "closing":
            reason = self._parts.not_now(Closed("the agent is stopping"))
        if reason is None:
            return LastWords(None, *close_of(self._socket.end, self._failure))
        self._parts.metrics.add("stops_total", 1, reason.code)
        return self._stop(reason)


@dataclass(frozen=True, slots=True)
class _Late:
    """An entry that found no room, and what is owed for it."""

    entry: Entry
    upto: int
    told: tuple[str, ...]
    lazy: bool


class Feed:
    """One connection's way into the log."""

    __slots__ = ("_answers", "_is_behind", "_late", "_log", "_socket", "_turns")

    def __init__(self, socket: WebSocket, log: Log, answers: Answers, turns: Turns) -> None:
        self._socket, self._log, self._answers, self._turns = socket, log, answers, turns
        self._late: _Late | None = None
        self._is_behind = False

    def offer(
        self, entry: Entry, upto: int, *, told: tuple[str, ...] = (), lazy: bool = False
    ) -> bool:
        """Append ``entry``; False where nothing more may be offered until there is room."""
        # Else one of them would be lost, and the other's ack would cover it.
        assert self._late is None, "an entry already waits for room"
        try:
            ticket = self._log.offer(entry, lazy=lazy)
        except Closed:
            self._socket.interrupt("closing")
            return True
        if ticket is None:
            self._late = _Late(entry, upto, told, lazy)
            self._socket.stir()
            return False
        self._answers.owe(Owed(ticket, upto, told))
        return True

    @property
    def has_room(self) -> bool:
        """Whether more may be offered, and nothing that was read before comes first."""
        return self._late is None and not self._is_behind

    def later(self) -> None:
        """More of what was read is to be dealt with, in a turn of ours."""
        self._is_behind = True
        self._socket.stir()

    async def until_end(
        self, *, read_on: Callable[[], object], go_on: Callable[[], object]
    ) -> None:
        """The pump's task: wait for the end of the connection, and meanwhile for room, or turns.

        ``read_on`` is called in the turn that `later` asked for, ``go_on`` when there is room
        again.
        """
        while self._socket.end is None or self._late is not None:
            if self._late is not None:
                if await self._append(self._late) and self._socket.can_be_told:
                    go_on()
            elif self._is_behind:
                await self._turns.take()
                self._is_behind = False
                if self._socket.end is None:
                    read_on()
            else:
                await self._socket.wait_stirred()

    async def _append(self, late: _Late) -> bool:
        try:
            ticket = await self._log.append(late.entry, lazy=late.lazy)
        except Closed:
            self._late = None
            self._socket.interrupt("closing")
            return False
        self._late = None
        self._answers.owe(Owed(ticket, late.upto, late.told))
        return True
