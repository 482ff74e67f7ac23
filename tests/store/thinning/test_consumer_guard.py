from __future__ import annotations

import lmdb
import pytest

from edge_agent.store import Block, ConsumerSettings, Engine, Entry, LogSettings, Position
from edge_agent.store.thinning import consumer_guard
from edge_agent.store.thinning.consumer_guard import ALONE_MAX, Guard, HandedOut, guard_of
from tests.store.conftest import Stores
from tests.store.support import entry, small

SETTINGS = small(
    logs=(LogSettings("main", share=0.8),),
    consumers=(ConsumerSettings("up", "main"), ConsumerSettings("other", "main")),
)


@pytest.fixture
def engine(stores: Stores) -> Engine:
    """Blocks 1–3, 4–6 … 28–30."""
    engine = stores.open()
    for group in range(10):
        engine.commit([entry(3, 1 + 3 * group)])
    return engine


def look(engine: Engine, *alone: int, **handed: int) -> Guard:
    env = engine._env  # what the engine itself would hand over
    assert isinstance(env, lmdb.Environment)
    header = engine._state.logs["main"]
    with env.begin(buffers=True) as txn:
        told = HandedOut()
        for name, seq in handed.items():
            told.note(name, "main", seq)
        for seq in alone:
            told.note("up", "main", seq, alone=True)
        return guard_of(txn, header, "main", SETTINGS, told, 4096)


def left_alone(engine: Engine, found: Guard) -> list[int]:
    blocks = engine.read("main", 0, 2**20)
    return [block.first for block in blocks if isinstance(block, Block) and found.covers(block)]


def acknowledge(engine: Engine, consumer: str, floor: int) -> None:
    engine.commit([Entry(positions=(Position(consumer, "main", floor),))])


def test_what_a_consumer_has_in_part_or_was_handed_is_left_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_guard, "GUARD_BYTES", 0)
    acknowledge(engine, "up", 5)
    acknowledge(engine, "other", 30)
    assert left_alone(engine, look(engine)) == [1, 4]
    assert left_alone(engine, look(engine, up=6)) == [1, 4]
    assert left_alone(engine, look(engine, up=11)) == [1, 4, 7, 10]


def test_and_some_bytes_behind_that(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_guard, "GUARD_BYTES", 1)
    acknowledge(engine, "up", 6)
    acknowledge(engine, "other", 30)
    assert left_alone(engine, look(engine)) == [1, 4, 7]
    assert left_alone(engine, look(engine, up=12)) == [1, 4, 7, 10, 13]
    monkeypatch.setattr(consumer_guard, "GUARD_BYTES", 900)
    assert len(left_alone(engine, look(engine))) > 4


def test_a_record_that_went_out_of_turn_is_left_alone_until_its_turn_has_come(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_guard, "GUARD_BYTES", 0)
    acknowledge(engine, "up", 3)
    acknowledge(engine, "other", 30)
    assert left_alone(engine, look(engine, 20, 29)) == [1, 19, 28]
    acknowledge(engine, "up", 20)
    assert left_alone(engine, look(engine, 20, 29)) == [1, 4, 7, 10, 13, 16, 19, 28]


def test_what_was_handed_in_turn_is_no_longer_noted_by_itself() -> None:
    handed = HandedOut()
    for seq in (4, 9):
        handed.note("up", "main", seq, alone=True)
    handed.note("up", "main", 7)
    assert handed.upto("up", "main") == 7
    assert handed.alone("up", "main") == {9} and not handed.alone("other", "main")


def test_of_very_many_single_records_the_newest_are_remembered() -> None:
    handed = HandedOut()
    for seq in range(100, 200):
        handed.note("up", "main", seq, alone=True)
    assert handed.alone("up", "main") == frozenset(range(200 - ALONE_MAX, 200))


def test_without_consumers_nothing_is(engine: Engine) -> None:
    assert left_alone(engine, Guard(0, [])) == []


def test_one_that_never_had_anything_guards_the_first_blocks(engine: Engine) -> None:
    assert left_alone(engine, look(engine))[0] == 1


def test_what_lies_beside_the_end_of_a_backlog_never_becomes_one_block(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_guard, "GUARD_BYTES", 0)
    names = ("upstream/a", "upstream/a/backlog")
    consumers = tuple(ConsumerSettings(name, "main") for name in names)
    monkeypatch.setitem(globals(), "SETTINGS", small(logs=SETTINGS.logs, consumers=consumers))
    newer = Position("upstream/a", "main", 27)
    engine.commit([Entry(positions=(newer,))])
    engine.commit([Entry(positions=(Position("upstream/a/backlog", "main", 3, span=(4, 15)),))])
    assert left_alone(engine, look(engine)) == [1, 4, 13, 16]
