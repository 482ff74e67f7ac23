"""Upstreams that refuse, drop and cut: the whole way from a log to a real HTTP server."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from msgspec import structs

from edge_agent.forward import Forwarder
from edge_agent.forward.batches.plan import decode_plan, shape_of
from edge_agent.store import Entry
from tests.forward.gateways import gateway
from tests.forward.http_upstream import Got, Reply, http_upstream
from tests.forward.sinks.http.test_sink import forwarder_for
from tests.forward.support import Station, make_run, running_station, until, upstream
from tests.patience import PATIENCE_S


class Taken:
    """Records that the server has acknowledged, and how it answers."""

    def __init__(self, refuse: Callable[[Got, list[dict[str, Any]]], Reply | None]) -> None:
        self.records: list[dict[str, Any]] = []
        self._refuse = refuse

    def __call__(self, got: Got) -> Reply:
        reply = self._refuse(got, got.records)
        if reply is None:
            self.records += got.records
        return reply or Reply()

    @property
    def numbers(self) -> list[int]:
        """Each record once, by its id."""
        by_id = {record["id"]: record["fields"]["n"] for record in self.records}
        return sorted(by_id.values())


@asynccontextmanager
async def forwarding(station: Station, url: str, **more: Any) -> AsyncIterator[Forwarder]:
    forwarder = forwarder_for(station, url, **more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forwarder.run)
        yield forwarder
        nursery.cancel_scope.cancel()


async def floor_is(forwarder: Forwarder, seq: int) -> None:
    # A dozen bodies may have to time out until then, so this is no single thing to wait for.
    await until(lambda: forwarder.statistics().lanes[0].floor >= seq, seconds=4 * PATIENCE_S)


def refusing(status: int, *bad: int) -> Callable[[Got, list[dict[str, Any]]], Reply | None]:
    def refuse(_: Got, records: list[dict[str, Any]]) -> Reply | None:
        found = [record for record in records if record["fields"]["n"] in bad]
        return Reply(status, b"I do not like this") if found else None

    return refuse


async def test_thirty_refused_records_of_one_sensor_do_not_stop_the_others(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = taken = Taken(refusing(400, *range(30)))
        await station.put(30, stream="broken")
        await station.put(10, stream="good", start=30)
        async with forwarding(station, server.url) as forwarder:
            await floor_is(forwarder, 40)
            await until(lambda: forwarder.statistics().phase == "caught up")
            await station.put(5, stream="good", start=40)
            await floor_is(forwarder, 45)
        assert taken.numbers == [*range(30, 45)]
        aside = [item for _, item in await station.log.quarantine(0, 99)]
        assert [item.seq for item in aside] == [*range(1, 31)]
        assert {item.stream for item in aside} == {"broken"}


async def test_a_lane_that_stopped_goes_on_when_a_record_of_another_stream_passes(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = taken = Taken(refusing(422, *range(30)))
        await station.put(30, stream="broken")
        async with forwarding(station, server.url) as forwarder:
            await until(lambda: forwarder.statistics().phase == "stopped", seconds=PATIENCE_S)
            error = forwarder.statistics().error
            assert "16 single records refused in a row" in error
            assert "HTTP 422: I do not like this (record 16 of log main, stream broken)" in error
            await station.put(3, stream="good", start=30)
            await floor_is(forwarder, 33)
        assert taken.numbers == [30, 31, 32]
        assert len(await station.log.quarantine(0, 99)) == 30


async def test_an_upstream_that_refuses_everything_is_not_sent_the_whole_backlog(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = lambda _: Reply(400, b"what is this?")
        for stream in range(6):
            await station.put(20, stream=f"t/{stream}", start=20 * stream)
        async with forwarding(station, server.url) as forwarder:
            await until(lambda: forwarder.statistics().phase == "stopped", seconds=PATIENCE_S)
            assert "tried by itself, was refused as well" in forwarder.statistics().error
            assert forwarder.statistics().backlog_records == 104
        assert len(await station.log.quarantine(0, 99)) == 16


@pytest.mark.parametrize("status", [403, 409, 415, 418, 451])
@pytest.mark.parametrize("streams", [1, 3])
async def test_one_record_that_is_answered_403_409_or_415_holds_nothing(
    tmp_path: Path, status: int, streams: int
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = taken = Taken(refusing(status, 13))
        for n in range(30):
            await station.put(1, stream=f"t/{n % streams}", start=n)
        async with forwarding(station, server.url) as forwarder:
            await floor_is(forwarder, 30)
        assert taken.numbers == [n for n in range(30) if n != 13]
        ((_, aside),) = await station.log.quarantine(0, 9)
        assert (aside.seq, aside.log, aside.consumer) == (14, "main", "upstream/hub")
        assert f"HTTP {status}: I do not like this" in aside.reason


@pytest.mark.parametrize("status", [403, 409, 415])
async def test_an_upstream_that_says_so_of_everything_loses_nothing_and_is_named(
    tmp_path: Path, status: int
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = lambda _: Reply(status, b"who are you?")
        await station.put(1, stream="greenhouse/1")
        async with forwarding(station, server.url) as forwarder:
            await until(lambda: "greenhouse/1" in forwarder.statistics().error)
            error = forwarder.statistics().error
            assert error.startswith(f"HTTP {status}: who are you? (record 1 of log main, stream ")
            await station.put(40, stream="t/1", start=1)
            asked = len(server.got)
            await until(lambda: len(server.got) > asked + 12, seconds=PATIENCE_S)
            assert forwarder.statistics().backlog_records == 41
            taken = Taken(lambda *_: None)
            server.answer = taken
            await floor_is(forwarder, 41)
        assert await station.log.quarantine(0, 9) == []
        assert taken.numbers == [*range(41)]


@pytest.mark.parametrize("status", [400, 415, 422])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_an_upstream_that_takes_no_compression_gets_it_uncompressed(
    tmp_path: Path, status: int, compression: str
) -> None:
    class Plain(Taken):
        def __call__(self, got: Got) -> Reply:
            if "content-encoding" in got.headers:
                return Reply(status, b"not JSON")
            return super().__call__(got)

    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = taken = Plain(lambda *_: None)
        await station.put(20)
        async with forwarding(station, server.url, compression=compression) as forwarder:
            await floor_is(forwarder, 20)
            assert forwarder.statistics().lanes[0].plain
        asked = len(server.got)
        # Known to the next run, too.
        await station.put(20, start=20)
        async with forwarding(station, server.url, compression=compression) as forwarder:
            await floor_is(forwarder, 40)
        assert all("content-encoding" not in got.headers for got in server.got[asked:])
        assert taken.numbers == [*range(40)]
        assert await station.log.quarantine(0, 9) == []
        by_key = {(got.key, got.body) for got in server.got}
        assert len(by_key) == len({got.key for got in server.got})


class Swallowing(Taken):
    """A gateway before it drops larger bodies: by hanging up, or by never answering."""

    def __init__(self, most: int, *, hang_up: bool) -> None:
        super().__init__(lambda *_: None)
        self.most, self._hang_up = most, hang_up
        self.dropped = 0
        self.largest = 0

    def reply(self, got: Got) -> Reply | None:
        """None: there is never an answer."""
        if len(got.body) > self.most:
            self.dropped += 1
            return Reply(hang_up=True) if self._hang_up else None
        self.largest = max(self.largest, len(got.body))
        return self(got)


@pytest.mark.parametrize("hang_up", [True, False])
async def test_a_gateway_that_drops_large_bodies_gets_smaller_ones(
    tmp_path: Path, hang_up: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with running_station(tmp_path) as station, http_upstream() as server:
        swallow = Swallowing(6_000, hang_up=hang_up)

        def answer(got: Got) -> Reply:
            return swallow.reply(got) or Reply(silent=True)

        server.answer = answer
        await station.put(3000)
        more = {"compression": "none", "timeout": PATIENCE_S if hang_up else 0.5}
        async with forwarding(station, server.url, **more) as forwarder:
            await floor_is(forwarder, 3000)
            lane = forwarder.statistics().lanes[0]
            assert 0 < lane.passed <= 6_000 and lane.passed < lane.failed
        assert swallow.numbers == [*range(3000)]
        # Not found out anew after a restart.
        before = swallow.dropped
        await station.put(500, start=3000)
        async with forwarding(station, server.url, **more) as forwarder:
            await floor_is(forwarder, 3500)
        assert swallow.dropped <= before + 2
        by_key = {(got.key, zlib.crc32(got.body)) for got in server.got}
        assert len(by_key) == len({got.key for got in server.got})
        assert await station.log.quarantine(0, 9) == []
        assert "do not get through, so less is sent" in caplog.text


async def test_what_was_halved_comes_again_as_it_was_halved_after_a_kill(tmp_path: Path) -> None:
    async with http_upstream() as server:
        server.answer = lambda _: Reply(hang_up=True)
        config = upstream(server.url, compression="none")
        async with running_station(tmp_path) as station:
            await station.put(2000)

            def ranges() -> list[tuple[int, int]]:
                floor, state = station.engine.position("upstream/hub", "main")
                return decode_plan(state, shape_of(config), floor).ranges

            async with forwarding(station, server.url, compression="none"):
                await until(lambda: ranges()[:1] == [(1, 50)], seconds=PATIENCE_S)
            cut = len(server.got)
            halves = ranges()
        async with running_station(tmp_path) as station:
            taken = Taken(lambda *_: None)
            server.answer = taken
            async with forwarding(station, server.url, compression="none") as forwarder:
                await floor_is(forwarder, 2000)
        first = server.got[cut].key.rpartition("/")[2]
        assert first == f"{halves[0][0]}-{halves[0][1]}"
        assert taken.numbers == [*range(2000)]


async def test_a_range_planned_above_todays_limits_is_planned_anew(tmp_path: Path) -> None:
    """What may have been sent comes as it was once more; everything else is cut to size."""
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(900)
        server.answer = lambda _: Reply(503)
        async with forwarding(station, server.url, batch_records=300):
            await until(lambda: len(server.got) > 1)
        asked = len(server.got)
        swallow = Swallowing(5_000, hang_up=True)
        server.answer = lambda got: swallow.reply(got) or Reply(hang_up=True)
        less = {"batch_records": 20, "compression": "none"}
        async with forwarding(station, server.url, **less) as forwarder:
            await floor_is(forwarder, 900)
        assert swallow.numbers == [*range(900)]
        # Once as it was, less a record, since it is written in another way now.
        large = [got for got in server.got[asked:] if len(got.records) > 20]
        assert len(large) == 1


async def test_a_slow_uplink_and_a_short_timeout_deliver(tmp_path: Path) -> None:
    """Ten timeouts long: 16 kB/s and 30 s would want 4.8 MB."""
    async with (
        running_station(tmp_path) as station,
        http_upstream() as server,
        gateway(0, per_second=64_000) as way,
    ):
        way.target = server.port
        server.answer = taken = Taken(lambda *_: None)
        await station.put(3000)
        url = f"http://127.0.0.1:{way.port}/in"
        async with forwarding(station, url, compression="none", timeout=1.0) as forwarder:
            await floor_is(forwarder, 3000)
        assert taken.numbers == [*range(3000)]


async def test_a_single_record_that_never_gets_through_is_set_aside_where_others_do(
    tmp_path: Path,
) -> None:
    def answer(got: Got) -> Reply:
        return Reply(hang_up=True) if any(r["fields"]["n"] == 3 for r in got.records) else took(got)

    async with running_station(tmp_path) as station, http_upstream() as server:
        took = Taken(lambda *_: None)
        server.answer = answer
        await station.put(3)
        await put_long(station, 3)
        await station.put(3, start=4)
        async with forwarding(station, server.url, batch_records=1) as forwarder:
            await floor_is(forwarder, 7)
        assert took.numbers == [0, 1, 2, 4, 5, 6]
        ((_, aside),) = await station.log.quarantine(0, 9)
        assert (aside.seq, aside.code) == (4, "upstream_cut")


async def put_long(station: Station, n: int) -> None:
    """A record of four kilobytes, as sent."""
    body = msgpack.packb({"n": n, "pad": os.urandom(2000).hex()})
    run = structs.replace(make_run("long", 1, n), body=body)
    await (await station.log.append(Entry(runs=(run,)))).wait()


async def test_the_journal_tells_each_cause_and_the_recovery_and_floods_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with running_station(tmp_path) as station:
        await station.put(1)
        async with http_upstream() as server:
            port = server.port
        url = f"http://127.0.0.1:{port}/in"
        async with forwarding(station, url) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].failures > 3)
            async with http_upstream(port=port) as server:
                for status in (401, 500):
                    server.answer = lambda got, status=status: Reply(  # type: ignore[misc]
                        status, f"request {len(server.got)} is not welcome".encode()
                    )
                    asked = len(server.got)
                    await until(lambda asked=asked: len(server.got) > asked + 5)  # type: ignore[misc]
                server.answer = lambda _: Reply()
                await floor_is(forwarder, 1)
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("edge_agent.forward")]
    words = ["refused", "HTTP 401", "HTTP 500", "takes records again"]
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))
