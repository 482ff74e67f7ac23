"""The InfluxDB sink against real servers: what is refused, what is left out, and kills."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio

from benchmarks.ports import free_port
from benchmarks.upstreams.servers import HttpDatabase, influxdb, victoria_metrics
from edge_agent.config import InfluxTable, Upstream
from edge_agent.errors import SinkUnavailable
from edge_agent.forward import Lane, make_sink
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Sink
from edge_agent.forward.sinks.influx.sink import probe, unit_ns
from edge_agent.store import Entry
from edge_agent.values.record import Run
from tests.forward.http_upstream import http_upstream
from tests.forward.sinks.influx.side import exported
from tests.forward.support import (
    NOW_NS,
    Station,
    inline,
    parts_for,
    running_station,
    until,
    upstream,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpDatabase]:
    with influxdb(tmp_path_factory.mktemp("influx"), free_port(), free_port()) as running:
        yield running


def to(port: int, query: str = "db=x", **more: Any) -> Upstream:
    return upstream(f"http://127.0.0.1:{port}/write?{query}", format="line", **more)


async def put(station: Station, *fields: dict[str, Any], stream: str = "t/1") -> None:
    body = b"".join(map(msgpack.packb, fields))
    run = Run(stream, "s", 1, NOW_NS, True, len(fields), body, NOW_NS, NOW_NS)
    await (await station.log.append(Entry(runs=(run,)))).wait()


def sink_of(station: Station, configured: Upstream) -> Sink:
    return make_sink(
        configured,
        "main",
        identity=station.log.identity,
        clock=station.clock,
        run_blocking=inline,
    )


async def sent(station: Station, configured: Upstream) -> Acknowledged:
    """What the sink answers to a batch of all records."""
    sink = sink_of(station, configured)
    items = await station.log.read("main", 0)
    try:
        async with trio.open_nursery() as nursery:
            await sink.open(nursery, LaneResume(0, 1, items[-1].last, None))
            return await sink.send(Batch("main", 1, items[-1].last, tuple(items)))
    finally:
        await sink.aclose()


@asynccontextmanager
async def forwarding(station: Station, configured: Upstream) -> AsyncIterator[Lane]:
    """A lane that sends what the station has, as long as the block runs."""
    lane = Lane(
        configured,
        station.log,
        "main",
        sink_of(station, configured),
        clock=station.clock,
        dice=random.Random(1),
        metrics=station.metrics,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lane.run)
        yield lane
        nursery.cancel_scope.cancel()


def is_below(lane: Lane, records: int) -> bool:
    return lane.statistics().backlog_records < records


async def ask(server: HttpDatabase, statement: str, database: str = "x") -> list[list[Any]]:
    series = await trio.to_thread.run_sync(server.influx, statement, database)
    return series[0]["values"] if series else []


@pytest.mark.needs("influxd")
async def test_the_very_records_of_a_type_conflict_go_to_quarantine(
    server: HttpDatabase, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        records = [{"v": "text" if n % 100 == 3 else float(n)} for n in range(4000)]
        # One more, of another kind, which the first answer does not name.
        records[50]["w"] = "text"
        await put(station, *records, stream="conflict")
        server.post("/write?db=x", f"conflict v=0.5,w=1 {NOW_NS - 1}".encode())
        async with forwarding(station, to(server.port)) as lane:
            await until(lambda: lane.statistics().backlog_records == 0)
            found = await ask(server, f"SELECT v FROM conflict WHERE time >= {NOW_NS}")
            assert [v for _, v in found] == [n for n in range(4000) if n % 100 != 3 and n != 50]
            aside = [item for _, item in await station.log.quarantine(0, 1000)]
            assert [item.seq for item in aside] == sorted([51, *range(4, 4001, 100)])
            assert lane.statistics().refused == 41
            assert "HTTP 400: partial write: field type conflict" in aside[0].reason


@pytest.mark.needs("influxd")
async def test_where_the_server_does_not_name_them_the_bad_are_found_by_halving(
    server: HttpDatabase, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        # A new field with two types in one request: the answer names neither field nor number.
        await put(station, *({"n": n, "w": "x" if n == 13 else 1.5} for n in range(20)), stream="h")
        async with forwarding(station, to(server.port)) as lane:
            await until(lambda: lane.statistics().backlog_records == 0)
        found = await ask(server, "SELECT n FROM h")
        assert [n for _, n in found] == [n for n in range(20) if n != 13]


@pytest.mark.needs("influxd")
async def test_what_is_too_old_for_the_database_is_counted_and_told(
    server: HttpDatabase, tmp_path: Path
) -> None:
    server.influx("CREATE DATABASE brief WITH DURATION 1d")
    async with running_station(tmp_path) as station:
        await put(station, {"time": {"historic": 1e9}, "n": 1}, {"time": {"historic": 1e9}, "n": 2})
        acknowledged = await sent(station, to(server.port, "db=brief"))
        assert (acknowledged.records, acknowledged.refused) == (0, 2)
        assert "beyond retention policy" in acknowledged.refusal


@pytest.mark.needs("influxd")
async def test_a_database_that_is_missing_needs_a_person(
    server: HttpDatabase, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(1)
        with pytest.raises(ExceptionGroup) as caught:
            await sent(station, to(server.port, "db=nope"))
        (error,) = caught.value.exceptions
        assert isinstance(error, SinkUnavailable) and error.slow
        assert 'database not found: "nope"' in str(error)


async def test_records_without_a_field_that_can_be_said_are_counted(tmp_path: Path) -> None:
    async with http_upstream() as there, running_station(tmp_path) as station:
        await put(station, {"n": 1}, {"list": [1]}, {"n": 3})
        acknowledged = await sent(station, to(there.port))
        assert (acknowledged.records, acknowledged.refused) == (2, 1)
        assert "record 2 has no field" in acknowledged.refusal


async def test_a_batch_of_which_nothing_can_be_said_is_not_sent(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await put(station, {"list": [1]})
        acknowledged = await sent(station, to(1))
        assert (acknowledged.upto, acknowledged.refused) == (1, 1)


async def test_a_token_is_sent_as_influxdb_wants_it(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    async with http_upstream() as there, running_station(tmp_path / "near") as station:
        await station.put(1)
        await sent(station, to(there.port, token_file=str(secret)))
        (got,) = there.got
        assert got.headers["authorization"] == "Token s3cret"
        assert got.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("query, unit", [
    ("db=x", 1), ("precision=ns", 1), ("precision=u&db=x", 1000), ("precision=ms", 1_000_000),
    ("precision=s", 1_000_000_000),
])  # fmt: skip
def test_the_urls_precision_is_what_times_are_written_in(query: str, unit: int) -> None:
    assert unit_ns(f"http://h/write?{query}") == unit


@pytest.mark.needs("influxd")
async def test_times_in_milliseconds_are_read_as_such(server: HttpDatabase, tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await put(station, {"n": 1}, stream="ms")
        table = InfluxTable(unique_times=False)
        await sent(station, to(server.port, "db=x&precision=ms", influx=table))
        assert await ask(server, "SELECT n FROM ms") == [[NOW_NS, 1]]


@pytest.mark.needs("victoria-metrics")
async def test_victoria_metrics_is_noticed_and_text_left_out_where_it_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with victoria_metrics(tmp_path / "vm", free_port()) as there, caplog.at_level(logging.WARNING):
        async with running_station(tmp_path / "near") as station:
            await put(station, {"n": 5, "s": "x"})
            await sent(station, to(there.port))
            assert "set influx.victoria = true" in caplog.text
            assert sorted(await trio.to_thread.run_sync(exported, there)) == [0, 5]
            known = to(there.port, influx=InfluxTable(victoria=True, tags=("source",)))
            await sent(station, known)
            assert "-dedup.minScrapeInterval" in caplog.text
            assert sorted(await trio.to_thread.run_sync(exported, there)) == [0, 5, 5]


@pytest.mark.needs("victoria-metrics")
async def test_victoria_metrics_drops_repeats_where_it_is_told_to(tmp_path: Path) -> None:
    flag = "-dedup.minScrapeInterval=1ms"
    with victoria_metrics(tmp_path / "vm", free_port(), flag) as there:
        async with running_station(tmp_path / "near") as station:
            await put(station, {"n": 5})
            for _ in range(3):
                await sent(station, to(there.port, influx=InfluxTable(victoria=True)))
            assert await trio.to_thread.run_sync(exported, there) == [5]


@pytest.mark.needs("influxd")
async def test_a_server_that_is_killed_has_every_record_once(tmp_path: Path) -> None:
    with influxdb(tmp_path / "influx", free_port(), free_port()) as there:
        async with running_station(tmp_path / "near") as station:
            for n in range(0, 20_000, 2000):
                await station.put(2000, start=n)
            configured = to(there.port, batch_records=500, backoff_max=0.2)
            async with forwarding(station, configured) as lane:
                for part in (15_000, 8_000):
                    await until(partial(is_below, lane, part))
                    there.kill()
                    await trio.sleep(0.05)
                    await trio.to_thread.run_sync(there.start)
                await until(lambda: lane.statistics().backlog_records == 0)
            found = await ask(there, 'SELECT n FROM "t/1"')
            assert sorted(n for _, n in found) == list(range(20_000))


async def test_trying_one_out_writes_a_point_and_tells_what_came_back(
    server: HttpDatabase, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        for one in (to(server.port), to(server.port, influx=InfluxTable(victoria=True))):
            (step,) = await probe(parts_for(station, one), 1000)
            assert step.good and "HTTP 204" in step.told
        (step,) = await probe(parts_for(station, to(server.port, "db=nowhere")), 100)
        assert not step.good and 'database not found: "nowhere"' in step.told
    (series,) = await trio.to_thread.run_sync(
        server.influx, 'SELECT count(probe) FROM "edge-agent/probe"'
    )
    assert series["values"][0][1] == 2
