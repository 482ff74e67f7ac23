from __future__ import annotations

from pathlib import Path

import pytest
import trio

from edge_agent.config.shape import Limits
from edge_agent.errors import ProtocolError
from edge_agent.live import Live
from tests.patience import PATIENCE_S
from tests.waist import NOW_NS, SECOND, Waist, open_waist, run_of


def live_on(waist: Waist, limits: Limits | None = None) -> Live:
    return Live(waist.log, limits or Limits(), clock=waist.clock, metrics=waist.metrics)


async def test_a_token_hides_streams_from_questions_and_views(tmp_path: Path) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        live = live_on(waist)
        mine = {"mine/1"}.__contains__
        async with live.subscribe("**", may_read=mine) as subscription:
            await waist.put(run_of({"t": 1}, stream="mine/1"), run_of({"t": 2}, stream="other"))
            answer = await live.query({"stream": "*/*"}, may_read=mine)
            assert [record.stream for record in answer.records] == ["mine/1"]
            assert len((await live.query({})).records) == 2
            aggregates = await live.query({"aggregate": "t"}, may_read=mine)
            assert set(aggregates.aggregates) == {"mine/1"}
            with trio.fail_after(PATIENCE_S):
                batch = await subscription.__anext__()
            assert [record.stream for record in batch.records] == ["mine/1"]


async def test_limits_come_from_the_configuration(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        live = live_on(waist, Limits(query_records=5, subscriptions=0))
        with pytest.raises(ProtocolError, match="1 to 5 records"):
            await live.query({"limit": "6"})
        with pytest.raises(ProtocolError, match="0 live views"):
            async with live.subscribe("**"):
                raise AssertionError("no view is allowed")


async def test_ages_are_counted_from_the_agents_clock(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        live = live_on(waist)
        assert live.parse_start("-1h") == NOW_NS - 3600 * SECOND
        assert live.parse_query({"from": "-1h"}).from_ns == NOW_NS - 3600 * SECOND


async def test_a_start_is_new_a_position_or_a_time(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        live = live_on(waist)
        assert live.parse_start(None) == live.parse_start("new") == live.parse_start("") == "new"
        assert live.parse_start("main:7") == ("main", 7)
        with pytest.raises(ProtocolError, match="from: expected"):
            live.parse_start("yesterday")


@pytest.mark.parametrize(
    "pattern, text, says", [("a//b", None, "stream: "), ("**", "t >", "filter: ")]
)
async def test_a_view_that_cannot_be_is_refused_with_a_sentence(
    tmp_path: Path, pattern: str, text: str | None, says: str
) -> None:
    async with open_waist(tmp_path) as waist:
        with pytest.raises(ProtocolError, match=says):
            live_on(waist).subscribe(pattern, "new", text)
