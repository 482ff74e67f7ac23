"""Single runs of the agent, of a peer and of the load by itself; each on a fresh store.

After a run the agent's store is read back: every acked record must be there with the right
checksum (JSON as the msgpack that it became), and a peer must hold as many messages as it acked,
or there is no figure.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import frame
from benchmarks.peers import Peer
from benchmarks.ports import free_port
from benchmarks.processes import Agent, Load, Server
from benchmarks.readback import verify
from benchmarks.records import RECORD_BYTES
from benchmarks.table import Row
from edge_agent.security.tls import make_ca

#: So that the last group of a run, which nothing fills, does not wait for the default's second.
#: Groups before it close early because they are full (`store.group_bytes`), whatever this says.
SHORT = "20ms"
#: As ``listen.connections`` is by itself, less some.
CONNECTIONS = 190
#: A run's records must fit into the log's share of the store, 70 % of 1 GiB.
MOST_RECORDS = 8_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What the messages look like."""

    batch: int = 1
    text: bool = False
    interval: str = SHORT
    post: bool = False
    tls: bool = False


def agent_run(folder: Path, *, records: int, connections: int, shape: Shape) -> Row:
    """One run: fresh agent, load, stop, read back."""
    shutil.rmtree(folder, ignore_errors=True)
    config, ca_file = f'[log.main]\ncommit_interval = "{shape.interval}"\n', ""
    if shape.tls or connections > CONNECTIONS:
        config += "[listen]\n"
    if connections > CONNECTIONS:
        config += f"connections = {connections + 10}\n"
    if shape.tls:
        files = make_ca(folder / "tls", ["127.0.0.1"])
        ca_file = str(files.ca)
        config += f'tls_certificate = "{files.certificate}"\ntls_key = "{files.key}"\n'
    agent = Agent(folder, config)
    try:
        load = Load(
            agent.port, module="benchmarks.post_load" if shape.post else "benchmarks.load",
            records=records, batch=shape.batch, connections=connections, text=shape.text,
            ca_file=ca_file,
        )  # fmt: skip
        cpu = agent.cpu_seconds()
        result = load.run()
        cpu = agent.cpu_seconds() - cpu
        peak = agent.memory_mb("VmHWM")
    finally:
        agent.stop()
    verify(folder / "data", result["acked"], result["checksums"], by_stream=shape.post)
    return Row(
        records=result["acked"], seconds=result["seconds"], cpu_seconds=cpu,
        facts={"peak_rss_mb": peak, "load_cpu": result["cpu"]},
    )  # fmt: skip


def peer_run(folder: Path, name: str, peer: Peer, *, records: int, connections: int) -> Row:
    """One run of a peer: fresh server, load, count, stop."""
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / "data"
    data.mkdir(parents=True)
    port = free_port()
    server = Server(peer.command(data, port), port, folder)
    try:
        peer.prepare(port)
        load = Load(
            port,
            module="benchmarks.peer_load",
            peer=name,
            records=records,
            connections=connections,
        )
        cpu = server.cpu_seconds()
        result = load.run()
        cpu = server.cpu_seconds() - cpu
        stored = peer.stored(data, port)
    finally:
        server.stop()
    if (result["acked"], stored) != (records, records):
        raise SystemExit(f"{name}: {result['acked']} of {records} acked, {stored} stored")
    return Row(records=records, seconds=result["seconds"], cpu_seconds=cpu)


def sink_run(folder: Path, *, records: int, connections: int) -> Row:
    """The load alone, into a server that keeps nothing; its own CPU time is in the row."""
    port = free_port()
    size = len(frame(bytes(RECORD_BYTES)))
    server = Server(
        [sys.executable, "-m", "benchmarks.peers.sink", str(port), str(size)], port, folder
    )
    try:
        result = Load(port, records=records, connections=connections).run()
    finally:
        server.stop()
    return Row(records=result["acked"], seconds=result["seconds"], cpu_seconds=result["cpu"])


def median(rows: list[Row]) -> Row:
    """The row whose rate is the (lower) median."""
    middle = statistics.median_low([row.rate for row in rows])
    return next(row for row in rows if row.rate == middle)


def best(rows: dict[int, Row]) -> Row:
    """The row with the highest rate."""
    return max(rows.values(), key=lambda row: row.rate)


def enough(run: Callable[..., Row], least: int, seconds: float) -> int:
    """Records for a run of so many seconds, judged by a short one of ``least``."""
    if not seconds:
        return least
    return min(MOST_RECORDS, max(least, int(run(records=least).rate * seconds)))
