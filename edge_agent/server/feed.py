"""A `Feed` hands pushed messages to the log without waiting.

A pump whose messages are pushed has to deal with them at once (`receive_queue`). `Feed.offer` hands
an entry to the log, which takes it as a rule. When the log has no room, the entry waits here, the
pump's own task asks for room (`Feed.until_end`), and nothing more is read until there is. Nor is
anything while the pump is behind with what was read (`Feed.later`): its task goes on with it in
turns (`fair_turns`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.commit import Closed
from edge_agent.log import Log
from edge_agent.server.acks import Answers, Owed
from edge_agent.server.fair_turns import Turns
from edge_agent.server.websocket import WebSocket
from edge_agent.store import Entry


@dataclass(frozen=True, slots=True)
class _Late:
    """An entry that found no room, and what is owed for it."""

    entry: Entry
    upto: int
    told: tuple[str, ...]
    lazy: bool


def _nothing() -> None:
    pass


class Feed:
    """One connection's way into the log. ``go_on`` is called when there is room again."""

    __slots__ = ("_answers", "_go_on", "_late", "_log", "_next", "_socket", "_turns")

    def __init__(
        self,
        socket: WebSocket,
        log: Log,
        answers: Answers,
        turns: Turns,
        go_on: Callable[[], None],
    ) -> None:
        self._socket, self._log, self._answers, self._turns = socket, log, answers, turns
        self._go_on = go_on
        self._late: _Late | None = None
        self._next: Callable[[], object] | None = None

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
        return self._late is None and self._next is None

    def later(self, read_on: Callable[[], object]) -> None:
        """Call ``read_on`` in a turn of ours, unless the connection ends before."""
        self._next = read_on
        self._socket.stir()

    async def until_end(self) -> None:
        """The pump's task: wait for the end of the connection, and meanwhile for room, or turns."""
        try:
            while self._socket.end is None or self._late is not None:
                if self._late is not None:
                    await self._append(self._late)
                elif self._next is not None:
                    await self._read_on()
                else:
                    await self._socket.wait_stirred()
        finally:
            # The pump holds us: nothing of it is held here once it is over.
            self._next, self._go_on = None, _nothing

    async def _read_on(self) -> None:
        await self._turns.take()
        read_on, self._next = self._next, None
        if self._socket.end is None and read_on is not None:
            read_on()

    async def _append(self, late: _Late) -> None:
        try:
            ticket = await self._log.append(late.entry, lazy=late.lazy)
        except Closed:
            self._late = None
            self._socket.interrupt("closing")
            return
        self._late = None
        self._answers.owe(Owed(ticket, late.upto, late.told))
        if self._socket.can_be_told:
            self._go_on()
