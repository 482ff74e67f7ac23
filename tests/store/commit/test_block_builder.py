"""How records become blocks, seen through the engine."""

from __future__ import annotations

from edge_agent.store import Block, Entry, LogSettings, Stored
from edge_agent.values.record import Run
from tests.store.conftest import Stores
from tests.store.support import START_NS, entry, foreign, pack, read_all, records, run, values

TWO_LOGS = (LogSettings("alarms", ("alarms/**",), share=0.2), LogSettings("main", share=0.5))


def test_a_group_becomes_one_block_and_two_groups_two(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1), entry(2, 4)])
    engine.commit([entry(1, 6)])
    assert [(item.first, item.last) for item in read_all(engine)] == [(1, 5), (6, 6)]


def test_blocks_stay_below_their_limit_before_compression(stores: Stores) -> None:
    engine = stores.open(block_bytes=2048)
    engine.commit([entry(50, 1, pad=100), entry(5, 51, pad=100), entry(1, 56, pad=5000)])
    blocks = [item for item in read_all(engine) if isinstance(item, Block)]
    assert sum(block.count for block in blocks) == 56
    assert all(block.raw_len <= 2048 + 64 for block in blocks[:-1])
    assert blocks[-1].count == 1
    assert [record.source_seq for record in records(engine)] == list(range(1, 57))


def test_streams_go_to_their_logs_and_each_has_its_own_seqs(stores: Stores) -> None:
    engine = stores.open(logs=TWO_LOGS)
    both = Entry(runs=(run(2), run(1, stream="alarms/fire", value=7), run(1, value=2)))
    assert engine.commit([both]).answers == (Stored({"main": 3, "alarms": 1}, 0, 0),)
    assert values(engine, "main") == [0, 1, 2]
    assert values(engine, "alarms") == [7]


def test_foreign_blocks_keep_their_place_among_runs_and_their_payload(stores: Stores) -> None:
    engine = stores.open()
    block = foreign(3, 100)
    engine.commit([entry(1, 1), Entry(blocks=(block,)), entry(1, 2)])
    items = [item for item in read_all(engine) if isinstance(item, Block)]
    assert [(item.first, item.count) for item in items] == [(1, 1), (2, 3), (5, 1)]
    assert items[1].payload == block.payload
    assert items[1].origin == block.origin
    assert values(engine) == [1, 100, 101, 102, 2]


def test_a_foreign_block_goes_to_the_log_of_its_name_or_to_main(stores: Stores) -> None:
    engine = stores.open(logs=TWO_LOGS)
    engine.commit([Entry(blocks=(foreign(1, 1, log="alarms"), foreign(2, 2, log="unknown")))])
    assert (engine.last_seq("alarms"), engine.last_seq("main")) == (1, 2)


def test_odd_bodies_are_stored_as_they_came(stores: Stores) -> None:
    engine = stores.open()
    body = pack({"v": 1, "nested": {"deep": [1, None, b"bytes"]}})
    engine.commit([Entry(runs=(Run("a/1", "pi", 0, START_NS, True, 1, body, START_NS, START_NS),))])
    assert next(iter(records(engine))).fields == {"v": 1, "nested": {"deep": [1, None, b"bytes"]}}
