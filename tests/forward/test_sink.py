from __future__ import annotations

from pathlib import Path

from edge_agent.forward.sink import Batch
from edge_agent.store import Block, Gap
from edge_agent.values.stream_names import compile_patterns
from tests.forward.support import make_run, running_station
from tests.forward.thinned import plain_block, ten_of_two_streams

ALL = compile_patterns(["**"])


async def test_a_batch_gives_the_records_of_its_range(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(4)
        await station.put(4, stream="x", start=4)
        items = (*await station.log.read("main", 0), Gap("main", 9, 12, "damaged"))
        batch = Batch("main", 3, 10, items)
        assert [record.seq for record in batch.records(lambda _: True)] == [3, 4, 5, 6, 7, 8]
        assert [record.seq for record in batch.records("x".__eq__)] == [5, 6, 7, 8]
        assert batch.stored_records == 6
        each = [block.raw_len // block.count for block in items if isinstance(block, Block)]
        for _ in range(2):
            assert batch.stored_bytes == 2 * each[0] + 4 * each[1]


def test_of_a_thinned_block_that_begins_before_a_batch_nothing_is_given() -> None:
    """Its aggregates stand for records, too, that the upstream may have had."""
    items = (ten_of_two_streams(11), plain_block(21, make_run("t/1", 3)))
    whole = Batch("main", 11, 23, items)
    assert [record.seq for record in whole.records(ALL)] == [14, 20, 21, 22, 23]
    assert (whole.thinned, whole.withheld) == (10, 0)
    later = Batch("main", 13, 22, items)
    assert [record.seq for record in later.records(ALL)] == [21, 22]
    assert (later.thinned, later.withheld) == (8, 8)
    assert Batch("main", 21, 23, items[1:]).thinned == 0


def test_unless_it_was_cut_while_it_was_being_sent() -> None:
    items = (ten_of_two_streams(11),)
    first, rest = Batch("main", 11, 15, items, 11), Batch("main", 16, 20, items, 11)
    assert [record.seq for record in first.records(ALL)] == [14]
    assert [record.seq for record in rest.records(ALL)] == [20]
    assert (rest.thinned, rest.withheld) == (5, 0)
