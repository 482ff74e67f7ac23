"""Real stores under a clock that is turned: what was stored by a wrong clock reads right later."""

from __future__ import annotations

from typing import Literal

import pytest

from edge_agent.store import Block, Engine, Entry, LogSettings
from edge_agent.store.clock.boot_offsets import NO_CLOCKS
from edge_agent.store.clock.timekeeper import AHEAD_NS_MAX, HELD_NS_MAX, Timekeeper
from edge_agent.store.retention.policy import STEP_CALM_NS
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import Record, Run
from tests.manual_clock import ManualClock
from tests.store.conftest import Stores
from tests.store.support import START_NS, foreign, pack, read_all, records

SECOND = 10**9
HOUR = 3600 * SECOND
WOKE_NS = 7 * SECOND
YEAR_2099_NS = 4_070_908_800 * SECOND


def put(engine: Engine, clock: ManualClock, *, time: object = None, waits_s: float = 0) -> None:
    """One record as a server would have taken it: it arrives now and is committed later."""
    now = clock.read()
    body = pack({} if time is None else {"time": time})
    run = Run("a/1", "pi", 0, now.wall_ns, now.synced, 1, body, now.wall_ns, now.wall_ns)
    if waits_s:
        clock.advance(waits_s)
    engine.commit([Entry(runs=(run,))])


def set_right(clock: ManualClock, right_ns: int) -> None:
    """NTP has answered: it was ``right_ns`` when the boot clock stood at zero."""
    clock.step_wall(right_ns + clock.read().boot_ns, synced=True)


