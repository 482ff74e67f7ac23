from __future__ import annotations

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.probing import PROBE_STREAM, probe_by_opening, probe_record
from edge_agent.values.stream_names import stream_problem
from tests.forward.support import NOW_NS, FakeSink


def test_a_probe_is_a_record_of_the_size_that_was_asked_for() -> None:
    small, large = (probe_record(NOW_NS, size, synced=True) for size in (0, 100_000))
    assert small.fields == {"probe": True} and stream_problem(PROBE_STREAM) is None
    assert 99_000 < len(repr(large.fields)) < 101_000
    assert large == probe_record(NOW_NS, 100_000, synced=True)


async def test_a_kind_that_says_nothing_itself_is_opened_and_closed() -> None:
    sink = FakeSink(keyed=True)
    (step,) = await probe_by_opening(sink)
    assert step.good and sink.closed == 1 and sink.sent == []
    sink.open_script = [SinkUnavailable("nobody there")]
    (step,) = await probe_by_opening(sink)
    assert (step.good, step.told) == (False, "nobody there")


async def test_one_that_agrees_on_numbers_is_left_alone() -> None:
    sink = FakeSink(keyed=False)
    assert await probe_by_opening(sink) == []
    assert sink.opened == []
