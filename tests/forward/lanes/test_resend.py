"""What a person has sent once more, at real hubs and at every other kind of upstream."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.config import Config, Duration, FileTable, Upstream
from edge_agent.errors import SinkUnavailable, StoreFailed
from edge_agent.forward import (
    Forwarder,
    LogRecall,
    OrderRefused,
    RecallSurvey,
    Resend,
    ResendOrder,
    make_sink,
)
from edge_agent.forward.lanes.resend import ResendLog
from edge_agent.forward.lanes.split import Split
from edge_agent.forward.lanes.turns import LanePlace, LaneTurns
from edge_agent.forward.sink import Batch, Sink
from edge_agent.log import Log
from edge_agent.ops.orders.orders import ConsumerOrder, Orders
from edge_agent.ops.orders.resends import ResendGiven
from edge_agent.store import Block, Gap
from edge_agent.values.record import TIME_NS_MAX
from tests.forward.contract import FarSide, Side
from tests.forward.support import (
    FakeSink,
    Station,
    inline,
    make_run,
    running_station,
    serving,
    settings_for,
    until,
    upstream,
)
from tests.forward.test_sink_contract import NEEDS, SIDES
from tests.forward.thinned import plain_block, ten_of_two_streams
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S
from tests.rules.support import in_force

ALL = ("**",)
#: A log that has lost parts: trimmed, thinned, and damaged.
LOST: tuple[Block | Gap, ...] = (
    Gap("main", 1, 10, "trimmed"), plain_block(11, make_run("t/1", 10)), ten_of_two_streams(21),
    Gap("main", 31, 40, "damaged"), plain_block(41, make_run("t/1", 10)),
)  # fmt: skip
GONE = {*range(1, 11), *range(21, 41)}


class Sending:
    """An agent's forwarder and its orders."""

    def __init__(
        self,
        station: Station,
        config: Upstream,
        sink: Sink | None = None,
        recall: LogRecall | None = None,
    ) -> None:
        self.station, self.config = station, config
        make: Callable[[Upstream, str], Sink] = partial(
            make_sink, identity=station.log.identity, clock=station.clock, run_blocking=inline
        )
        if sink is not None:
            given = sink
            make = lambda upstream, log: given  # noqa: E731 - as short as it can be
        #: Streams of all sinks that were made for an order.
        self.asked: list[tuple[str, ...]] = []

        def make_again(meant: Upstream, log: str) -> Sink:
            self.asked.append(meant.streams)
            return make(meant, log)

        live: Sink | Any = FakeSink() if sink is not None else None
        self.forwarder = Forwarder(
            config, station.log, lambda log: live or make(config, log), clock=station.clock,
            dice=random.Random(1), metrics=station.metrics, make_again=make_again,
            recall=recall,
        )  # fmt: skip
        self.orders = Orders(
            station.log, Config(upstream=(config,)), station.clock, rules=in_force(),
            lane=self.forwarder.lane, resend=self.forwarder.resend, recall=recall,
        )  # fmt: skip

    async def order(self, *streams: str, **more: Any) -> list[dict[str, Any]]:
        return await self.orders.resend(ResendGiven("hub", streams, **more))

    async def state(self) -> str:
        rows = await self.orders.resends()
        return str(rows[0]["state"]) if rows else ""

    async def done(self, *streams: str, **more: Any) -> dict[str, Any]:
        """Order, and wait until that is done."""
        await self.order(*streams, **more)
        with trio.fail_after(PATIENCE_S):
            while await self.state() != "done":
                await trio.sleep(0.005)
        return (await self.orders.resends())[0]

    async def caught_up(self) -> None:
        """All is sent in the ordinary way."""
        last = self.station.log.last_seq("main")
        lane = self.forwarder.lane("upstream/hub", "main")
        await until(lambda: lane is not None and lane.statistics().floor >= last)


