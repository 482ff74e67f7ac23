from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.keyed_sink import KeyedSink, given_up
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, SinkParts
from edge_agent.net.dial import dial_tcp
from edge_agent.store import Identity
from tests.forward.support import FakeSink, inline, upstream
from tests.manual_clock import ManualClock

OURS = Identity("5" * 32, "e" * 16, "a" * 12, 1)


class Kind(KeyedSink):
    """One whose attempts end as they are told to; `closed` counts connections."""

    def __init__(self, failure: Exception | None = None) -> None:
        parts = SinkParts(
            upstream("http://h/", streams=["a/**"]), "main", OURS, ManualClock(),
            inline, dial_tcp,
        )  # fmt: skip
        super().__init__(parts)
        self.failure, self.closed = failure, 0
        self._connection = self

    async def _send(self, batch: Batch) -> Acknowledged:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return Acknowledged(batch.last)

    def _reason(self, error: Exception) -> str:
        return "told otherwise" if isinstance(error, KeyError) else ""

    async def aclose(self) -> None:
        self.closed += 1
        await trio.lowlevel.checkpoint()


class Careless(Kind):
    _broken_by = ()


async def test_it_goes_on_behind_the_floor_as_whom_the_lane_says() -> None:
    sink, other = Kind(), replace(OURS, epoch="f" * 16)
    async with trio.open_nursery() as nursery:
        resumed = await sink.open(nursery, LaneResume(7, 1, 9, None, other))
    assert resumed.next == 8 and sink._identity == other
    assert sink._matches("a/b") and not sink._matches("b")
    assert (await sink.send(Batch("main", 8, 9, ()))).upto == 9 and not sink.closed


@pytest.mark.parametrize(
    "failure, kind, closed, told",
    [
        (SinkRefused("too large"), Kind, 1, "too large"),
        (SinkUnavailable("away"), Kind, 1, "away"),
        (SinkUnavailable("away"), Careless, 0, "away"),
        (ValueError("a mistake"), Careless, 1, "a mistake"),
        (KeyError("x"), Kind, 1, "told otherwise"),
    ],
)
async def test_a_failed_attempt_closes_the_connection_where_that_is_broken_then(
    failure: Exception, kind: type[Kind], closed: int, told: str
) -> None:
    sink = kind(failure)
    with pytest.raises(SinkError, match=told):
        await sink.send(Batch("main", 1, 1, ()))
    assert sink.closed == closed


async def test_its_connection_is_closed_once() -> None:
    inner = Kind()
    sink = Kind()
    sink._connection = inner
    await KeyedSink.aclose(sink)
    await KeyedSink.aclose(sink)
    assert inner.closed == 1


async def test_it_is_always_drained_and_settles_until_it_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sink = Kind()
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
