"""A real cluster of three on loopback, of which one falls over at a time."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from benchmarks.ports import free_port
from edge_agent.config import NatsTable
from edge_agent.forward import make_sink
from edge_agent.forward.lanes.lane import Lane
from tests.forward.sinks.nats.server import NatsServer, Reader
from tests.forward.support import inline, running_station, until, upstream
from tests.patience import PATIENCE_S

#: Of 500 records; so many for each server that falls over.
PARTS = 10


@contextmanager
def cluster(folder: Path) -> Iterator[list[NatsServer]]:
    routes = [free_port() for _ in range(3)]
    known = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    servers = []
    for n, port in enumerate(routes):
        more = (
            f'server_name: "n{n}"\ncluster {{ name: "c", listen: "127.0.0.1:{port}",'
            f" routes: [{known}] }}"
        )
        servers.append(NatsServer(folder / f"n{n}", more=more))
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.end(signal.SIGKILL)


def reached(lane: Lane, goal: int) -> bool:
    return lane.statistics().floor >= goal


def wait_whole(servers: list[NatsServer]) -> None:
    deadline = time.monotonic() + 3 * PATIENCE_S
    while not whole(servers):
        assert time.monotonic() < deadline, "the replica does not catch up"
        time.sleep(0.2)


def whole(servers: list[NatsServer]) -> bool:
    """Whether the stream has a leader, and all three have all of it."""
    try:
        with Reader(servers[0].port) as reader:
            about = reader.ask("$JS.API.STREAM.INFO.EDGE").get("cluster", {})
    except (OSError, AssertionError):
        return False
    replicas = about.get("replicas", [])
    return (
        bool(about.get("leader"))
        and len(replicas) == 2
        and all(one.get("current") and not one.get("offline") for one in replicas)
    )


async def test_one_server_at_a_time_falls_over_and_a_consumer_gets_every_record_once(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path) as servers:
        async with running_station(tmp_path / "near") as station:
            ports = ",".join(f"127.0.0.1:{one.port}" for one in servers)
            up = upstream(
                f"nats://{ports}", nats=NatsTable(replicas=3), batch_records=500, timeout=5.0,
                backoff_max=0.2,
            )  # fmt: skip
            sink = make_sink(
                up, "main", identity=station.log.identity, clock=station.clock, run_blocking=inline
            )
            lane = Lane(
                up, station.log, "main", sink, clock=station.clock, dice=random.Random(5),
                metrics=station.metrics,
            )  # fmt: skip
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lane.run)
                for turn, victim in enumerate((*servers, None)):
                    for part in range(PARTS):
                        await station.put(500, start=500 * (turn * PARTS + part))
                        await trio.sleep(0.02)
                        if turn == part == 0:
                            # A stream of three is made only where all three are there.
                            await until(partial(reached, lane, 500), seconds=3 * PATIENCE_S)
                        if part == PARTS // 2 and victim is not None:
                            await trio.to_thread.run_sync(victim.kill)
                    goal = 500 * PARTS * (turn + 1)
                    await until(partial(reached, lane, goal), seconds=3 * PATIENCE_S)
                    if victim is not None:
                        await trio.to_thread.run_sync(victim.start)
                        await trio.to_thread.run_sync(wait_whole, servers)
                nursery.cancel_scope.cancel()
        with Reader(servers[0].port) as reader:
            assert [one["fields"]["n"] for one in reader.records()] == list(range(goal))
