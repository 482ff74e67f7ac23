from __future__ import annotations

import lmdb
import pytest

from edge_agent.store import Block, Engine, Entry, Gap
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import block_key
from tests.store.conftest import Stores
from tests.store.support import START_NS, entry, read_all, records, run, values

HOUR_NS = 3600 * 10**9


@pytest.fixture
def engine(stores: Stores) -> Engine:
    """Blocks 1–3, 4–6 … 28–30."""
    engine = stores.open()
    for group in range(10):
        engine.commit([entry(3, 1 + 3 * group)])
    return engine


def damage(stores: Stores, *firsts: int, remove: bool = False) -> Engine:
    """Rewrite blocks behind the engine's back and open it again."""
    stores.damaged.add("agent")
    env = open_environment(stores.path() / "store", 4 * 1024 * 1024)
    with writing(env) as txn:
        for first in firsts:
            key = block_key(1, first)
            value = txn.pop(key)
            assert value is not None
            if not remove:
                txn.put(key, value[:-1] + bytes((value[-1] ^ 1,)))
    env.close()
    return stores.open()


def test_reading_goes_on_from_any_position(engine: Engine) -> None:
    for after in range(31):
        assert values(engine, after=after) == list(range(after + 1, 31))
    assert engine.read("main", 30, 100) == []
    assert engine.read("main", 99, 100) == []
    assert values(engine, after=-5) == list(range(1, 31))


def test_the_first_block_holds_the_record_after_the_position(engine: Engine) -> None:
    block = engine.read("main", 4, 1)[0]
    assert (block.first, block.last) == (4, 6)


def test_at_least_one_block_and_then_up_to_the_limit(engine: Engine) -> None:
    assert len(engine.read("main", 0, 0)) == 1
    first = engine.read("main", 0, 1)[0]
    assert isinstance(first, Block)
    size = len(first.payload)
    assert len(engine.read("main", 0, 3 * size)) == 3
    assert len(engine.read("main", 0, 3 * size + size // 2)) == 3


@pytest.mark.parametrize("upto, last", [(4, 6), (6, 6), (7, 9), (9, 9), (3, 6), (99, 30)])
def test_no_block_is_read_that_begins_behind_what_is_wanted_but_the_first(
    engine: Engine, upto: int, last: int
) -> None:
    found = engine.read("main", 3, 10**6, upto)
    assert (found[0].first, found[-1].last) == (4, last)


def test_a_damaged_block_is_a_gap_and_the_rest_is_read(stores: Stores, engine: Engine) -> None:
    engine.close()
    again = damage(stores, 4, 28)
    gaps = [item for item in read_all(again) if isinstance(item, Gap)]
    assert gaps == [Gap("main", 4, 6, "damaged"), Gap("main", 28, 30, "damaged")]
    assert values(again) == [n for n in range(1, 28) if n not in (4, 5, 6)]
    assert again.read("main", 4, 1) == [Gap("main", 5, 6, "damaged")]


def test_neighbouring_damage_is_one_gap(stores: Stores, engine: Engine) -> None:
    engine.close()
    again = damage(stores, 4, 7, 10)
    assert again.read("main", 3, 1000)[0] == Gap("main", 4, 12, "damaged")


def test_missing_blocks_are_gaps_too(stores: Stores, engine: Engine) -> None:
    engine.close()
    again = damage(stores, 1, 13, 28, remove=True)
    gaps = [item for item in read_all(again) if isinstance(item, Gap)]
    assert [(gap.first, gap.last) for gap in gaps] == [(1, 3), (13, 15), (28, 30)]
    assert {gap.reason for gap in gaps} == {"damaged"}
    assert len(records(again)) == 21


def test_logs_do_not_read_into_one_another(stores: Stores) -> None:
    from edge_agent.store import LogSettings

    logs = tuple(LogSettings(name, (f"{name}/**",), share=0.2) for name in ("main", "b", "c"))
    engine = stores.open(logs=logs)
    for name in ("c", "b", "main"):
        engine.commit([Entry(runs=(run(2, stream=f"{name}/x"),))])
    for name in ("main", "b", "c"):
        assert values(engine, name) == [0, 1]
        assert values(engine, name, after=1) == [1]


def test_near_finds_where_a_time_begins(stores: Stores) -> None:
    engine = stores.open()
    for hour in range(200):
        now = START_NS + hour * HOUR_NS
        stores.clock.step_wall(now + 10**9)
        engine.commit([Entry(runs=(run(2, time_ns=now),))])
    for hour in range(0, 200, 7):
        near = engine.read_near("main", START_NS + hour * HOUR_NS)
        assert near == 2 * hour + 1
    assert engine.read_near("main", 0) == 1
    assert engine.read_near("main", START_NS + 500 * HOUR_NS) == 401
    assert engine.read_near("none", 5) == 1


def test_near_is_on_the_safe_side_where_clocks_were_wrong(stores: Stores) -> None:
    engine = stores.open()
    wanted = 0
    for step in range(60):
        # Every other boot wakes up in 1970; sensors with clocks of their own tell true times.
        stores.clock.step_wall(START_NS + step * HOUR_NS if step % 2 else 5, synced=bool(step % 2))
        engine.commit([Entry(runs=(run(1, time_ns=START_NS + step * HOUR_NS),))])
        if step == 40:
            wanted = engine.last_seq("main")
    assert engine.read_near("main", START_NS + 40 * HOUR_NS) <= wanted


def test_near_in_an_empty_log_is_its_beginning(stores: Stores) -> None:
    assert stores.open().read_near("main", START_NS) == 1


def test_an_error_of_lmdb_is_told_in_our_words(stores: Stores, engine: Engine) -> None:
    from edge_agent.errors import StoreDamaged, StoreFailed

    with pytest.raises(StoreFailed), engine._reading():
        raise lmdb.DiskError("reading", 5)
    with pytest.raises(StoreDamaged), engine._reading():
        raise lmdb.CorruptedError("reading")
