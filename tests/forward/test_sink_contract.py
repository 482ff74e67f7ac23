"""What every sink promises (``edge_agent/forward/sink.py``), checked on each against a real far
side that the test starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from edge_agent.errors import SinkUnavailable
from tests.forward.contract import (
    Courier,
    Repaired,
    Side,
    arrived,
    couriers,
    expected,
    sink_for,
)
from tests.forward.sinks.agent.side import hub_side
from tests.forward.sinks.file.side import file_side
from tests.forward.sinks.http.side import http_side
from tests.forward.sinks.influx.side import influx_side, victoria_side, victoria_v2_side
from tests.forward.sinks.kafka.side import kafka_side
from tests.forward.sinks.mqtt.side import broker_side
from tests.forward.sinks.nats.side import nats_side
from tests.forward.sinks.postgres.side import postgres_side
from tests.forward.support import running_station
from tests.own_sink.side import spool_side
from tests.patience import PATIENCE_S

#: Kind to its far side; each new kind of sink adds itself here.
SIDES: dict[str, Side] = {
    "websocket": hub_side,
    "http": http_side,
    "influx": influx_side,
    "victoria": victoria_side,
    "victoria v2": victoria_v2_side,
    "postgres": postgres_side,
    "file": file_side,
    "package": spool_side,
    "nats": nats_side,
    "kafka": kafka_side,
    "mqtt": broker_side,
}
#: The program that a kind's far side is, where a machine may not have it.
NEEDS = {
    "influx": ("influxd",),
    "victoria": ("victoria-metrics",),
    "victoria v2": ("victoria-metrics",),
    "postgres": ("postgresql", "psycopg"),
    "mqtt": ("mosquitto",),
}
each_sink = pytest.mark.parametrize(
    "side",
    [
        pytest.param(side, id=name, marks=[pytest.mark.needs(*NEEDS.get(name, ()))])
        for name, side in SIDES.items()
    ],
)


@each_sink
async def test_what_is_sent_arrives_in_order_under_its_stable_id(
    side: Side, tmp_path: Path
) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        await courier.deliver(6)
        assert await arrived(far) == expected(courier, 6)
        assert courier.acknowledged == sorted(courier.acknowledged)


@each_sink
async def test_nothing_is_acknowledged_before_it_is_durable(side: Side, tmp_path: Path) -> None:
    async with couriers(tmp_path, side) as (courier, far), trio.open_nursery() as nursery:
        far.hold()
        nursery.start_soon(courier.deliver, 2)
        await trio.sleep(0.05)
        assert courier.acknowledged == [] and await far.durable() == []
        far.release()
        with trio.fail_after(PATIENCE_S):
            while courier.floor < 2:
                # In this order: asking takes a while, and the floor may move meanwhile.
                floor = courier.floor
                assert floor <= len(await arrived(far))
                await trio.sleep(0.001)
        assert await arrived(far) == expected(courier, 2)


@each_sink
async def test_after_a_failure_the_same_batch_again_arrives_once(
    side: Side, tmp_path: Path
) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        await courier.deliver(2)
        far.break_down()
        with pytest.raises(ExceptionGroup) as caught:
            await courier.deliver(6)
        assert caught.group_contains(SinkUnavailable)
        await courier.sink.aclose()
        if isinstance(far, Repaired):
            far.repair()
        await courier.deliver(6)
        assert await arrived(far) == expected(courier, 6)


@each_sink
async def test_a_cancelled_delivery_can_be_taken_up_again(side: Side, tmp_path: Path) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        far.hold()
        with trio.move_on_after(0.03):
            await courier.deliver(3)
        assert courier.floor == 0
        far.release()
        await courier.sink.aclose()
        await courier.deliver(6)
        assert await arrived(far) == expected(courier, 6)


@each_sink
async def test_nobody_there_is_unavailable(side: Side, tmp_path: Path) -> None:
    async with side(tmp_path / "far") as far, running_station(tmp_path / "near") as station:
        await station.put(1)
        courier = Courier(station, sink_for(station, far.nobody, far.options))
        with pytest.raises(ExceptionGroup) as caught:
            await courier.deliver(1)
        assert caught.group_contains(SinkUnavailable)
        await courier.sink.aclose()


@each_sink
async def test_closing_may_come_at_any_time_and_more_than_once(side: Side, tmp_path: Path) -> None:
    async with couriers(tmp_path, side) as (courier, far):
        with trio.fail_after(PATIENCE_S):
            await courier.sink.aclose()
            await courier.deliver(1)
            await courier.sink.aclose()
            await courier.sink.aclose()
            assert courier.sink.drained
            await courier.deliver(2)
        assert await arrived(far) == expected(courier, 2)
