"""From tickets to answers: what the peer is owed, told in order, and only after the commit.

A pump owes an answer for every entry that it appended. `Answers.run` awaits the tickets in order
and tells as many as have been committed at once, so that one commit makes one ack however many
entries it held. It goes on after the connection has ended, until every ticket has its answer:
only then does the source's claim end (`takeover`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.log import Log
from edge_agent.store import Entry


@dataclass(frozen=True, slots=True)
class Owed:
    """One entry on its way: once ``ticket`` is answered, the peer has come to ``upto``.

    ``upto`` counts in the session's own way (numbers, or messages in plain mode); ``told`` is
    sent before the ack, once the entry is durable.
    """

    ticket: Ticket
    upto: int
    told: tuple[str, ...] = ()


class Answers:
    """One connection's debts.

    Args:
        log: for hurrying.
        tell: sends what a commit has settled; called with at least one `Owed`, in order.
        refused: called once, when an entry was refused; nothing after it is told.

    Attributes:
        refusal: why an entry was refused, None while none was.
    """

    def __init__(
        self,
        log: Log,
        tell: Callable[[Sequence[Owed]], Awaitable[None]],
        refused: Callable[[], None],
    ) -> None:
        self.refusal: StoreFull | StoreFailed | None = None
        self._log = log
        self._tell = tell
        self._refused = refused
        self._owed: deque[Owed] = deque()
        self._news = trio.Event()
        self._hurry = trio.Event()
        self._finished = False
        self._telling = False
        self._settled = trio.Event()

    def owe(self, owed: Owed) -> None:
        """Remember an entry. What bounds this is the bound of what is in flight."""
        self._owed.append(owed)
        self._news.set()

    def finish(self) -> None:
        """Nothing more will be owed; `run` returns when all is settled."""
        self._finished = True
        self._news.set()

    def hurry(self) -> None:
        """Somebody waits for us: let what is owed be committed now, whatever the interval."""
        self._hurry.set()

    async def settled(self, timeout: float) -> None:
        """Wait until all is settled, at most ``timeout`` seconds; hurries."""
        if not self._owed and not self._telling:
            return
        self.hurry()
        with trio.move_on_after(timeout):
            await self._settled.wait()

    async def run(self) -> None:
        """Tell until `finish`, and then until nothing is owed any more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bring_forward)
            while await self._something_owed():
                await self._settle_next()
            self._settled.set()
            nursery.cancel_scope.cancel()

    async def _something_owed(self) -> bool:
        while not self._owed and not self._finished:
            self._news = trio.Event()
            await self._news.wait()
        return bool(self._owed)

    async def _settle_next(self) -> None:
        try:
            await self._owed[0].ticket.wait()
        except (StoreFull, StoreFailed) as refusal:
            self._owed.popleft()
            if self.refusal is None:
                self.refusal = refusal
                self._refused()
            return
        done = [self._owed.popleft()]
        while self._owed and self._owed[0].ticket.answer is not None:
            if isinstance(self._owed[0].ticket.answer, (StoreFull, StoreFailed)):
                break
            done.append(self._owed.popleft())
        if self.refusal is None:
            # Behind a refused entry nothing may be told: an ack is about everything before it.
            self._telling = True
            await self._tell(done)
            self._telling = False

    async def _bring_forward(self) -> None:
        await self._hurry.wait()
        if not self._owed:
            return
        try:
            # Entries are committed in order, so one that is wanted soon brings all before it along.
            await self._log.append(Entry(), soon=True)
        except Closed:
            pass  # Then everything goes at once anyway.
