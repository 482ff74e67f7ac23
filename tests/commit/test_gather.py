from __future__ import annotations

import tracemalloc

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from edge_agent.commit.gather import NEVER, Closed, GroupLimits, PendingEntries, Ticket
from edge_agent.commit.gather import settle as settle_all
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.store import Entry, Numbering, Quarantined, Stored
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import ForeignBlock, Origin, Run
from tests.commit.recording import entry

STORED = Stored({"main": 1}, 0, 0)
SIZE = entry().size_bytes
WRITTEN = Ticket(entry()).written


def gathering(
    *, group_bytes: int = 10**6, records: int = 1000, in_flight: int = 10**6
) -> tuple[PendingEntries, list[float]]:
    """One that notes its deadline whenever it says that it moved forward."""
    noted: list[float] = []
    made = PendingEntries(
        GroupLimits(group_bytes, records, in_flight), lambda: noted.append(made.deadline)
    )
    return made, noted


def settle(gathered: PendingEntries, group: list[Ticket]) -> None:
    for ticket in group:
        ticket.settle(STORED)
    gathered.release(group)


async def test_at_rest_there_is_no_deadline() -> None:
    gathered, noted = gathering()
    assert gathered.deadline == NEVER
    assert gathered.take() == []
    assert (noted, gathered.oldest_since) == ([], NEVER)


async def test_the_earliest_deadline_counts_and_is_told_only_when_it_moves_forward(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gathered, noted = gathering()
    await gathered.put(entry(), 5)
    await gathered.put(entry(), 7)
    await gathered.put(entry(), 1)
    await gathered.put(entry(), 3)
    now = trio.current_time()
    assert noted == [now + 5, now + 1]
    assert gathered.deadline == now + 1


async def filled(gathered: PendingEntries, entries: int, after: float) -> None:
    """So many entries with a patience of 20, the first of them after so many seconds."""
    await trio.sleep(after)
    for _ in range(entries):
        await gathered.put(entry(), 20)


@pytest.mark.parametrize(
    "before, after, entries, due",
    [
        (40, 4, 40, 20),  # All are back: one commit in twenty, and no fewer entries.
        (40, 4, 60, 20),
        (40, 4, 39, 24),  # One may still come.
        (40, 19, 40, 20),
        (40, 21, 40, 41),  # The last one was long ago: others may come behind these.
        (31, 4, 31, 24),  # So few prove nothing.
        (3, 4, 32, 20),
    ],
)
async def test_a_group_that_is_whole_again_is_due_one_interval_after_the_last(
    autojump_clock: trio.testing.MockClock, before: int, after: float, entries: int, due: float
) -> None:
    gathered, noted = gathering()
    await filled(gathered, before, 0)
    settle(gathered, gathered.take())
    began = trio.current_time()
    await filled(gathered, entries, after)
    assert gathered.deadline - began == pytest.approx(due)
    assert noted[-1] == gathered.deadline


async def test_what_can_wait_for_long_makes_no_group_whole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gathered, _ = gathering()
    await filled(gathered, 2, 0)
    settle(gathered, gathered.take())
    await trio.sleep(1)
    gathered.add(entry(), 60)
    await trio.sleep(30)
    began = trio.current_time()
    await filled(gathered, 200, 0)
    assert gathered.deadline == pytest.approx(began + 20)


async def test_what_is_left_of_a_group_that_was_cut_keeps_its_own_patience(
    autojump_clock: trio.testing.MockClock,
) -> None:
    large = Entry(runs=entry().runs * 3)
    gathered, _ = gathering(group_bytes=40 * Ticket(large).written)
    for _ in range(40):
        await gathered.put(large, 5)
    for _ in range(10):
        await gathered.put(entry(), 20)
    began = trio.current_time()
    assert len(gathered.take()) == 40 and gathered.deadline == began + 20
    for _ in range(30):
        await gathered.put(entry(), 20)
    assert gathered.deadline == began + 20, "and not what those before would have waited"


@pytest.mark.parametrize("limits", [{"group_bytes": 3 * WRITTEN}, {"records": 3}])
async def test_a_full_group_is_due_at_once_and_cut_from_the_front(limits: dict[str, int]) -> None:
    gathered, _ = gathering(**limits)
    tickets = [await gathered.put(entry(), 10) for _ in range(2)]
    assert gathered.deadline > trio.current_time()
    tickets += [await gathered.put(entry(), 10) for _ in range(2)]
    assert gathered.deadline < trio.current_time()
    assert gathered.take() == tickets[:3]
    assert [ticket.taken for ticket in tickets] == [True, True, True, False]
    # What is left over has its own deadline again.
    assert gathered.deadline == tickets[3].deadline
    assert gathered.take() == tickets[3:]
    assert (len(gathered), gathered.records) == (0, 0)


async def test_an_entry_larger_than_any_group_goes_alone() -> None:
    gathered, _ = gathering(group_bytes=1000)
    large = await gathered.put(entry(size=5000), 1)
    small = await gathered.put(entry(), 1)
    assert gathered.take() == [large]
    assert gathered.take() == [small]


async def test_who_finds_no_room_waits_in_turn_and_the_group_goes_at_once() -> None:
    gathered, _ = gathering(in_flight=2 * SIZE + 100)
    first = [await gathered.put(entry(), 10) for _ in range(2)]
    order: list[int] = []

    async def put(number: int, size: int) -> None:
        await gathered.put(entry(size=size), 10)
        order.append(number)

    async with trio.open_nursery() as nursery:
        # The second one is small enough for what the first commit frees, but comes after the
        # first, which is not.
        nursery.start_soon(put, 1, 200)
        await wait_all_tasks_blocked()
        nursery.start_soon(put, 2, 1)
        await wait_all_tasks_blocked()
        assert gathered.outside == 2
        assert gathered.deadline < trio.current_time()
        group = gathered.take()
        assert group == first
        settle(gathered, group[:1])
        await wait_all_tasks_blocked()
        assert order == []
        settle(gathered, group[1:])
        await wait_all_tasks_blocked()
        assert order == [1]
        settle(gathered, gathered.take())
    assert order == [1, 2]


async def test_an_offer_is_taken_like_any_other_entry() -> None:
    gathered, noted = gathering()
    ticket = gathered.offer(entry(), 5)
    assert ticket is not None
    assert noted == [ticket.deadline]
    assert gathered.take() == [ticket]


async def test_an_offer_without_room_leaves_nothing_behind() -> None:
    gathered, noted = gathering(in_flight=SIZE)
    first = gathered.offer(entry(), 10)
    assert gathered.offer(entry(), 1) is None
    assert (len(gathered), gathered.in_flight_bytes, len(noted)) == (1, SIZE, 1)
    assert gathered.take() == [first]


async def test_an_offer_is_not_taken_before_those_who_wait_for_room() -> None:
    gathered, _ = gathering(in_flight=2 * SIZE)
    assert gathered.offer(entry(), 10) is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gathered.put, entry(size=3 * SIZE), 10)
        await wait_all_tasks_blocked()
        # There would be room for this one.
        assert gathered.offer(entry(size=0), 10) is None
        settle(gathered, gathered.take())
    assert [ticket.size for ticket in gathered.take()] == [entry(size=3 * SIZE).size_bytes]


