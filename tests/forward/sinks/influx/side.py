"""InfluxDB and VictoriaMetrics as far sides of the contract test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from benchmarks.ports import free_port
from benchmarks.upstreams.servers import HttpDatabase, influxdb, victoria_metrics
from edge_agent.config import InfluxTable
from tests.forward.contract import FarSide
from tests.forward.relay import Relay, relay_to


class InfluxSide:
    """InfluxDB 1.x; a record's number is in its time."""

    options: dict[str, Any]
    is_once = True
    path = "/write?db=x&precision=ns"

    def __init__(self, server: HttpDatabase, relay: Relay) -> None:
        self._server, self._relay = server, relay
        self.url = f"http://127.0.0.1:{relay.port}{self.path}"
        self.nobody = f"http://127.0.0.1:1{self.path}"
        self.options = {"format": "line"}

    def hold(self) -> None:
        self._relay.hold()

    def release(self) -> None:
        self._relay.release()

    def break_down(self) -> None:
        self._relay.cuts = 1

    async def durable(self) -> list[tuple[str, int]]:
        series = await trio.to_thread.run_sync(self._server.influx, 'SELECT n FROM "t/1"')
        points = series[0]["values"] if series else []
        return [(f"{self._relay.epoch}/main/{time % 10**6}", int(n)) for time, n in points]


class VictoriaSide(InfluxSide):
    """VictoriaMetrics, which keeps milliseconds: a record's number is its value."""

    is_once = False

    def __init__(self, server: HttpDatabase, relay: Relay) -> None:
        super().__init__(server, relay)
        self.options["influx"] = InfluxTable(victoria=True)

    async def durable(self) -> list[tuple[str, int]]:
        values = await trio.to_thread.run_sync(exported, self._server)
        found = sorted(int(value) for value in values)
        return [(f"{self._relay.epoch}/main/{n + 1}", n) for n in found]


class VictoriaV2Side(VictoriaSide):
    """The same by the path of InfluxDB 2."""

    path = "/api/v2/write?org=o&bucket=b&precision=ns"


def exported(server: HttpDatabase) -> list[float]:
    """Every value of every series in a VictoriaMetrics."""
    server.get("/internal/force_flush")
    lines = server.get("/api/v1/export", **{"match[]": '{__name__!=""}'}).splitlines()
    return [value for line in lines for value in json.loads(line)["values"]]


@asynccontextmanager
async def influx_side(path: Path) -> AsyncIterator[FarSide]:
    with influxdb(path, free_port(), free_port()) as server:
        async with relay_to(server.port) as relay:
            yield InfluxSide(server, relay)


@asynccontextmanager
async def victoria_side(path: Path) -> AsyncIterator[FarSide]:
    with victoria_metrics(path, free_port()) as server:
        async with relay_to(server.port) as relay:
            yield VictoriaSide(server, relay)


@asynccontextmanager
async def victoria_v2_side(path: Path) -> AsyncIterator[FarSide]:
    with victoria_metrics(path, free_port()) as server:
        async with relay_to(server.port) as relay:
            yield VictoriaV2Side(server, relay)