@asynccontextmanager
async def sending(station: Station, config: Upstream, **more: Any) -> AsyncIterator[Sending]:
    """A forwarder, killed at the end of the block."""
    made = Sending(station, config, **more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.forwarder.run)
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def both(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[Station, Station, Upstream]]:
    """A hub, an agent, and the upstream between them."""
    async with (
        running_station(tmp_path / "hub") as hub,
        running_station(tmp_path / "agent") as agent,
        serving(hub) as port,
    ):
        yield hub, agent, upstream(f"ws://127.0.0.1:{port}/forward", **more)


async def stored(hub: Station) -> Counter[tuple[str, int]]:
    return Counter((one.stream, one.fields["n"]) for one in await hub.records())


def expected(*streams: str, count: int = 40) -> Counter[tuple[str, int]]:
    return Counter((stream, n) for stream in streams for n in range(count))


async def fill(agent: Station, *streams: str, count: int = 40) -> None:
    for n in range(count):
        for stream in streams:
            await agent.put(1, stream=stream, start=n)


class LostLog(Log):
    """Reads as a log does that holds `LOST`."""

    def __init__(self) -> None:
        self.first, self.last = 11, 50

    def first_seq(self, log: str) -> int:
        return self.first

    def last_seq(self, log: str) -> int:
        return self.last

    async def read(
        self, log: str, after: int, limit_bytes: int = 0, upto: int | None = None
    ) -> list[Block | Gap]:
        found = [item for item in LOST if item.last > after]
        if found and isinstance(found[0], Gap):
            found[0] = Gap(log, after + 1, found[0].last, found[0].reason)
        return found