async def test_what_needs_no_room_is_taken_though_others_wait_for_some() -> None:
    gathered, _ = gathering(in_flight=SIZE)
    await gathered.put(entry(), 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gathered.put, entry(), 10)
        await wait_all_tasks_blocked()
        assert gathered.offer(entry(size=0), 10) is None
        noted = gathered.add(entry(size=0), 10)
        assert (len(gathered), gathered.outside) == (2, 1)
        group = gathered.take()
        assert group[-1] is noted
        gathered.release(group)
    assert (len(gathered), gathered.outside) == (1, 0)
    gathered.close()
    with pytest.raises(Closed):
        gathered.add(entry(), 10)


async def test_an_entry_larger_than_the_bound_is_taken_when_nothing_else_is_in_flight() -> None:
    gathered, _ = gathering(in_flight=100)
    await gathered.put(entry(size=5000), 1)
    assert gathered.in_flight_bytes > 5000


async def test_who_gives_up_outside_is_not_taken_in() -> None:
    gathered, _ = gathering(in_flight=SIZE)
    await gathered.put(entry(), 10)
    with trio.move_on_after(0) as scope:
        await gathered.put(entry(), 10)
    assert scope.cancelled_caught
    assert gathered.outside == 0
    settle(gathered, gathered.take())
    assert (len(gathered), gathered.in_flight_bytes, gathered.deadline) == (0, 0, NEVER)


