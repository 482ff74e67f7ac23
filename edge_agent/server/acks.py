"""This module tells peers what they are owed, in order, and only after the commit.

A connection owes an answer for every entry that it appended (`Answers.owe`). When a commit has
answered the tickets, `Teller`, one task for all connections, tells each of them once: one commit
makes one ack for a peer, however many entries it held, and no task wakes for it but this one.
A peer that does not take what it was told before is told again once it has.

`Answers` goes on after its connection has ended, until every ticket has its answer: only then
does the source's claim end (`source_claims`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.log import Log
from edge_agent.store import Entry, Stored

#: After so many peers the other tasks get their turn; telling one takes some 15 µs.
TURN_PEERS = 64


@dataclass(slots=True)
class Owed:
    """One entry on its way: once ``ticket`` is answered, the peer has come to ``upto``.

    ``upto`` counts in the session's own way (numbers, or messages in plain mode); ``told`` is
    sent before the ack, once the entry is durable.
    """

    ticket: Ticket
    upto: int
    told: tuple[str, ...] = ()


class AckWriter(Protocol):
    """The side of `Answers` that knows what to say."""

    @property
    def can_be_told(self) -> bool:
        """False while the socket does not take what was told before."""
        ...

    def tell(self, done: Sequence[Owed]) -> None:
        """Send what a commit has settled, at least one, in order. Does not wait."""
        ...

    def refused(self) -> None:
        """An entry was refused; nothing after it is told. Called once."""
        ...

    def fail(self, error: Exception) -> None:
        """`tell` raised, which nobody expected: end this connection with it, and only this one."""
        ...


class Debtor(Protocol):
    """What the teller calls: `Answers`, and `BridgedAcks` where an upstream bridges."""

    def settle(self) -> None:
        """Tell what may be told. Never raises."""
        ...


class Teller:
    """Tells all peers what commits have settled. `run` may be called again after it has failed: who
    is due still is. Until then acks come late, and none comes early.
    """

    def __init__(self) -> None:
        self._due: deque[Debtor] = deque()
        self._news = trio.Event()

    def add(self, answers: Debtor) -> None:
        """There is something to tell; to be added once until told."""
        self._due.append(answers)
        self._news.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        turn = 0
        while True:
            if not self._due:
                self._news = trio.Event()
                await self._news.wait()
                turn = 0
            elif turn == TURN_PEERS:
                await trio.lowlevel.checkpoint()
                turn = 0
            turn += 1
            self._tell_next()

    def _tell_next(self) -> None:
        self._due.popleft().settle()


class _Nobody:
    """A peer that has gone."""

    can_be_told = True

    def tell(self, done: Sequence[Owed]) -> None: ...
    def refused(self) -> None: ...
    def fail(self, error: Exception) -> None: ...


class Answers:
    """One connection's debts.

    Args:
        log: for hurrying.
        teller: calls `settle`.
        peer: is told.

    Attributes:
        refusal: why an entry was refused, None while none was.
        in_flight_bytes: of the entries owed, as they lie in memory; a reject counts more.
    """

    __slots__ = (
        "_has_hurried",
        "_is_due",
        "_log",
        "_owed",
        "_peer",
        "_settled",
        "_teller",
        "in_flight_bytes",
        "refusal",
    )

    def __init__(self, log: Log, teller: Teller, peer: AckWriter) -> None:
        self.in_flight_bytes = 0
        self.refusal: StoreFull | StoreFailed | None = None
        self._log = log
        self._teller = teller
        self._peer = peer
        self._owed: deque[Owed] | None = None
        self._is_due = False
        self._has_hurried = False
        self._settled: trio.Event | None = None

    def owe(self, owed: Owed) -> None:
        """Remember an entry. What bounds this is the bound of what is in flight."""
        if self._owed is None:
            # Made late: an empty deque has 600 bytes, and most sessions rest.
            self._owed = deque()
        self._owed.append(owed)
        self.in_flight_bytes += owed.ticket.size
        self._has_hurried = False
        if owed.ticket.answer is None:
            owed.ticket.watcher = self.due
        else:
            self.due()

    def due(self) -> None:
        """Something may be told now: a ticket was answered, or the socket takes more again."""
        if not self._is_due and self._owed:
            self._is_due = True
            self._teller.add(self)

    def settle(self) -> None:
        """Tell everything that has its answer; the teller's call.

        A mistake in it ends this connection, which is told nothing more: the teller serves
        everybody else too.
        """
        self._is_due = False
        peer = self._peer
        try:
            self._settle()
        except Exception as error:  # noqa: BLE001 - a mistake is what nobody foresaw
            self.stop_telling()
            peer.fail(error)

    def _settle(self) -> None:
        owed, peer = self._owed, self._peer
        if not owed or not peer.can_be_told:
            return
        done: list[Owed] = []
        refusal: StoreFull | StoreFailed | None = None
        while owed and (answer := owed[0].ticket.answer) is not None:
            item = owed.popleft()
            self.in_flight_bytes -= item.ticket.size
            if isinstance(answer, Stored):
                # Behind a refused entry nothing may be told: an ack is about everything before it.
                if refusal is None:
                    done.append(item)
            else:
                refusal = refusal or answer
        may_be_told = self.refusal is None
        # First, so that nothing behind it is ever told, whatever goes wrong with the telling.
        self.refusal = self.refusal or refusal
        try:
            if done and may_be_told:
                peer.tell(done)
            if refusal is not None and may_be_told:
                peer.refused()
        finally:
            if not owed and self._settled is not None:
                self._settled.set()
                self._settled = None

    def hurry(self) -> None:
        """Somebody waits for us: let what is owed be committed now, whatever the interval."""
        if self._owed and not self._has_hurried:
            self._has_hurried = True
            try:
                # Entries are committed in order: one that is wanted soon brings all before it
                # along. Where there is no room for it, the commit that makes room is on its way.
                self._log.offer(Entry(), soon=True)
            except Closed:
                pass  # Then everything goes at once anyway.

    def stop_telling(self) -> None:
        """The connection is over: what may still settle is told to nobody."""
        self._peer = _Nobody()

    async def settled(self) -> None:
        """Wait until nothing is owed."""
        while self._owed:
            if self._settled is None:
                self._settled = trio.Event()
            await self._settled.wait()
