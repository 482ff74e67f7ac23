from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from edge_agent.aggregates import Summary
from edge_agent.clock import ManualClock
from edge_agent.config.shape import Duration, Rule
from edge_agent.live.derived import derived_runs, derived_stream
from edge_agent.live.window_state import ClosedWindow
from edge_agent.stream_names import STREAM_BYTES_MAX
from tests.waist import NOW_NS, SECOND


def closed(stream: str, start_ns: int) -> ClosedWindow:
    summary = Summary()
    for number, value in enumerate((3, 1, 2)):
        summary.add(value, start_ns + number)
    return ClosedWindow(stream, start_ns, {"t": summary})


def rule(into: str | None = None) -> Rule:
    return Rule(name="hourly", streams=("**",), window=Duration(3600), into=into)


def test_one_record_per_window_with_flat_fields_and_the_windows_start() -> None:
    windows = [closed("a", NOW_NS), closed("b", NOW_NS), closed("a", NOW_NS + SECOND)]
    runs = derived_runs(windows, rule(), ManualClock(NOW_NS).read())
    assert [(run.stream, run.count) for run in runs] == [
        ("$rule/hourly/a", 2),
        ("$rule/hourly/b", 1),
    ]
    assert {run.source for run in runs} == {"$rule/hourly"}
    assert (runs[0].time_min_ns, runs[0].time_max_ns) == (NOW_NS, NOW_NS + SECOND)
    assert msgpack.unpackb(runs[1].body, timestamp=0) == {
        "time": msgpack.Timestamp.from_unix_nano(NOW_NS),
        "t_count": 3, "t_min": 1, "t_max": 3, "t_mean": 2.0, "t_last": 2,
    }  # fmt: skip


def test_where_the_name_does_not_tell_the_stream_a_field_does() -> None:
    (run,) = derived_runs(
        [closed("a", NOW_NS), closed("b", NOW_NS)], rule("daily"), ManualClock().read()
    )
    unpacker = msgpack.Unpacker()
    unpacker.feed(run.body)
    assert [record["of"] for record in unpacker] == ["a", "b"]


@pytest.mark.parametrize(
    "into, stream, expected",
    [
        ("daily/{stream}", "greenhouse/1", "daily/greenhouse/1"),
        ("$rule/x/{stream}", "$agents/7/a", "$rule/x/agents/7/a"),
        ("fixed", "a", "fixed"),
    ],
)
def test_the_stream_is_put_in(into: str, stream: str, expected: str) -> None:
    assert derived_stream(into, stream) == expected


def test_names_that_would_be_too_long_are_cut_and_stay_different() -> None:
    names = {derived_stream("daily/{stream}", "a" * 199 + last) for last in "xyz"}
    assert len(names) == 3
    assert max(map(len, names)) <= STREAM_BYTES_MAX


def test_a_window_by_a_clock_that_was_not_set_says_so() -> None:
    window = replace(closed("a", 60 * SECOND), clock_unset=True)
    (run,) = derived_runs([window], rule(), ManualClock(NOW_NS).read())
    record = msgpack.unpackb(run.body, timestamp=0)
    assert record["clock_unset"] is True
    assert record["t_count"] == 3