class WholeHistory:
    """Has every record, and gives some at a time; every third seq was not asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.refuses = self.has_nothing = False

    async def survey(
        self, log: str, upto: int, order: ResendOrder, within_s: float
    ) -> RecallSurvey:
        return RecallSurvey(upto * 2 // 3, 1, 0, 0)

    async def read(
        self, log: str, after: int, upto: int, order: ResendOrder, limit_bytes: int
    ) -> list[Block | Gap]:
        if self.refuses:
            raise StoreFailed("history: a key is missing")
        self.asked.append((after, upto))
        first = after + 1
        if first % 3 == 0 or self.has_nothing:
            return [Gap(log, first, upto if self.has_nothing else first, "filtered")]
        last = min(first + 2 - first % 3, upto)
        return [replace(plain_block(first, make_run("t/1", last - first + 1)), recalled=True)]


def seen(first: int, last: int, recall: LogRecall | None) -> ResendLog:
    """The log that has lost parts, as the lane of an order sees it."""
    log, hub = LostLog(), upstream("ws://hub:1/forward")
    resend = Resend(hub, log, "main")
    resend.order = ResendOrder(1, ALL, -TIME_NS_MAX, TIME_NS_MAX, first, last, 0)
    place = LanePlace(LaneTurns(), 0, is_backlog=False, is_resend=True)
    return ResendLog(log, Split(hub, log, "main", ManualClock()), resend, place, recall)


@pytest.mark.parametrize("first, last", [(1, 50), (5, 45), (12, 18), (24, 24), (15, 33), (50, 50)])
async def test_each_seq_comes_from_the_log_or_from_history_and_once(first: int, last: int) -> None:
    history = WholeHistory()
    log = seen(first, last, history)
    assert (log.first_seq("main"), log.last_seq("main")) == (first, last)
    from_log, recalled = Counter[int](), Counter[int]()
    cursor = first - 1
    while cursor < last:
        items = await log.read("main", cursor)
        assert items[0].first <= cursor + 1
        for item in items:
            assert item.first <= cursor + 1 <= item.last, "without a hole"
            if isinstance(item, Block):
                inside = range(max(item.first, cursor + 1), min(item.last, last) + 1)
                (recalled if item.recalled else from_log).update(inside)
            cursor = item.last
    meant = set(range(first, last + 1))
    assert recalled == Counter(seq for seq in meant & GONE if seq % 3)
    assert from_log == Counter(meant - GONE)
    assert all(after >= first - 1 and upto <= last for after, upto in history.asked)


async def test_without_history_what_the_log_has_lost_is_counted() -> None:
    log = seen(1, 50, None)
    assert log.first_seq("main") == 11
    reasons = [item.reason for item in await log.read("main", 0) if isinstance(item, Gap)]
    assert reasons == ["trimmed", "thinned", "damaged"]
    order = log._resend.order
    assert order is not None and order.gone == len(GONE)


async def test_history_that_cannot_be_read_is_told_and_nothing_is_left_out(
    tmp_path: Path,
) -> None:
    history = WholeHistory()
    async with running_station(tmp_path, settings=settings_for(size=1024 * 1024)) as agent:
        n = 0
        while agent.log.first_seq("main") == 1:
            n = await agent.put(2000, start=n)
        held, again = agent.log.first_seq("main"), FakeSink()
        config = upstream("ws://hub:1/forward", start="now")
        async with sending(agent, config, sink=again, recall=history) as work:
            await work.caught_up()
            history.refuses = True
            (row,) = await work.order("**")
            assert (row["first"], row["from_history"]) == (1, (held - 1) * 2 // 3)

            def told() -> bool:
                (now,) = work.forwarder.statistics().resends or (None,)
                return now is not None and now.lane is not None and "a key" in now.lane.error

            await until(told)
            assert again.sent == []
            history.refuses, history.has_nothing = False, True
            await until(lambda: not work.forwarder.statistics().resends)
            assert await work.state() == "done"
        ranges = [(0, 0), *again.sent]
        assert all(one[1] + 1 == two[0] for one, two in pairwise(ranges))
        assert again.sent[-1][1] == n and history.asked[-1][1] == held - 1


def test_the_same_range_has_another_key_where_records_of_it_come_from_history() -> None:
    block = plain_block(11, make_run("t/1", 10))
    before = Batch("main", 12, 18, (block,), resent=3)
    after = Batch("main", 12, 18, (replace(block, recalled=True),), resent=3)
    assert before.variant == "/resent-3" and after.variant == "/recalled-7/resent-3"


async def test_a_hub_that_has_means_only_gets_the_records_once(tmp_path: Path) -> None:
    async with both(tmp_path, streams=("1m/**",)) as (hub, agent, config):
        await fill(agent, "t/1", "1m/t/1")
        async with sending(agent, config) as work:
            await work.caught_up()
            assert await stored(hub) == expected("1m/t/1")
            row = await work.done("t/*")
            assert await stored(hub) == expected("t/1", "1m/t/1")
            assert (row["sent"], row["gone"], row["left"]) == (40, 0, 0)
            records = await hub.records()
            assert {one.origin_seq for one in records} == set(range(1, 81))
            historical = {one.historical for one in await blocks(hub)}
            assert historical == {True, False}
            # Again, and again nothing is there twice.
            await work.done("**")
            assert await stored(hub) == expected("t/1", "1m/t/1")
            assert work.asked == [("t/*",), ("**",)]


async def blocks(hub: Station) -> list[Any]:
    return [one for one in await hub.log.read("main", 0) if hasattr(one, "historical")]


async def test_a_hub_that_has_the_records_does_not_double_them(tmp_path: Path) -> None:
    async with both(tmp_path) as (hub, agent, config):
        await fill(agent, "t/1", "t/2")
        async with sending(agent, config) as work:
            await work.caught_up()
            await work.done("**")
            assert await stored(hub) == expected("t/1", "t/2")
            assert hub.metrics.get("records_duplicate_total") == 80


async def test_a_hub_that_has_some_gets_the_others(tmp_path: Path) -> None:
    async with both(tmp_path, streams=("t/2",)) as (hub, agent, config):
        await agent.put(30, stream="t/1")
        await fill(agent, "t/1", "t/2")
        async with sending(agent, config) as work:
            await work.caught_up()
            await work.done("t/**")
        found = await stored(hub)
        assert found["t/2", 3] == 1 and found["t/1", 3] == 2 and found["t/1", 35] == 1


async def test_an_order_outlasts_the_agent_and_is_exactly_once_in_itself(tmp_path: Path) -> None:
    async with both(tmp_path, streams=("1m/**",)) as (hub, agent, config):
        await fill(agent, "t/1", count=200)
        await agent.put(1, stream="1m/t")
        async with sending(agent, config) as work:
            await work.caught_up()
            await work.order("t/1")
            # Anywhere: before its connection, or in the middle of it.
        for pause in (0.0, 0.02, 0.05):
            async with sending(agent, config) as work:
                await trio.sleep(pause)
        async with sending(agent, config) as work:
            with trio.fail_after(PATIENCE_S):
                while await work.state() != "done":
                    await trio.sleep(0.005)
        assert await stored(hub) == expected("t/1", count=200) + Counter({("1m/t", 0): 1})


async def test_it_begins_once_nothing_of_it_comes_in_the_ordinary_way(tmp_path: Path) -> None:
    async with running_station(tmp_path) as agent:
        await fill(agent, "t/1", count=5)
        again = FakeSink()
        made = Sending(agent, upstream("ws://hub:1/forward"), again)
        async with trio.open_nursery() as nursery:
            await made.order("**")
            live = made.forwarder.lane("upstream/hub", "main")
            assert live is not None
            live.holding.paused = True
            live.holding.stale = False
            nursery.start_soon(made.forwarder.run)
            await trio.sleep(0.05)
            assert again.sent == [] and made.forwarder.statistics().resends[0].lane is None
            live.holding.paused = False
            live.holding.keep_to("", 0.0)
            await until(lambda: again.sent != [])
            nursery.cancel_scope.cancel()


async def test_a_failure_is_tried_again_and_told_and_the_backlog_is_no_larger(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as agent:
        await fill(agent, "t/1", count=5)
        again = FakeSink(open_script=[SinkUnavailable("no route")] * 10_000)
        config = upstream("ws://hub:1/forward", backoff_base=0.01, backoff_max=0.01)
        async with sending(agent, config, sink=again) as work:
            await work.caught_up()
            await work.order("**")

            def failing() -> bool:
                now = work.forwarder.statistics()
                return bool(now.resends and now.resends[0].lane and now.resends[0].lane.error)

            await until(failing)
            now = work.forwarder.statistics()
            assert now.backlog_records == 0 and now.error == ""
            again.open_script.clear()
            await until(lambda: not work.forwarder.statistics().resends)
            assert await work.state() == "done"


async def test_it_can_be_cancelled_and_ordered_anew(tmp_path: Path) -> None:
    async with running_station(tmp_path) as agent:
        await fill(agent, "t/1", count=5)
        again = FakeSink(open_script=[SinkUnavailable("no route")] * 1000)
        async with sending(agent, upstream("ws://hub:1/forward"), sink=again) as work:
            await work.caught_up()
            (first,) = await work.order("**")
            await until(lambda: work.forwarder.lane("upstream/hub/resend", "main"))
            with pytest.raises(OrderRefused, match="--cancel"):
                await work.order("**")
            (row,) = await work.orders.resend(ResendGiven("hub", cancel=True))
            assert row["state"] == "cancelled"
            await until(lambda: not work.forwarder.lane("upstream/hub/resend", "main"))
            views = await agent.log.consumers()
            assert "upstream/hub/resend" not in {one.consumer for one in views}
            with pytest.raises(OrderRefused, match="nothing to cancel"):
                await work.orders.resend(ResendGiven("hub", cancel=True))
            again.open_script.clear()
            row = await work.done("**")
            assert row["number"] > first["number"]


async def test_a_paused_upstream_is_sent_nothing_once_more_either(tmp_path: Path) -> None:
    async with running_station(tmp_path) as agent:
        await fill(agent, "t/1", count=5)
        again = FakeSink()
        async with sending(agent, upstream("ws://hub:1/forward"), sink=again) as work:
            await work.caught_up()
            await work.orders.move(ConsumerOrder("pause", "hub"))
            await work.order("**")
            await until(lambda: work.forwarder.lane("upstream/hub/resend", "main"))
            await trio.sleep(0.05)
            assert again.sent == []
            await work.orders.move(ConsumerOrder("resume", "hub"))
            await until(lambda: again.sent != [])


async def test_only_blocks_of_the_time_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is behind the time is nothing to send, and waits so long for something to go with.
    monkeypatch.setattr("edge_agent.forward.sinks.agent.sink.EMPTY_S", 0.01)
    async with both(tmp_path, streams=("other",), order="in order") as (hub, agent, config):
        clock = agent.clock
        begin = clock.read().wall_ns
        for n in range(5):
            await agent.arrive(1, start=n)
            clock.advance(3600)  # type: ignore[attr-defined] # a clock that is turned
        await agent.put(1, stream="other")
        since, until_ = (f"{(begin + h * 3600 * 10**9) // 10**9 - 60}" for h in (1, 4))
        async with sending(agent, config) as work:
            await work.caught_up()
            row = await work.done("**", since=since, until=until_)
            found = await stored(hub) - Counter({("other", 0): 1})
            assert found == Counter({("t/1", n): 1 for n in (1, 2, 3)})
            assert row["sent"] == 3
            await work.done("t/*", since="start", until="end")
            assert await stored(hub) == expected("t/1", count=5) + Counter({("other", 0): 1})


@pytest.mark.parametrize(
    "side",
    [
        pytest.param(side, id=name, marks=[pytest.mark.needs(*NEEDS.get(name, ()))])
        for name, side in SIDES.items()
        if name not in ("package", "victoria", "victoria v2", "websocket")
    ],
)
async def test_every_kind_gets_what_it_never_had_under_the_ids_of_the_log(
    side: Side, tmp_path: Path
) -> None:
    async with side(tmp_path / "far") as far, running_station(tmp_path / "near") as station:
        await fill(station, "t/1", "t/2", count=20)
        options = dict(far.options)
        if far.url.startswith("file"):
            options["file"] = FileTable(age=Duration(0))
        config = upstream(far.url, streams=("t/2",), timeout=PATIENCE_S, **options)
        is_influx = config.format == "line"  # of which the first series alone is asked for
        async with sending(station, config) as work:
            await work.caught_up()
            assert set(await ids(far)) == (set() if is_influx else set(range(2, 41, 2)))
            await work.done("t/1")
            found = await ids(far)
            assert set(found) == set(range(1, 41, 2 if is_influx else 1))
            assert len(found) == len(set(found))
            await work.done("**")
            # Whoever knows records by their keys has none of them twice.
            if far.url.startswith("postgres") or is_influx:
                assert sorted(await ids(far)) == sorted(found)


async def ids(far: FarSide) -> list[int]:
    """The seq of each record that is there."""
    return [int(place.rpartition("/")[2]) for place, _ in await far.durable()]


async def test_a_divided_backlog_and_a_resend_are_no_missing_numbers_at_the_hub(
    tmp_path: Path,
) -> None:
    async with both(tmp_path, backlog_after=60.0) as (hub, agent, config):
        await fill(agent, "t/1", count=10)
        agent.clock.advance(3600)  # type: ignore[attr-defined] # a clock that is turned
        async with sending(agent, config) as work:
            await until(lambda: work.forwarder.lane("upstream/hub/backlog", "main"))
            await fill(agent, "t/2", count=10)
            await work.caught_up()
            await until(lambda: not work.forwarder.lane("upstream/hub/backlog", "main"))
            await work.done("**", since="start")
            assert await stored(hub) == expected("t/1", "t/2", count=10)
            assert hub.metrics.get("source_restarts_total") >= 1
            assert hub.metrics.get("source_gaps_total") == 0
