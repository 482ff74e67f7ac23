from __future__ import annotations

import pytest

from edge_agent.store.retention.policy import (
    ClockWatch,
    Floors,
    HeldBlock,
    excess,
    floors_of,
    is_loss,
    upto_by_age,
    upto_by_share,
)
from edge_agent.store.settings import ConsumerSettings
from tests.manual_clock import ManualClock
from tests.store.support import START_NS

DAY_NS = 86_400 * 10**9
NOBODY = Floors(None, None)


def held(*, days: list[float], synced: list[bool] | None = None) -> list[HeldBlock]:
    """Blocks of ten records and 4000 bytes, stored so many days ago."""
    return [
        HeldBlock(
            1 + 10 * i,
            10 + 10 * i,
            4000,
            10,
            10,
            START_NS - int(age * DAY_NS),
            True if synced is None else synced[i],
            START_NS,
        )
        for i, age in enumerate(days)
    ]


def by_age(blocks: list[HeldBlock], floors: Floors = NOBODY) -> int:
    return upto_by_age(blocks, START_NS, 30 * 86_400.0, floors)


def test_what_is_older_than_it_should_be_kept_goes() -> None:
    assert by_age(held(days=[40, 35, 29, 1])) == 20
    assert by_age(held(days=[29, 1])) == 0
    assert by_age([]) == 0


def test_nothing_goes_that_a_required_consumer_lacks() -> None:
    blocks = held(days=[40, 39, 38])
    assert by_age(blocks, Floors(19, 0)) == 10
    assert by_age(blocks, Floors(20, 0)) == 20
    assert by_age(blocks, Floors(None, 0)) == 30


def test_a_block_of_an_unsynced_boot_goes_only_with_a_later_one() -> None:
    wrong = [False, True, False]
    assert by_age(held(days=[20_000, 40, 20_000], synced=wrong)) == 20
    assert by_age(held(days=[20_000, 29, 20_000], synced=wrong)) == 0


@pytest.mark.parametrize(
    "bytes_, floor, discard, upto",
    [
        (4096, 30, False, 10),
        (4097, 30, False, 20),
        (99_999, 25, False, 20),
        (99_999, 25, True, 40),
        (4096, 0, False, 0),
        (4096, 0, True, 10),
        (0, 30, True, 0),
    ],
)
def test_room_is_made_from_what_is_acknowledged_and_else_by_policy(
    bytes_: int, floor: int, discard: bool, upto: int
) -> None:
    blocks = held(days=[1, 1, 1, 1])
    assert upto_by_share(blocks, bytes_, 4096, Floors(floor, floor), discard=discard) == upto


def test_without_a_consumer_refuse_keeps_all_and_discard_is_a_ring() -> None:
    blocks = held(days=[1, 1])
    assert upto_by_share(blocks, 1, 4096, NOBODY, discard=False) == 0
    assert upto_by_share(blocks, 1, 4096, NOBODY, discard=True) == 10
    assert not is_loss(blocks[0], NOBODY)


def test_loss_is_what_any_configured_consumer_lacks() -> None:
    block = held(days=[1])[0]
    assert is_loss(block, Floors(10, 9))
    assert not is_loss(block, Floors(10, 10))


def test_floors_are_the_lowest_of_configured_consumers_of_this_log() -> None:
    consumers = (
        ConsumerSettings("a", "main"),
        ConsumerSettings("b", "main"),
        ConsumerSettings("optional", "main", required=False),
        ConsumerSettings("c", "alarms"),
    )
    floors = floors_of("main", consumers, {"a": 9, "b": 7, "optional": 3, "c": 1, "gone": 0})
    assert floors == Floors(7, 3)
    assert floors_of("main", consumers, {"a": 9}) == Floors(0, 0)
    assert floors_of("other", consumers, {}) == NOBODY


def test_the_excess_leaves_some_slack_but_never_more_than_there_is() -> None:
    assert excess(900, 100, 1000) == 0
    assert excess(950, 100, 1000) == 50 + 31
    assert excess(10, 5000, 1000) == 10


def test_a_clock_is_trusted_ten_minutes_after_start_and_after_each_step() -> None:
    clock = ManualClock()
    watch = ClockWatch(clock.read())

    def trusted() -> bool:
        watch.note(clock.read())
        return watch.trusted(clock.read())

    assert not trusted()
    clock.advance(601)
    assert trusted()
    clock.step_wall(clock.read().wall_ns + 56 * 365 * DAY_NS)
    assert not trusted()
    assert watch.steps == 1
    clock.advance(599)
    assert not trusted()
    clock.advance(2)
    assert trusted()
    clock.step_wall(clock.read().wall_ns - 3 * 3600 * 10**9)
    assert not trusted()
    assert watch.steps == 2


def test_a_clock_that_is_not_synced_is_never_trusted_and_becoming_so_counts_as_a_step() -> None:
    clock = ManualClock(synced=False)
    watch = ClockWatch(clock.read())
    clock.advance(10_000)
    watch.note(clock.read())
    assert not watch.trusted(clock.read())
    clock.step_wall(clock.read().wall_ns, synced=True)
    watch.note(clock.read())
    assert not watch.trusted(clock.read())
    clock.advance(601)
    watch.note(clock.read())
    assert watch.trusted(clock.read())


def test_slewing_is_no_step() -> None:
    clock = ManualClock()
    watch = ClockWatch(clock.read())
    for _ in range(100):
        clock.advance(60)
        clock.step_wall(clock.read().wall_ns + 30_000_000)
        watch.note(clock.read())
    assert watch.steps == 0
    assert watch.trusted(clock.read())


def test_a_backlog_counts_only_while_there_is_one() -> None:
    consumers = tuple(
        ConsumerSettings(name, "main") for name in ("upstream/a", "upstream/a/backlog")
    )
    assert floors_of("main", consumers, {"upstream/a": 9}) == Floors(9, 9)
    assert floors_of("main", consumers, {"upstream/a": 9, "upstream/a/backlog": 4}) == Floors(4, 4)
    # An upstream may be called so, too.
    assert floors_of("main", (ConsumerSettings("upstream/backlog", "main"),), {}) == Floors(0, 0)
