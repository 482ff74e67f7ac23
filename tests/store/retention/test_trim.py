from __future__ import annotations

from typing import Any

import pytest

from edge_agent.errors import StoreFull
from edge_agent.store import (
    Block,
    ConsumerSettings,
    Engine,
    Entry,
    Gap,
    LogSettings,
    Position,
    Stored,
)
from edge_agent.store.retention import trim
from tests.store.conftest import Stores
from tests.store.support import entry, read_all, run, values

RING = (LogSettings("main", share=0.3),)
REFUSE = (LogSettings("main", share=0.3, when_full="refuse"),)
UP = (ConsumerSettings("up", "main"),)
#: A file of 1 MiB whose blocks are as large as their records.
TINY: dict[str, Any] = {"size": 1024 * 1024, "compression_level": 0}


def fill(engine: Engine, groups: int, *, start: int = 0) -> int:
    """Commit groups of 20 records of 1 KB; how many groups were stored."""
    for group in range(start, start + groups):
        first = 1 + 20 * group
        if isinstance(engine.commit([entry(20, first, pad=1000)]).answers[0], StoreFull):
            return group - start
    return groups


def acknowledge(engine: Engine, floor: int, consumer: str = "up") -> None:
    engine.commit([Entry(positions=(Position(consumer, "main", floor),))])


def test_a_full_ring_goes_on_for_many_turnovers(stores: Stores) -> None:
    engine = stores.open(logs=RING, **TINY)
    assert fill(engine, 100) == 100
    statistics = engine.statistics()
    log = statistics.logs["main"]
    assert log.bytes <= log.share_bytes
    assert log.bytes > log.share_bytes * 0.7
    assert log.trimmed == log.first - 1 > 1500
    assert log.discarded == 0
    assert values(engine) == list(range(log.first, 2001))
    assert engine.read("main", 0, 1) == [Gap("main", 1, log.first - 1, "trimmed")]


def test_blocks_of_all_sizes_mixed_turn_over_without_filling_the_file(stores: Stores) -> None:
    engine = stores.open(logs=(LogSettings("main", share=0.8),), size=1024 * 1024)
    first = 1
    for step in range(150):
        pad = (10, 300, 3000, 30_000)[step % 4]
        count = 1 + step % 5
        answer = engine.commit([entry(count, first, pad=pad)]).answers[0]
        assert isinstance(answer, Stored)
        first += count
    assert values(engine) == list(range(engine.first_seq("main"), first))


def test_what_is_trimmed_before_an_upstream_has_it_is_counted_as_discarded(
    stores: Stores,
) -> None:
    engine = stores.open(logs=RING, consumers=UP, **TINY)
    fill(engine, 5)
    acknowledge(engine, 100)
    fill(engine, 30, start=5)
    log = engine.statistics().logs["main"]
    assert log.trimmed == 100
    assert log.discarded == log.first - 1 - 100 > 0


def test_refuse_keeps_everything_and_goes_on_once_there_is_room(stores: Stores) -> None:
    engine = stores.open(logs=REFUSE, consumers=UP, **TINY)
    stored = fill(engine, 30)
    assert 7 < stored < 30
    assert values(engine) == list(range(1, 20 * stored + 1))
    assert fill(engine, 1, start=stored) == 0
    acknowledge(engine, 20 * (stored // 2))
    assert fill(engine, 3, start=stored) == 3
    log = engine.statistics().logs["main"]
    assert (log.trimmed > 0, log.discarded) == (True, 0)
    assert log.first <= 20 * (stored // 2) + 1


def test_refuse_without_any_consumer_removes_nothing(stores: Stores) -> None:
    engine = stores.open(logs=REFUSE, **TINY)
    assert fill(engine, 30) < 30
    assert engine.first_seq("main") == 1


def test_a_consumer_that_is_no_longer_configured_holds_nothing(stores: Stores) -> None:
    engine = stores.open(logs=REFUSE, consumers=UP, **TINY)
    stored = fill(engine, 30)
    acknowledge(engine, 20 * stored)
    acknowledge(engine, 1, consumer="gone")
    assert fill(engine, 5, start=stored) == 5


def test_one_log_at_its_share_leaves_the_others_alone(stores: Stores) -> None:
    logs = (LogSettings("bulk", ("bulk/**",), share=0.1), LogSettings("main", share=0.3))
    engine = stores.open(logs=logs, **TINY)
    engine.commit([Entry(runs=(run(5),))])
    for _ in range(30):
        engine.commit([Entry(runs=(run(20, stream="bulk/x", pad=1000),))])
    assert engine.first_seq("bulk") > 1
    assert values(engine) == [0, 1, 2, 3, 4]


def test_age_trims_only_with_a_clock_that_can_be_trusted(stores: Stores) -> None:
    engine = stores.open(logs=(LogSettings("main", share=0.3, keep_s=3600.0),))
    fill(engine, 3)
    stores.clock.step_wall(stores.clock.read().wall_ns + 56 * 365 * 86_400 * 10**9)
    assert engine.trim().trimmed == {}
    fill(engine, 1, start=3)
    stores.clock.advance(700)
    assert engine.trim().trimmed == {"main": 60}
    assert values(engine) == list(range(61, 81))


def test_age_never_takes_what_a_required_consumer_lacks(stores: Stores) -> None:
    engine = stores.open(
        logs=(LogSettings("main", share=0.3, keep_s=3600.0),),
        consumers=(*UP, ConsumerSettings("maybe", "main", required=False)),
    )
    fill(engine, 4)
    acknowledge(engine, 40)
    stores.clock.advance(7200)
    engine.trim()
    assert engine.first_seq("main") == 41
    log = engine.statistics().logs["main"]
    # The optional consumer had none of it, so for it this is loss.
    assert (log.trimmed, log.discarded) == (0, 40)


def test_a_log_trimmed_empty_knows_where_it_was(stores: Stores) -> None:
    engine = stores.open(logs=(LogSettings("main", share=0.3, keep_s=3600.0),))
    fill(engine, 2)
    stores.clock.advance(7200)
    assert engine.trim().trimmed == {"main": 40}
    assert (engine.first_seq("main"), engine.last_seq("main")) == (41, 40)
    assert read_all(engine) == [Gap("main", 1, 40, "trimmed")]
    assert engine.statistics().logs["main"].bytes == 0
    engine.close()
    again = stores.open(logs=RING)
    fill(again, 1, start=2)
    assert values(again) == list(range(41, 61))


def test_many_small_blocks_are_trimmed_in_bounded_steps(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trim, "TRIM_BLOCKS", 8)
    engine = stores.open(logs=(LogSettings("main", share=0.3, keep_s=3600.0),))
    for first in range(1, 31):
        engine.commit([entry(1, first)])
    stores.clock.advance(7200)
    assert engine.trim().trimmed == {"main": 30}


def test_a_smaller_share_is_reached_by_the_next_pass(stores: Stores) -> None:
    engine = stores.open(logs=RING, **TINY)
    fill(engine, 12)
    engine.close()
    again = stores.open(logs=(LogSettings("main", share=0.1),), **TINY)
    again.trim()
    log = again.statistics().logs["main"]
    assert log.bytes <= log.share_bytes
    assert any(isinstance(item, Block) for item in read_all(again))
