"""One usual record by itself goes the short way; what is not that goes the long one."""

from __future__ import annotations

import json

import msgpack
import pytest

from edge_agent.wire import Arrival, WireLimits, read_messages
from edge_agent.wire.alone import read_alone

ARRIVAL = Arrival("a/b", "pi", 1_795_341_600 * 10**9, synced=True)
LIMITS = WireLimits()
RECORD = {"t": 21.5, "time": 1_795_341_000, "ok": True}


@pytest.mark.parametrize("data", [json.dumps(RECORD), msgpack.packb(RECORD)])
def test_the_short_way_gives_what_the_long_one_does(data: str | bytes) -> None:
    alone = read_alone(data, 7, ARRIVAL, LIMITS)
    assert alone is not None
    long = read_messages([data, data], 7, ARRIVAL, LIMITS)
    assert (alone.numbers, alone.messages, 2 * alone.size) == (1, 1, long.size)
    (one,), (both,) = alone.runs, long.runs
    assert (one.stream, one.source_seq, one.time_min_ns) == ("a/b", 7, both.time_min_ns)
    assert 2 * one.body == both.body


@pytest.mark.parametrize(
    "record",
    [[RECORD], 5, {"stream": "c"}, {"time": "soon"}, {"a": [[[[1]]]]}, {"x": "y" * 70_000}],
)
def test_what_is_not_usual_goes_the_long_way(record: object) -> None:
    assert read_alone(json.dumps(record), 1, ARRIVAL, LIMITS) is None
    assert read_alone(msgpack.packb(record), 1, ARRIVAL, LIMITS) is None