def shown(engine: Engine) -> list[tuple[int, str]]:
    """Seconds since START_NS, and how far they can be trusted."""
    return [((r.time_ns - START_NS) // SECOND, r.time_quality) for r in records(engine)]


def woken(stores: Stores, wall_ns: int = WOKE_NS) -> Engine:
    stores.clock.reboot(wall_ns=wall_ns)
    return stores.open()


@pytest.mark.parametrize(
    "wall_ns", [WOKE_NS, START_NS - 3 * HOUR, START_NS + 3 * HOUR, YEAR_2099_NS]
)
def test_records_of_a_boot_are_put_right_once_its_clock_is_set(
    stores: Stores, wall_ns: int
) -> None:
    engine, clock = woken(stores, wall_ns), stores.clock
    put(engine, clock)
    clock.advance(10)
    put(engine, clock, time=-4)
    assert {quality for _, quality in shown(engine)} == {"unsynced"}
    clock.advance(10)
    set_right(clock, START_NS)
    put(engine, clock)
    assert shown(engine) == [(1, "corrected"), (7, "corrected"), (21, "synced")]
    assert [r.stored_ns - START_NS for r in records(engine)] == [SECOND, 11 * SECOND, 21 * SECOND]
    # As stored, so that it is passed on as it is.
    first = read_all(engine)[0]
    assert isinstance(first, Block)
    assert (first.stored_ns, first.synced) == (wall_ns, False)
    engine.close()
    assert shown(stores.open())[0] == (1, "corrected")


def test_what_a_sensors_own_clock_says_is_never_touched(stores: Stores) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock, time=(START_NS + 55 * SECOND) // SECOND)
    put(engine, clock, time=12)  # an unset clock's
    set_right(clock, START_NS)
    put(engine, clock)
    assert shown(engine) == [(55, "sensor"), (1, "corrected"), (1, "synced")]


def test_two_boots_are_put_right_by_their_own_offsets_and_one_never_set_stays(
    stores: Stores,
) -> None:
    clock = stores.clock
    for wall_ns, right_ns in (
        (WOKE_NS, START_NS),
        (5 * HOUR, None),
        (YEAR_2099_NS, START_NS + HOUR),
    ):
        engine = woken(stores, wall_ns)
        put(engine, clock)
        clock.advance(5)
        if right_ns is not None:
            set_right(clock, right_ns)
            put(engine, clock)
        engine.close()
    engine = stores.open()
    never = (5 * HOUR - START_NS) // SECOND
    assert shown(engine) == [
        (1, "corrected"), (6, "synced"), (never, "unsynced"),
        (3601, "corrected"), (3606, "synced"),
    ]  # fmt: skip


def test_what_arrived_before_the_step_and_was_committed_after_is_put_right_exactly(
    stores: Stores,
) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    clock.advance(10)
    now = clock.read()
    early = Run("a/1", "pi", 0, now.wall_ns, False, 1, pack({}), now.wall_ns, now.wall_ns)
    clock.advance(2)
    set_right(clock, START_NS)
    now = clock.read()
    late = Run("a/1", "pi", 0, now.wall_ns, True, 1, pack({}), now.wall_ns, now.wall_ns)
    stored = engine.commit([Entry(runs=(early, late)), Entry(runs=(early,))])
    assert [answer.last for answer in stored.answers] == [{"main": 3}, {"main": 4}]  # type: ignore[union-attr]  # stored
    assert shown(engine) == [(1, "corrected"), (11, "corrected"), (13, "synced"), (11, "corrected")]


def test_a_step_while_the_clock_is_not_set_costs_no_more_than_the_wait_for_the_commit(
    stores: Stores,
) -> None:
    engine, clock = woken(stores), stores.clock
    now = clock.read()
    early = Run("a/1", "pi", 0, now.wall_ns, False, 1, pack({}), now.wall_ns, now.wall_ns)
    clock.advance(3)
    clock.step_wall(YEAR_2099_NS)  # somebody sets it by hand
    engine.commit([Entry(runs=(early,))])
    set_right(clock, START_NS)
    put(engine, clock)
    assert shown(engine)[0] == (4, "corrected")


def test_a_clock_set_better_later_puts_the_boot_right_by_the_latest(stores: Stores) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    set_right(clock, START_NS - 600 * SECOND)
    put(engine, clock)
    assert shown(engine) == [(-599, "corrected"), (-599, "synced")]
    clock.advance(1)
    set_right(clock, START_NS)
    put(engine, clock)
    assert shown(engine) == [(1, "corrected"), (-599, "synced"), (2, "synced")]
    number = engine.clock_number()
    for _ in range(5):
        clock.advance(60)
        put(engine, clock)
    assert engine.clock_number() == number


def test_a_clock_that_says_2099_although_set_is_doubted_before_it_is_believed(
    stores: Stores,
) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    set_right(clock, START_NS)
    put(engine, clock)
    set_right(clock, YEAR_2099_NS)
    put(engine, clock)
    assert shown(engine)[0] == (1, "corrected")
    assert engine.statistics().clock_doubt_ns == YEAR_2099_NS - START_NS
    clock.advance(300)
    set_right(clock, START_NS)
    put(engine, clock)
    clock.advance(STEP_CALM_NS // SECOND + 1)
    put(engine, clock)
    assert shown(engine)[0] == (1, "corrected")
    assert engine.statistics().clock_doubt_ns == 0


def test_a_doubted_clock_is_believed_once_it_has_stood(stores: Stores) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    set_right(clock, START_NS + 5 * HOUR)
    put(engine, clock)
    set_right(clock, START_NS)
    put(engine, clock)
    assert shown(engine)[0] == (5 * 3600 + 1, "corrected")
    clock.advance(STEP_CALM_NS // SECOND + 1)
    put(engine, clock)
    assert shown(engine)[0] == (1, "corrected")


@pytest.mark.parametrize("off_ns", [-2 * HOUR, AHEAD_NS_MAX + HOUR])
def test_a_first_time_that_contradicts_the_store_is_doubted(stores: Stores, off_ns: int) -> None:
    put(stores.open(), stores.clock)
    told_ns = stores.clock.read().wall_ns
    stores.close_and_check()
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    set_right(clock, told_ns + off_ns)
    put(engine, clock)
    assert records(engine)[1].time_quality == "unsynced"
    assert engine.statistics().clock_doubt_ns != 0


def test_no_clock_is_set_before_2020_whatever_it_says() -> None:
    clock = ManualClock(WOKE_NS, synced=True)
    keeper = Timekeeper(clock.read())
    dating = keeper.dating(clock.read(), NO_CLOCKS, 0, frozenset())
    assert dating.noted is None
    assert not dating.stamp.synced


def test_a_boot_whose_clock_was_set_all_along_is_noted_and_told_nobody(stores: Stores) -> None:
    engine, clock = stores.open(), stores.clock
    put(engine, clock)
    assert engine.clock_number() == 1
    assert engine.clock_notes(0) == []
    # It loses its source of time, and is right all the same.
    clock.step_wall(clock.read().wall_ns, synced=False)
    clock.advance(5)
    put(engine, clock)
    assert records(engine)[1].time_quality == "corrected"
    now = clock.read()
    clock.step_wall(now.wall_ns, synced=True)
    put(engine, clock)
    ((number, told),) = engine.clock_notes(0)
    assert (number, told.offset_ns) == (2, now.wall_ns - now.boot_ns)


def test_after_a_restart_within_a_boot_its_early_records_are_put_right(stores: Stores) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    engine.close()
    clock.advance(5)
    set_right(clock, START_NS)
    engine = stores.open()
    put(engine, clock)
    assert shown(engine) == [(1, "corrected"), (6, "synced")]
    assert [told.needed for _, told in engine.clock_notes(0)] == [True]


def test_stored_time_does_not_run_backwards_when_the_clock_goes_back_three_hours(
    stores: Stores,
) -> None:
    engine, clock = stores.open(), stores.clock
    start_ns = clock.read().wall_ns
    for _ in range(3):
        put(engine, clock)
        clock.advance(60)
    newest_ns = start_ns + 120 * SECOND
    clock.step_wall(clock.read().wall_ns - 3 * HOUR)
    for _ in range(3):
        put(engine, clock)
        clock.advance(60)
    engine.close()
    engine = stores.open()
    put(engine, clock)
    blocks = [item for item in read_all(engine) if isinstance(item, Block)]
    assert [block.stored_ns for block in blocks][2:] == [newest_ns] * 5
    assert sorted(block.boot_ns for block in blocks) == [block.boot_ns for block in blocks]
    clock.advance(4 * 3600)
    put(engine, clock)
    assert records(engine)[-1].stored_ns == clock.read().wall_ns


def test_a_clock_that_was_a_day_and_more_ahead_holds_nothing(stores: Stores) -> None:
    engine, clock = stores.open(), stores.clock
    right_ns = clock.read().wall_ns
    clock.step_wall(right_ns + HELD_NS_MAX + HOUR)
    put(engine, clock)
    clock.step_wall(right_ns)
    put(engine, clock)
    assert records(engine)[-1].stored_ns == right_ns


def test_looking_for_a_time_finds_what_was_stored_before_the_clock_went_back(
    stores: Stores,
) -> None:
    engine, clock = stores.open(), stores.clock
    start_ns = clock.read().wall_ns
    for _ in range(40):
        clock.advance(60)
        put(engine, clock)
    clock.step_wall(start_ns - 3 * HOUR)
    for _ in range(60):
        clock.advance(60)
        put(engine, clock)
    # Those before the step, and they are shown as they arrived.
    wanted = [r.seq for r in records(engine) if r.time_ns >= start_ns + 20 * 60 * SECOND]
    assert len(wanted) == 21
    assert engine.read_near("main", start_ns + 20 * 60 * SECOND) <= wanted[0]


@pytest.mark.parametrize("kind", ["arrival", "relative"])
def test_looking_for_a_time_finds_corrected_records(
    stores: Stores, kind: Literal["arrival", "relative"]
) -> None:
    clock = stores.clock
    right_ns = START_NS
    for _ in range(6):
        engine = woken(stores)
        for _ in range(30):
            clock.advance(60)
            put(engine, clock, time=-30 if kind == "relative" else None)
        set_right(clock, right_ns)
        put(engine, clock)
        right_ns += 24 * HOUR
        engine.close()
    engine = stores.open()
    found: list[Record] = records(engine)
    assert [r.time_ns for r in found] == sorted(r.time_ns for r in found)
    for record in found[::7]:
        near = engine.read_near("main", record.time_ns)
        assert near <= record.seq
        # And not from the very beginning: other boots are left out.
        assert near > record.seq - 70


def test_retention_waits_and_then_counts_by_true_times(stores: Stores) -> None:
    logs = (LogSettings("main", keep_s=3600.0),)
    stores.clock.reboot(wall_ns=WOKE_NS)
    engine, clock = stores.open(logs=logs), stores.clock
    put(engine, clock)
    for right_ns in (
        START_NS,
        START_NS + 56 * 365 * 24 * HOUR,
        START_NS,
        START_NS - 3 * HOUR,
        START_NS,
    ):
        set_right(clock, right_ns)
        put(engine, clock)
        engine.trim()
        clock.advance(30)
        assert not engine.trim().trimmed
    clock.advance(STEP_CALM_NS // SECOND + 1)
    engine.trim()
    assert engine.first_seq("main") == 1
    clock.advance(3600)
    put(engine, clock)
    engine.trim()
    assert engine.first_seq("main") > 1


def test_a_note_is_about_this_boot_and_counts_its_clock(stores: Stores) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    clock.advance(9)
    set_right(clock, START_NS)
    put(engine, clock)
    now = clock.read()
    ((_, told),) = engine.clock_notes(0)
    assert told == ClockNote("", now.boot_id, START_NS, now.boot_ns, 1, needed=True)


def test_what_is_shown_as_the_oldest_is_put_right_too(stores: Stores) -> None:
    engine, clock = woken(stores), stores.clock
    put(engine, clock)
    assert engine.statistics().logs["main"].oldest_stored_ns == WOKE_NS
    set_right(clock, START_NS)
    put(engine, clock)
    assert engine.statistics().logs["main"].oldest_stored_ns == START_NS + SECOND


def test_when_we_stored_a_foreign_block_is_put_right_by_our_own_clock(stores: Stores) -> None:
    engine, clock = woken(stores), stores.clock
    engine.commit([Entry(blocks=(foreign(2, 1),))])
    set_right(clock, START_NS)
    put(engine, clock)
    first, *_ = records(engine)
    # By its agent's clock, which was set.
    assert (first.time_quality, first.time_ns) == ("synced", START_NS)
    assert first.stored_ns == START_NS + SECOND
