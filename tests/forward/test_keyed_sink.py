from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.forward.keyed_sink import KeyedSink, given_up
from tests.forward.support import FakeSink


async def test_it_is_always_drained_and_settles_until_it_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sink = KeyedSink()
    assert sink.keyed and sink.drained
    with trio.move_on_after(1e6) as scope:
        await sink.settle(7)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "error, said, told",
    [
        (ValueError("no\x1b[2J"), "", r"no\x1b[2J"),
        (KeyError(), "", "KeyError"),
        (OSError(5, "Input/output error", "f"), "", "Input/output error"),
        (ValueError("inside"), "outside", "outside"),
    ],
)
async def test_an_error_that_nobody_expected_closes_the_sink_and_is_told(
    error: Exception, said: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = FakeSink()
    assert str(await given_up(sink, "hub", error, said)) == told
    (record,) = caplog.records
    assert sink.closed == 1 and record.exc_info and record.exc_info[1] is error
    assert record.getMessage() == "an unexpected error on the way to hub"
