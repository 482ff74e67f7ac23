"""Debts to a peer: told in order, after the commit, as many as there are at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.testing

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.log import Log
from edge_agent.server.acks import Answers, Owed, Teller
from edge_agent.store import Entry, Stored
from tests.patience import PATIENCE_S

STORED = Stored({}, 0, 0)


class FakeLog:
    """Remembers what is offered."""

    def __init__(self) -> None:
        self.offered: list[tuple[Entry, bool]] = []
        self.closed = False

    def offer(self, entry: Entry, *, lazy: bool = False, soon: bool = False) -> Ticket | None:
        if self.closed:
            raise Closed("the agent is stopping")
        self.offered.append((entry, soon))
        return Ticket(entry)


class Debtor:
    """A peer with answers, and what they told it."""

    def __init__(self, teller: Teller) -> None:
        self.log = FakeLog()
        self.told: list[list[int]] = []
        self.refusals = 0
        self.can_be_told = True
        self.faults: list[Exception] = []
        self.raises: Exception | None = None
        self.answers = Answers(cast(Log, self.log), teller, self)
        self.tickets: list[Ticket] = []

    def tell(self, done: Sequence[Owed]) -> None:
        if self.raises is not None:
            raise self.raises
        self.told.append([owed.upto for owed in done])

    def refused(self) -> None:
        self.refusals += 1

    def fail(self, error: Exception) -> None:
        self.faults.append(error)

    def owe(self, *uptos: int) -> None:
        for upto in uptos:
            self.tickets.append(Ticket(Entry()))
            self.answers.owe(Owed(self.tickets[-1], upto))


@asynccontextmanager
async def telling() -> AsyncIterator[Teller]:
    teller = Teller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller.run)
        yield teller
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_nothing_is_told_before_its_ticket_is_answered() -> None:
    async with telling() as teller:
        debtor = Debtor(teller)
        debtor.owe(1, 2, 3)
        debtor.tickets[1].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.told == []
        debtor.tickets[0].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.told == [[1, 2]]
        debtor.tickets[2].settle(STORED)
    assert debtor.told == [[1, 2], [3]]


async def test_what_one_commit_settles_is_told_at_once() -> None:
    async with telling() as teller:
        debtor = Debtor(teller)
        debtor.owe(1, 2, 3)
        for ticket in debtor.tickets:
            ticket.settle(STORED)
    assert debtor.told == [[1, 2, 3]]


async def test_a_ticket_that_was_answered_before_is_told_too() -> None:
    async with telling() as teller:
        debtor = Debtor(teller)
        ticket = Ticket(Entry())
        ticket.settle(STORED)
        debtor.answers.owe(Owed(ticket, 9))
    assert debtor.told == [[9]]


async def test_who_does_not_take_what_it_was_told_is_told_again_when_it_does() -> None:
    async with telling() as teller:
        debtor = Debtor(teller)
        debtor.can_be_told = False
        debtor.owe(1, 2)
        debtor.tickets[0].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        debtor.tickets[1].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.told == []
        debtor.can_be_told = True
        debtor.answers.due()
    assert debtor.told == [[1, 2]]


async def test_behind_a_refusal_nothing_is_told_but_all_is_waited_for() -> None:
    async with telling() as teller:
        debtor = Debtor(teller)
        debtor.owe(1, 2, 3)
        debtor.tickets[0].settle(STORED)
        debtor.tickets[1].settle(StoreFull("full", 7.0))
        await trio.testing.wait_all_tasks_blocked()
        assert debtor.told == [[1]]
        assert debtor.refusals == 1
        with trio.move_on_after(0.01) as waiting:
            await debtor.answers.settled()
        assert waiting.cancelled_caught
        debtor.tickets[2].settle(STORED)
        with trio.fail_after(PATIENCE_S):
            await debtor.answers.settled()
    assert debtor.told == [[1]]
    assert isinstance(debtor.answers.refusal, StoreFull)
    assert debtor.answers.refusal.retry_after == 7.0


async def test_the_first_refusal_is_the_one_that_counts() -> None:
    async with telling() as teller:
        debtor = Debtor(teller)
        debtor.owe(1, 2)
        debtor.tickets[0].settle(StoreFailed("first"))
        debtor.tickets[1].settle(StoreFull("second"))
    assert str(debtor.answers.refusal) == "first"
    assert debtor.refusals == 1


async def test_nothing_owed_is_settled() -> None:
    with trio.fail_after(PATIENCE_S):
        await Debtor(Teller()).answers.settled()


async def test_one_peer_that_raises_does_not_keep_the_others_from_being_told() -> None:
    async with telling() as teller:
        bad, good = Debtor(teller), Debtor(teller)
        bad.raises = ValueError("a bug")
        for debtor in (bad, good):
            debtor.owe(1)
            debtor.tickets[0].settle(STORED)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(PATIENCE_S):
            await bad.answers.settled()
    assert good.told == [[1]]
    assert bad.faults == [bad.raises]


async def test_many_peers_are_told_in_turns_with_the_other_tasks() -> None:
    async with telling() as teller:
        debtors = [Debtor(teller) for _ in range(200)]
        for debtor in debtors:
            debtor.owe(1)
            debtor.tickets[0].settle(STORED)
        told = []
        while not debtors[-1].told:
            await trio.lowlevel.checkpoint()
            told.append(sum(len(debtor.told) for debtor in debtors))
    # Another task saw it half done, and more than once.
    assert len([count for count in told if 0 < count < 200]) >= 2


async def test_hurrying_brings_waiting_entries_forward_once() -> None:
    debtor = Debtor(Teller())
    debtor.owe(1)
    debtor.answers.hurry()
    debtor.answers.hurry()
    assert debtor.log.offered == [(Entry(), True)]
    # What found room only after that is in no less of a hurry.
    debtor.owe(2)
    debtor.answers.hurry()
    debtor.answers.hurry()
    assert debtor.log.offered == [(Entry(), True)] * 2


@pytest.mark.parametrize("closed", [False, True])
async def test_hurrying_with_nothing_owed_or_a_closed_log_is_harmless(closed: bool) -> None:
    debtor = Debtor(Teller())
    debtor.log.closed = closed
    if closed:
        debtor.owe(1)
    debtor.answers.hurry()
    assert debtor.log.offered == []


async def test_whom_telling_fails_at_is_told_nothing_more_and_a_refusal_stays_one() -> None:
    async with telling() as teller:
        debtor, other = Debtor(teller), Debtor(teller)
        debtor.owe(1, 2, 3, 4)
        debtor.raises = ZeroDivisionError("our mistake")
        # In one look: an entry is stored, the one behind it is refused, and telling fails.
        debtor.tickets[0].settle(STORED)
        debtor.tickets[1].settle(StoreFull("full", 1.0))
        await trio.testing.wait_all_tasks_blocked()
        assert [type(fault) for fault in debtor.faults] == [ZeroDivisionError]
        assert isinstance(debtor.answers.refusal, StoreFull)
        # What is behind it was stored, too; an ack of it would be one of what was refused.
        debtor.raises = None
        debtor.tickets[2].settle(STORED)
        debtor.tickets[3].settle(STORED)
        with trio.fail_after(PATIENCE_S):
            await debtor.answers.settled()
        assert debtor.told == []
        other.owe(1)
        other.tickets[0].settle(STORED)
    assert other.told == [[1]]
