"""A backlog beside newer records, at real servers of every kind that takes two lanes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from edge_agent.config.upstreams import TWO_LANES
from edge_agent.forward import Forwarder, make_sink
from tests.forward.contract import Side, arrived
from tests.forward.support import inline, running_station, upstream
from tests.forward.test_sink_contract import NEEDS, SIDES
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S

#: Kind as the configuration calls it, where a side is called otherwise.
NAMES = {"websocket": "agent", "victoria": "influx", "victoria v2": "influx"}
TWO = {name: side for name, side in SIDES.items() if NAMES.get(name, name) in TWO_LANES}


@pytest.mark.parametrize(
    "side",
    [
        pytest.param(side, id=name, marks=[pytest.mark.needs(*NEEDS.get(name, ()))])
        for name, side in TWO.items()
    ],
)
async def test_a_backlog_and_what_came_since_arrive_once(
    side: Side, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    async with (
        side(tmp_path / "far") as far,
        running_station(tmp_path / "near", clock=clock) as station,
        trio.open_nursery() as nursery,
    ):
        await station.put(1)
        given = upstream(far.url, **far.options)

        def make(log: str) -> object:
            return make_sink(
                given, log, identity=station.log.identity, clock=clock, run_blocking=inline
            )

        forwarder = Forwarder(
            given, station.log, make, clock=clock, dice=random.Random(1),  # type: ignore[arg-type] # a sink
            metrics=station.metrics,
        )  # fmt: skip
        await station.put(300, start=1)
        clock.advance(3600)
        nursery.start_soon(forwarder.run)
        with trio.fail_after(2 * PATIENCE_S):
            for n in range(301, 321):
                await station.put(1, start=n)
                await trio.sleep(0.01)
            while forwarder.statistics().backlog_records:
                await trio.sleep(0.02)
        found = await arrived(far)
        assert sorted(n for _, n in found) == list(range(321))
        assert len({place for place, _ in found}) == 321
        assert "newer ones go out at once" in caplog.text
        nursery.cancel_scope.cancel()


def test_all_kinds_that_may_are_tried() -> None:
    assert {NAMES.get(name, name) for name in TWO} == set(TWO_LANES)
