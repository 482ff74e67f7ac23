"""What is in quarantine, read again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio

from edge_agent.config import Config, Schema
from edge_agent.forward import Forwarder
from edge_agent.ops.orders.orders import ConsumerOrder, Orders, QuarantineOrder
from edge_agent.ops.orders.replay import replay
from edge_agent.rules import RulesInForce
from edge_agent.store import Entry, Quarantined
from edge_agent.wire import WireLimits
from tests.forward.http_upstream import HttpUpstream, Reply, http_upstream
from tests.forward.sinks.http.test_sink import forwarder_for
from tests.forward.support import Station, running_station, until, upstream
from tests.forward.test_upstream_trouble import Taken, refusing
from tests.patience import PATIENCE_S
from tests.rules.support import in_force, rule

LIMITS = WireLimits()
NOW_NS = 1_795_341_600_000_000_000


def item(body: bytes, code: str = "too_big", source: str = "pi") -> Quarantined:
    return Quarantined(code, "why", "a/1", source, 7, NOW_NS, body)


leave = in_force()


@pytest.mark.parametrize(
    "body", [json.dumps({"t": 1}).encode(), msgpack.packb({"t": 1}), b'[{"t": 1}]']
)
def test_what_can_be_read_now_is_stored_as_it_arrived_and_released(body: bytes) -> None:
    made = replay(3, item(body), LIMITS, leave)
    assert made.entry is not None and made.records == 1
    (run,) = made.entry.runs
    assert (run.stream, run.source, run.arrival_ns, run.source_seq) == ("a/1", "pi", NOW_NS, 0)
    assert msgpack.unpackb(run.body) == {"t": 1}
    assert made.entry.released == (3,) and made.entry.numbering is None


def test_what_still_cannot_be_used_says_why_now() -> None:
    made = replay(3, item(b'{"t": 1, "time": "noon"}'), LIMITS, leave)
    assert made.entry is None and "noon" in made.problem
    large = item(json.dumps({"t": "x" * 300}).encode())
    assert replay(3, large, LIMITS, leave).entry is not None
    assert "at most 256" in replay(3, large, WireLimits(record_bytes=256), leave).problem


def test_what_was_cut_off_cannot_be_read_again_and_says_so() -> None:
    made = replay(3, item(json.dumps({"t": "x" * 9000}).encode()[:4096]), LIMITS, leave)
    assert made.entry is None and "first 4096 bytes" in made.problem
    packed = replay(3, item(msgpack.packb({"t": "x" * 9000})[:4096]), LIMITS, leave)
    assert "first 4096 bytes" in packed.problem


def test_a_whole_body_of_just_that_length_is_whole() -> None:
    body = json.dumps({"t": "x" * 4087}).encode()
    assert len(body) == 4096
    assert replay(3, item(body), LIMITS, leave).entry is not None


@pytest.mark.parametrize(
    "given", [item(b"\x81", "upstream_413"), item(b"\x81", source="$forward/a/b/c/live")]
)
def test_what_is_not_the_sensors_is_left_alone(given: Quarantined) -> None:
    made = replay(3, given, LIMITS, leave)
    assert made.entry is None and made.problem


def test_what_a_rule_drops_now_only_leaves_quarantine() -> None:
    made = replay(3, item(b'{"t": 1}'), LIMITS, in_force(rule(streams=("a/*",), drop="record")))
    assert made.entry is not None and made.entry.runs == () and made.entry.released == (3,)


def test_what_a_rule_set_aside_is_stored_once_the_rule_takes_it() -> None:
    def strict(most: float) -> RulesInForce:
        return in_force(rule(streams=("a/*",), schema=Schema(ranges={"t": (0, most)})))

    hot = item(msgpack.packb({"t": 99}), code="bad_schema")
    made = replay(3, hot, LIMITS, strict(50))
    assert made.entry is None and "expected 0 to 50, got 99" in made.problem
    made = replay(3, hot, LIMITS, strict(100))
    assert made.entry is not None and made.records == 1


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe"])
def test_nonsense_stays_where_it_is(body: bytes) -> None:
    made = replay(3, item(body), LIMITS, leave)
    assert made.entry is None and made.problem


def orders_for(station: Station, url: str, forwarder: Forwarder | None = None) -> Orders:
    config = Config(upstream=(upstream(url),))
    if forwarder is None:
        return Orders(station.log, config, station.clock, rules=leave)
    return Orders(station.log, config, station.clock, rules=leave, lane=forwarder.lane)


@asynccontextmanager
async def forwarding(station: Station, server: HttpUpstream) -> AsyncIterator[Forwarder]:
    forwarder = forwarder_for(station, server.url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forwarder.run)
        yield forwarder
        nursery.cancel_scope.cancel()


async def quarantined(station: Station) -> list[tuple[int, int]]:
    return [(number, item.seq) for number, item in await station.log.quarantine(0, 99)]


async def test_what_was_set_aside_wrongly_is_sent_again_and_then_leaves_quarantine(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = taken = Taken(refusing(422, 3, 5))
        await station.put(8)
        async with forwarding(station, server) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].floor == 8, seconds=PATIENCE_S)
            before = await quarantined(station)
            assert [seq for _, seq in before] == [4, 6]
            taken = Taken(lambda *_: None)
            server.answer = taken
            orders = orders_for(station, server.url, forwarder)
            done = await orders.settle(QuarantineOrder("replay"))
            assert [(one["done"], one["upstream"]) for one in done] == [(True, "hub")] * 2
            await until(lambda: forwarder.statistics().records == 8, seconds=PATIENCE_S)
            await station.put(1, start=8)
            await until(lambda: forwarder.statistics().lanes[0].floor == 9, seconds=PATIENCE_S)
            assert await quarantined(station) == []
            assert forwarder.statistics().phase == "caught up"
        assert taken.numbers == [3, 5, 8]
        epoch = station.log.identity.epoch
        assert [record["id"] for record in taken.records][:2] == [
            f"{epoch}/main/4",
            f"{epoch}/main/6",
        ]
        keys = [got.key for got in server.got]
        assert f"{epoch}/main/4-4/again-{before[0][0]}" in keys
        assert len(keys) == len(set(keys))


async def test_an_order_on_a_store_without_an_agent_outlasts_a_move_and_a_restart(
    tmp_path: Path,
) -> None:
    async with http_upstream() as server:
        async with running_station(tmp_path) as station:
            server.answer = Taken(refusing(400, 0))
            await station.put(4)
            async with forwarding(station, server) as forwarder:
                await until(lambda: forwarder.statistics().lanes[0].floor == 4, seconds=PATIENCE_S)
        async with running_station(tmp_path) as station:
            orders = orders_for(station, server.url)
            (done,) = await orders.settle(QuarantineOrder("replay"))
            assert done["done"]
            # Twice is once.
            (done,) = await orders.settle(QuarantineOrder("replay"))
            assert done["done"]
            await station.put(4, start=4)
            await orders.move(ConsumerOrder("skip", "hub", to="7"))
        async with running_station(tmp_path) as station:
            server.answer = taken = Taken(lambda *_: None)
            async with forwarding(station, server) as forwarder:
                await until(lambda: forwarder.statistics().lanes[0].floor == 8, seconds=PATIENCE_S)
                assert await quarantined(station) == []
            assert [record["fields"]["n"] for record in taken.records] == [0, 6, 7]


async def test_refused_once_more_it_stays_and_holds_nothing_up(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = taken = Taken(refusing(403, 1))
        await station.put(3)
        async with forwarding(station, server) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].floor == 3, seconds=PATIENCE_S)
            before = await quarantined(station)
            asked = len(server.got)
            orders = orders_for(station, server.url, forwarder)
            await orders.settle(QuarantineOrder("replay"))
            await station.put(3, start=3)
            await until(lambda: forwarder.statistics().lanes[0].floor == 6, seconds=PATIENCE_S)
            assert await quarantined(station) == before and len(before) == 1
            assert sum("/again-" in got.key for got in server.got[asked:]) >= 1
        assert taken.numbers == [0, 2, 3, 4, 5]


async def test_what_cannot_be_sent_again_says_why(tmp_path: Path) -> None:
    def aside(consumer: str, seq: int, **more: Any) -> Quarantined:
        facts = {"stream": "t/1", "source": "s", "number": seq, "log": "main", **more}
        return Quarantined(
            "upstream_refused",
            "why",
            facts["stream"],
            facts["source"],
            facts["number"],
            10**18,
            b"\x80",
            consumer,
            facts["log"],
            seq,
        )

    async with running_station(tmp_path) as station:
        await station.put(3)
        items = (
            Quarantined("upstream_refused", "upstream/hub: no", "t/1", "s", 1, 10**18, b"\x80"),
            aside("upstream/old", 1),
            aside("upstream/hub", 9),
            aside("upstream/hub", 2, source="another"),
            aside("upstream/hub", 3, log="gone"),
            aside("upstream/hub", 3),
        )
        await (await station.log.append(Entry(quarantine=items))).wait()
        orders = orders_for(station, "http://127.0.0.1:1/in")
        done = await orders.settle(QuarantineOrder("replay"))
        assert [one["number"] for one in done] == [1, 2, 3, 4, 5, 6]
        problems = [one.get("problem", "") for one in done]
        assert "an earlier version" in problems[0]
        assert "upstream/old is not configured" in problems[1]
        assert "record 9 is no longer in log main" in problems[2]
        assert "record 2 is no longer in log main" in problems[3]
        assert "no log gone" in problems[4]
        assert problems[5] == "" and done[5]["done"]
        assert len(await quarantined(station)) == 6
        hub = orders_for(station, "ws://127.0.0.1:1/forward")
        (told,) = await hub.settle(QuarantineOrder("replay", (6,)))
        assert "is another agent now" in told["problem"]
        # A folder has it sent again, as it has ranges for names.
        folder = orders_for(station, "file:///mnt/usb")
        (told,) = await folder.settle(QuarantineOrder("replay", (6,)))
        assert told["done"]


async def test_input_and_what_upstreams_refused_are_replayed_in_one_order(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = Taken(refusing(422, 0))
        await station.put(1)
        async with forwarding(station, server) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].floor == 1, seconds=PATIENCE_S)
        body = b'{"n": 7}'
        item = Quarantined("bad_time", "why", "a/1", "pi", 0, 10**18, body)
        await (await station.log.append(Entry(quarantine=(item,)))).wait()
        done = await orders_for(station, server.url).settle(QuarantineOrder("replay"))
        assert [one["done"] for one in done] == [True, True]
        assert "upstream" in done[0] and "upstream" not in done[1]


async def test_a_record_that_is_refused_says_what_it_was(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = lambda _: Reply(413)
        await station.put(1)
        async with forwarding(station, server) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].floor == 1, seconds=PATIENCE_S)
        ((_, aside),) = await station.log.quarantine(0, 9)
        assert (aside.code, aside.consumer, aside.log, aside.seq) == (
            "upstream_too_big",
            "upstream/hub",
            "main",
            1,
        )
