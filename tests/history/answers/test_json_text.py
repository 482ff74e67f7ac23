"""Records as JSON from columns: what `to_json` says of the records themselves."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.history import Rows, Way, make_segment, times_of
from edge_agent.history.answers.json_text import RowShape, orders_of, records_as_json
from edge_agent.history.format.segment import (
    decode_segment,
    encode_segment,
    join_segments,
    records_of,
)
from edge_agent.output.render import to_json
from edge_agent.values.record import format_time

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT
    | st.binary(max_size=5)
)  # fmt: skip
FIELDS = st.dictionaries(
    TEXT,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=4,
)
WAYS = [
    Way("main", "pi/%d", "sensor", True, False),
    Way("other", 'a"b', "arrival", False, False),
    Way("main", "hub", "relative", False, True, "0123456789ab", "e%d", "main"),
]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 5), FIELDS, st.integers(0, 2)), min_size=1, max_size=12),
    st.booleans(),
)
def test_the_text_is_that_of_the_records(
    given_rows: list[tuple[int, dict[str, Any], int]], packed: bool
) -> None:
    rows = Rows()
    for seq, (second, fields, way) in enumerate(given_rows, 1):
        rows.times.append(second * 1_000_000_007)
        rows.seqs.append(seq)
        rows.source_seqs.append(seq)
        rows.origin_seqs.append(seq * 10 if way == 2 else 0)
        rows.way_of.append(rows.way(WAYS[way]))
        rows.fields.append(fields)
    segment = make_segment(rows)
    if packed:
        *_, whole = join_segments([segment])
        assert whole is not None
        segment = decode_segment(encode_segment(whole))
    records = list(records_of(segment, "a/b"))
    times = times_of(segment)
    for begin, end in ((0, len(records)), (len(records) // 2, len(records)), (0, 1)):
        texts = records_as_json(segment, "a/b", times, begin, end)
        expected = records[begin:end]
        assert list(orders_of(segment, "a/b", times, begin, end)) == [
            (one.time_ns, "a/b", one.log, one.seq) for one in expected
        ]
        for text, record in zip(texts, expected, strict=True):
            assert text == to_json(record)


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=9),
    st.sampled_from([10**6, 10**9, 60 * 10**9, 3600 * 10**9]),
)
def test_starts_of_steps_look_as_moments_do(numbers: list[int], step_ns: int) -> None:
    times = [number * step_ns for number in numbers]
    rows = RowShape((), 1, unix=False).figures(times, [numbers])
    assert [json.loads(row) for row in rows] == [
        [format_time(time_ns), number] for time_ns, number in zip(times, numbers, strict=True)
    ]
