from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import NatsTable, Size
from edge_agent.forward.sinks.http.body import RenderedRecord, encode_each
from edge_agent.forward.sinks.http.encoded_runs import EncodedRun
from edge_agent.forward.sinks.nats.packing import (
    PART_MESSAGES,
    PackedPart,
    Subjects,
    pack,
    stream_subjects,
    takes,
)
from tests.forward.support import upstream


def record(seq: int, stream: str = "t/1", **fields: Any) -> RenderedRecord:
    return RenderedRecord(f"e/main/{seq}", "a", seq, stream, "now", "s", fields, "sensor")


def packed(
    records: list[RenderedRecord], most: int = 1 << 20, has: int = 0, **table: Any
) -> PackedPart:
    its = NatsTable(**table)
    up = upstream("nats://127.0.0.1", nats=its)
    runs = [
        EncodedRun(one.stream, one.source, one.seq, encode_each([one], "ndjson"), "", [b""])
        for one in records
    ]
    whole = PackedPart()
    for part in pack(runs, Subjects(its.subject, "a", "main"), up, its, most, has):
        assert len(part.messages) <= PART_MESSAGES
        whole.messages += part.messages
        whole.records += part.records
        whole.refused |= part.refused
    assert has or whole.records == len(records)
    return whole


def seqs(payload: bytes) -> list[int]:
    return [json.loads(line)["seq"] for line in payload.splitlines()]


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from("xyz"), st.integers(0, 300)), max_size=30
    ),
    st.integers(1, 7),
    st.integers(256, 2000),
    st.booleans(),
)
def test_every_record_is_in_one_message_in_order_and_no_message_is_too_large(
    steps: list[tuple[int, str, int]], records_max: int, bytes_max: int, by_stream: bool
) -> None:
    seq, records = 0, []
    for step, stream, size in steps:
        seq += step
        records.append(record(seq, stream, pad="x" * size))
    subject = "edge.{agent}.{log}" + ".{stream}" * by_stream
    done = packed(
        records, bytes_max, subject=subject, message_records=records_max,
        message_bytes=Size(bytes_max),
    )  # fmt: skip
    assert all(len(message.payload) <= bytes_max for message in done.messages)
    found = [one for message in done.messages for one in seqs(message.payload)]
    assert sorted([*found, *done.refused]) == [one.seq for one in records]
    assert found == sorted(found)
    for message in done.messages:
        here = seqs(message.payload)
        assert (message.first, message.last) == (here[0], here[-1])
        assert len(here) <= records_max


def test_a_record_that_fits_no_message_is_named_once_the_others_are_stored() -> None:
    done = packed([record(1), record(2, pad="x" * 5000), record(3)], 1000)
    assert [(m.first, m.last) for m in done.messages] == [(1, 1), (3, 3)]
    assert list(done.refused) == [2]


def test_a_record_that_was_left_out_is_named_again_though_those_behind_it_are_there() -> None:
    records = [record(1), record(2, pad="x" * 2000), record(3), record(4)]
    found = packed(records, most=1024, has=3)
    assert [seqs(one.payload) for one in found.messages] == [[4]]
    assert list(found.refused) == [2] and found.records == 2


def test_a_large_record_goes_alone_where_the_server_takes_it() -> None:
    done = packed([record(1), record(2, pad="x" * 5000), record(3)], message_bytes=Size(1000))
    assert [seqs(m.payload) for m in done.messages] == [[1], [2], [3]] and not done.refused


def test_a_stream_name_becomes_parts_of_a_subject() -> None:
    subjects = Subjects("edge.{agent}.{log}.{stream}", "a1", "main")
    assert subjects.of("house/room 1/t.x") == "edge.a1.main.house.room_1.t_x"
    assert subjects.filter == "edge.a1.main.>"
    assert stream_subjects("edge.{agent}.{log}.{stream}") == ["edge.*.*.>"]
    plain = Subjects("x.{log}.{agent}", "a1", "main")
    assert plain.of("t/1") == plain.filter == "x.main.a1"


@pytest.mark.parametrize(
    "there, wanted, taken",
    [
        (["edge.*.*"], "edge.a.main", True),
        (["x", "edge.>"], "edge.a.main", True),
        (["edge.*.*.>"], "edge.a.main.>", True),
        (["edge.*.*.*"], "edge.a.main.>", False),
        (["edge.*.*.>"], "edge.a.main", False),
        (["edge.*"], "edge.a.main", False),
        (["edge.*.*"], "edge.a", False),
        ([], "edge.a.main", False),
    ],
)
def test_what_a_stream_takes(there: list[str], wanted: str, taken: bool) -> None:
    assert takes(there, wanted) is taken
