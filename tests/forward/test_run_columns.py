"""Slices of runs say what `Batch.records` says, which makes a record of each."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.forward.run_columns import RunColumns, columns_in, fields_as_json, gathered
from edge_agent.forward.sink import Batch
from edge_agent.store import Block, Gap, encode_runs
from edge_agent.store.format.record_maps import SLICE_ELEMENTS
from edge_agent.values.record import Origin, Record, format_time
from edge_agent.values.stream_names import compile_patterns
from tests.forward.support import NOW_NS, make_run

RECORD = Record("main", 7, "t/1", NOW_NS, "sensor", NOW_NS, True, "s", 1, {"n": 7})
BODIES: tuple[dict[str, Any], ...] = (
    {"n": 1, "time": 1795341600.25}, {"n": 2, "stream": "x"}, {"time": "no", "n": 3},
    {"time": -3}, {}, {"time": 100, "x": float("nan")}, {"time": {"historic": -1.5}, "b": b"x"},
)  # fmt: skip
matches = compile_patterns(("t/**", "$agents/**"))


def odd_block(foreign: bool, set_right: bool, first: int = 1) -> Block:
    """Four runs of seven records and one of a single one, of different streams and sources."""
    kinds = (("t/1", "s"), ("other", "s"), ("t/2", "$thin/t/2"), ("t/1", "r\"'\\"))
    runs = [
        replace(make_run(stream, 7), body=b"".join(map(msgpack.packb, BODIES)), source=source,
                synced=False)
        for stream, source in kinds
    ]  # fmt: skip
    # What a peer may send: no text, which hides no other record.
    runs.append(replace(make_run("t/3", 2), body=b"\x81\xa1\xff\x01" + msgpack.packb({"n": 1})))
    raw = encode_runs(runs)
    origin = Origin("77aa", "e9", "alarms", 40, bytes(16), 1, NOW_NS, False, ("77aa",))
    block = Block(
        "main", first, 30, 0, len(raw), raw, bytes(16), 1, NOW_NS, False, NOW_NS, NOW_NS,
        origin if foreign else None,
    )  # fmt: skip
    return block.corrected({("77aa" if foreign else "", bytes(16)): 10**18}) if set_right else block


@given(st.integers(1, 70), st.integers(1, 70), st.booleans(), st.booleans())
def test_a_batch_has_the_same_records_in_slices(
    one: int, other: int, foreign: bool, set_right: bool
) -> None:
    items = (
        odd_block(foreign, set_right), Gap("main", 31, 35, "trimmed"),
        odd_block(not foreign, set_right, 36),
    )  # fmt: skip
    batch = Batch("main", min(one, other), max(one, other), items)
    slices = list(columns_in(batch, matches))
    found = [record for each in slices for record in each.records()]
    assert repr(found) == repr(list(batch.records(matches)))
    singly = [RunColumns.of(record) for record in found]
    assert repr([record for each in singly for record in each.records()]) == repr(found)
    for each in slices:
        records = list(each.records())
        assert each.last == records[-1].seq
        assert {one.time_quality for one in records} <= {"sensor", each.our_trust}


def test_a_run_of_a_million_is_not_decoded_at_once() -> None:
    count = 3 * SLICE_ELEMENTS
    raw = encode_runs([replace(make_run("t/1", count), body=b"\x80" * count)])
    block = Block("main", 1, count, 0, len(raw), raw, bytes(16), 1, NOW_NS, True, NOW_NS, NOW_NS)
    found = list(columns_in(Batch("main", 2, count - 1, (block,)), matches))
    assert len(found) > 2 and max(len(one.fields) for one in found) <= SLICE_ELEMENTS
    assert (found[0].seq, found[-1].last) == (2, count - 1)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, NOW_NS, NOW_NS + 5])))
def test_times_read_as_everywhere(times: list[int]) -> None:
    one = msgspec.structs.replace(RECORD)
    slices = RunColumns.of(one)
    several = RunColumns(
        slices.log, 1, slices.stream, NOW_NS, True, "s", 1,
        [{}] * len(times), [(time_ns, "sensor") for time_ns in times], 1,
    )  # fmt: skip
    assert several.time_texts() == [format_time(time_ns) for time_ns in times]


@pytest.mark.parametrize("count, sizes", [(0, []), (2, [2]), (9, [2, 4, 3]), (10, [2, 4, 4])])
def test_lists_have_about_as_many_records_as_wanted(count: int, sizes: list[int]) -> None:
    slices = [RunColumns.of(replace(RECORD, seq=seq)) for seq in range(count)]
    found = list(gathered(slices, 2, 4))
    assert [len(some) for some in found] == sizes
    assert [one for some in found for one in some] == slices


def test_what_json_cannot_say_hides_no_other() -> None:
    records = [RECORD, replace(RECORD, fields={"x": object()}), replace(RECORD, fields={"t": "ü"})]
    first, odd, last = fields_as_json(map(RunColumns.of, records), msgspec.json.Encoder())
    assert (first, last) == (b'{"n":7}', '{"t":"ü"}'.encode()) and isinstance(odd, TypeError)
    assert fields_as_json([], msgspec.json.Encoder()) == []
