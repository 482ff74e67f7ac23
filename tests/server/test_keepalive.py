"""One task looks after everybody who has fallen silent."""

from __future__ import annotations

import math
from functools import partial

import pytest
import trio
import trio.testing

from edge_agent.metrics import Metrics
from edge_agent.server.keepalive import UNANSWERED_PINGS, SilenceWatch
from edge_agent.supervise import supervised


class Sensor:
    """A connection whose peer was last heard at ``heard``."""

    def __init__(self, *, answers: bool) -> None:
        self.heard = trio.current_time()
        self.answers = answers
        self.pings: list[float] = []
        self.gone_at = math.nan

    def silence(self) -> float:
        return 0.0 if self.gone_at == self.gone_at else trio.current_time() - self.heard

    async def ping(self) -> bool:
        self.pings.append(trio.current_time())
        if not self.answers:
            await trio.sleep_forever()
        self.heard = trio.current_time()
        return True

    def fell_silent(self) -> None:
        self.gone_at = trio.current_time()


async def test_half_the_time_is_a_ping_and_all_of_it_is_the_end(
    autojump_clock: trio.abc.Clock,
) -> None:
    watch = SilenceWatch(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(3)
        sensor = Sensor(answers=False)
        watch.add(sensor)
        await trio.sleep(30)
        assert sensor.pings == [pytest.approx(8)]
        assert sensor.gone_at == pytest.approx(13)
        nursery.cancel_scope.cancel()


async def test_each_is_looked_at_in_its_own_time(autojump_clock: trio.abc.Clock) -> None:
    watch = SilenceWatch(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        first = Sensor(answers=True)
        watch.add(first)
        await trio.sleep(2)
        second = Sensor(answers=False)
        watch.add(second)
        await trio.sleep(20)
        assert first.pings == [pytest.approx(at, abs=0.2) for at in (5, 10, 15, 20)]
        assert second.gone_at == pytest.approx(12, abs=0.2)
        assert math.isnan(first.gone_at)
        nursery.cancel_scope.cancel()


async def test_who_was_taken_off_is_left_alone(autojump_clock: trio.abc.Clock) -> None:
    watch = SilenceWatch(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        sensor = Sensor(answers=False)
        watch.add(sensor)
        await trio.sleep(1)
        watch.discard(sensor)
        watch.discard(sensor)
        await trio.sleep(30)
        assert sensor.pings == []
        nursery.cancel_scope.cancel()


async def test_who_sends_but_never_answers_a_ping_is_no_websocket(
    autojump_clock: trio.abc.Clock,
) -> None:
    watch = SilenceWatch(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        sensor = Sensor(answers=False)
        watch.add(sensor)
        with trio.move_on_after(1000):
            while math.isnan(sensor.gone_at):
                await trio.sleep(6)
                sensor.heard = trio.current_time()
        assert len(sensor.pings) == UNANSWERED_PINGS
        nursery.cancel_scope.cancel()


async def test_with_nobody_to_watch_nothing_wakes(autojump_clock: trio.abc.Clock) -> None:
    watch = SilenceWatch(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        nursery.cancel_scope.cancel()


async def test_one_that_cannot_be_looked_at_or_asked_keeps_nobody_from_being_asked(
    autojump_clock: trio.abc.Clock,
) -> None:
    class Broken(Sensor):
        def silence(self) -> float:
            raise ZeroDivisionError("our mistake")

    class Unaskable(Sensor):
        async def ping(self) -> bool:
            raise ZeroDivisionError("our mistake")

    watch = SilenceWatch(10)
    # Its ping is under way when the other one's fails.
    slow, metrics = Sensor(answers=False), Metrics()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(supervised, "it", watch.run, metrics=metrics))
        await trio.sleep(1)
        watch.add(slow)
        for other in (Unaskable(answers=True), Broken(answers=True)):
            watch.add(other)
        later = Sensor(answers=True)
        watch.add(later)
        await trio.sleep(30)
        assert slow.pings and slow.gone_at == pytest.approx(10)
        assert later.pings and math.isnan(later.gone_at)
        assert metrics.get("own_mistakes_total", "it") >= 1
        nursery.cancel_scope.cancel()
