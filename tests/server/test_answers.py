"""Debts to a peer: told in order, after the commit, as many as there are at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import trio
import trio.testing

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.log import Log
from edge_agent.server.answers import Answers, Owed
from edge_agent.store import Entry, Stored

STORED = Stored({}, 0, 0)


class FakeLog:
    """Remembers what is appended."""

    def __init__(self) -> None:
        self.appended: list[tuple[Entry, bool]] = []
        self.closed = False

    async def append(self, entry: Entry, *, lazy: bool = False, soon: bool = False) -> Ticket:
        if self.closed:
            raise Closed("the agent is stopping")
        self.appended.append((entry, soon))
        return Ticket(entry)


class Debtor:
    """Answers, and what they told."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.told: list[list[int]] = []
        self.refusals = 0
        self.gate = trio.Event()
        self.gate.set()
        self.answers = Answers(cast(Log, self.log), self.tell, self.refused)
        self.tickets: list[Ticket] = []

    async def tell(self, done: Sequence[Owed]) -> None:
        self.told.append([owed.upto for owed in done])
        await self.gate.wait()

    def refused(self) -> None:
        self.refusals += 1

    def owe(self, *uptos: int) -> None:
        for upto in uptos:
            self.tickets.append(Ticket(Entry()))
            self.answers.owe(Owed(self.tickets[-1], upto))


async def test_nothing_is_told_before_its_ticket_is_answered() -> None:
    debtor = Debtor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(debtor.answers.run)
        debtor.owe(1, 2, 3)
        debtor.tickets[1].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.told == []
        debtor.tickets[0].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.told == [[1, 2]]
        debtor.tickets[2].settle(STORED)
        debtor.answers.finish()
    assert debtor.told == [[1, 2], [3]]


async def test_what_is_settled_while_telling_is_told_together() -> None:
    debtor = Debtor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(debtor.answers.run)
        debtor.gate = trio.Event()
        debtor.owe(1, 2, 3)
        debtor.tickets[0].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        debtor.tickets[1].settle(STORED)
        debtor.tickets[2].settle(STORED)
        debtor.gate.set()
        debtor.answers.finish()
    assert debtor.told == [[1], [2, 3]]


async def test_behind_a_refusal_nothing_is_told_but_all_is_waited_for() -> None:
    debtor = Debtor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(debtor.answers.run)
        debtor.owe(1, 2, 3)
        debtor.tickets[0].settle(STORED)
        debtor.tickets[1].settle(StoreFull("full", 7.0))
        debtor.answers.finish()
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.told == [[1]]
        assert debtor.refusals == 1
        debtor.tickets[2].settle(STORED)
    assert debtor.told == [[1]]
    assert isinstance(debtor.answers.refusal, StoreFull)
    assert debtor.answers.refusal.retry_after == 7.0


async def test_the_first_refusal_is_the_one_that_counts() -> None:
    debtor = Debtor()
    debtor.owe(1, 2)
    debtor.tickets[0].settle(StoreFailed("first"))
    debtor.tickets[1].settle(StoreFull("second"))
    debtor.answers.finish()
    await debtor.answers.run()
    assert str(debtor.answers.refusal) == "first"
    assert debtor.refusals == 1


async def test_waiting_for_settlement_has_a_deadline(autojump_clock: trio.abc.Clock) -> None:
    debtor = Debtor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(debtor.answers.run)
        await debtor.answers.settled(100)
        assert trio.current_time() == 0
        debtor.owe(1)
        debtor.answers.finish()
        await debtor.answers.settled(1.5)
        assert trio.current_time() == 1.5
        debtor.tickets[0].settle(STORED)
        await debtor.answers.settled(100)
        assert trio.current_time() == 1.5
    assert debtor.told == [[1]]


async def test_hurrying_brings_waiting_entries_forward_once() -> None:
    debtor = Debtor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(debtor.answers.run)
        debtor.owe(1)
        debtor.answers.hurry()
        debtor.answers.hurry()
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.log.appended == [(Entry(), True)]
        debtor.tickets[0].settle(STORED)
        debtor.answers.finish()


async def test_hurrying_with_nothing_owed_or_a_closed_log_is_harmless() -> None:
    debtor = Debtor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(debtor.answers.run)
        debtor.answers.hurry()
        await trio.testing.wait_all_tasks_blocked()
        debtor.answers.finish()
    assert debtor.log.appended == []
    debtor = Debtor()
    debtor.log.closed = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(debtor.answers.run)
        debtor.owe(1)
        debtor.answers.hurry()
        await trio.testing.wait_all_tasks_blocked()
        debtor.tickets[0].settle(STORED)
        debtor.answers.finish()