async def test_who_gives_up_outside_while_the_committer_does_too_is_just_gone() -> None:
    gathered, _ = gathering(in_flight=SIZE)
    await gathered.put(entry(), 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gathered.put, entry(), 10)
        nursery.start_soon(gathered.put, entry(), 10)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        # Before those tasks run again.
        gathered.abandon("the agent stopped")
    assert (len(gathered), gathered.outside) == (0, 0)


async def test_closed_takes_nothing_new_and_what_waits_is_due() -> None:
    gathered, _ = gathering()
    await gathered.put(entry(), 10)
    gathered.close()
    assert gathered.deadline < trio.current_time()
    with pytest.raises(Closed):
        await gathered.put(entry(), 10)
    with pytest.raises(Closed):
        gathered.offer(entry(), 10)


async def test_abandoned_tells_everybody_inside_and_outside() -> None:
    gathered, _ = gathering(in_flight=SIZE)
    ticket = await gathered.put(entry(), 10)
    async with trio.open_nursery() as nursery:

        async def outside() -> None:
            with pytest.raises(Closed):
                await gathered.put(entry(), 10)

        nursery.start_soon(outside)
        await wait_all_tasks_blocked()
        gathered.abandon("stopped")
    with pytest.raises(StoreFailed, match="stopped"):
        await ticket.wait()


async def test_a_ticket_gives_its_answer_to_all_who_wait_now_or_ask_later() -> None:
    ticket = Ticket(entry())
    answers: list[Stored] = []

    async def wait() -> None:
        answers.append(await ticket.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert answers == []
        ticket.settle(STORED)
    await wait()
    assert answers == [STORED] * 3


def test_a_watcher_is_called_once_when_the_answer_is_there() -> None:
    ticket = Ticket(entry())
    seen: list[object] = []
    ticket.watcher = lambda: seen.append(ticket.answer)
    ticket.settle(STORED)
    assert seen == [STORED]
    ticket.settle(STORED)
    assert seen == [STORED]


def test_watchers_are_called_in_order_once_all_answers_are_there() -> None:
    tickets = [Ticket(entry()) for _ in range(3)]
    seen: list[tuple[int, list[object]]] = []
    for number, ticket in enumerate(tickets):
        ticket.watcher = lambda number=number: seen.append(
            (number, [ticket.answer for ticket in tickets])
        )
    settle_all(tickets, [STORED] * 3)
    assert seen == [(number, [STORED] * 3) for number in range(3)]


def test_a_failing_watcher_leaves_nobody_without_an_answer() -> None:
    tickets = [Ticket(entry()) for _ in range(2)]
    tickets[0].watcher = lambda: 1 // 0  # type: ignore[assignment]  # it is a bug
    with pytest.raises(ZeroDivisionError):
        settle_all(tickets, [STORED] * 2)
    assert [ticket.answer for ticket in tickets] == [STORED] * 2


def test_a_ticket_measures_as_its_entry_does() -> None:
    origin = Origin("a", "e", "main", 1, bytes(16), 0, 0, True, ("a",))
    whole = Entry(
        runs=(*entry(size=7, count=2).runs, *entry(size=9).runs),
        blocks=(ForeignBlock(1, 4, 3, 0, 5, b"12345", 0, 0, origin),),
        quarantine=(Quarantined("bad_time", "", "a", "s", 0, 0, b"123"),),
        clocks=(ClockNote("feed", bytes(16), 5, 6), ClockNote("feed", b"b" * 16, 5, 6)),
    )
    ticket = Ticket(whole)
    assert (ticket.size, ticket.count) == (whole.size_bytes, whole.count)


def test_what_is_said_of_an_entry_in_memory_is_about_right() -> None:
    def made(number: int) -> Ticket:
        # Everything that is not shared between the entries of one source is made anew.
        body, at = bytes(bytearray(71)), 10**18 + number
        records = Run("a", "s", number, at, True, 1, body, at + 1, at + 2)
        return Ticket(Entry(runs=(records,), numbering=Numbering("s", number, number + 1)))

    tracemalloc.start()
    try:
        tickets = [made(number) for number in range(10**6, 10**6 + 1000)]
        measured = tracemalloc.get_traced_memory()[0] / len(tickets)
    finally:
        tracemalloc.stop()
    assert measured == pytest.approx(tickets[0].size, rel=0.25)


async def test_a_refused_ticket_raises_with_the_hint_when_to_come_back() -> None:
    ticket = Ticket(entry())
    ticket.settle(StoreFull("log main is full", 7.5))
    with pytest.raises(StoreFull, match="log main is full") as caught:
        await ticket.wait()
    assert caught.value.retry_after == 7.5
