"""Many slow sensors: CPU per message and ack latency; many silent sessions; and no sensor at all.

Each question has an agent of its own process, fresh store, people's port on, shipped defaults but
for what the rows name. The load tells whether it kept its schedule (`sensors_load`); where it did
not, the run is repeated, and after `ATTEMPTS` the row says void instead of a figure.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.ports import free_port
from benchmarks.processes import Agent, Load, Server
from benchmarks.readback import verify
from benchmarks.section import Section
from benchmarks.table import markdown
from benchmarks.watching import process_seconds, rss_anon_mb

SENSORS, RATE, INTERVAL = 500, 10_000.0, "20ms"
#: Beyond the obvious design's powers by far; what it does at this rate is printed beside.
BASELINE_RATE = 300.0
IDLE_SESSIONS = 1_000
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class SensorsRow:
    """One run. ``cpu_us`` is the server's per message; ``void`` says why nothing is measured."""

    what: str
    sensors: int
    rate: float
    messages: int
    cpu_us: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float
    load_core: float
    void: str = ""

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        head = (self.what, f"{self.sensors:,}", f"{self.rate:,.0f}", f"{self.messages:,}")
        load = (f"{self.late_p99_ms:.2f}", f"{self.load_core:.0%}")
        if self.void:
            return (*head, self.void, "", "", "", *load)
        figures = (self.cpu_us, self.p50_ms, self.p99_ms, self.max_ms)
        return (*head, *(f"{figure:.1f}" for figure in figures), *load)


@dataclass(frozen=True, slots=True)
class IdleRow:
    """An agent at rest, with ``sessions`` open; ``core`` is the part of one that it used."""

    sessions: int
    welcomed_s: float
    rss_anon_mb: float
    core: float
    seconds: float


def agent_config(connections: int, interval: str) -> str:
    """As many connections as the run needs, all of them let in at once, and its interval."""
    return f'{all_at_once(connections)}[log.main]\ncommit_interval = "{interval}"\n'


def all_at_once(connections: int) -> str:
    """So many may connect at one moment, from one address: the load has a single one."""
    keys = ("connections", "unproved", "unproved_per_address")
    return "[listen]\n" + "".join(f"{key} = {connections}\n" for key in keys)


def agent_run(
    folder: Path, *, sensors: int = SENSORS, rate: float = RATE, seconds: float, warm_s: float
) -> SensorsRow:
    """The agent; every record is read back afterwards."""
    what = f"agent, commit_interval {INTERVAL}"
    for attempt in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        agent = Agent(folder, agent_config(sensors + 50, INTERVAL))
        try:
            found = load(agent, sensors=sensors, rate=rate, seconds=seconds, warm_s=warm_s)
        finally:
            agent.stop()
        verify(folder / "data", found["acked"], found["checksums"])
        if not found["fell_behind"] or attempt + 1 == ATTEMPTS:
            break
    return row_of(what, sensors, rate, found)


def baseline_run(
    folder: Path, *, sensors: int = SENSORS, rate: float = BASELINE_RATE, seconds: float,
    warm_s: float,
) -> SensorsRow:  # fmt: skip
    """The obvious design: trio-websocket with a task a connection, one commit a message."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "db").mkdir(parents=True)
    port = free_port()
    server = Server(PEERS["lmdb"].command(folder / "db", port), port, folder)
    try:
        found = load(server, sensors=sensors, rate=rate, seconds=seconds, warm_s=warm_s)
    finally:
        server.stop()
    return row_of(PEERS["lmdb"].title, sensors, rate, found)


def load(
    server: Server, *, sensors: int, rate: float, seconds: float, warm_s: float
) -> dict[str, Any]:
    """Run `benchmarks.sensors_load` against ``server``."""
    return Load(
        server.port, module="benchmarks.sensors_load", pid=server.process.pid,
        sensors=sensors, rate=rate, seconds=seconds, warm_s=warm_s,
    ).run()  # fmt: skip


def row_of(what: str, sensors: int, rate: float, found: dict[str, Any]) -> SensorsRow:
    """A row out of what the load printed."""
    return SensorsRow(
        what=what,
        sensors=sensors,
        rate=rate,
        messages=found["messages"],
        cpu_us=found["server_cpu_us"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        max_ms=found["max_ms"],
        late_p99_ms=found["late_p99_ms"],
        load_core=found["load_core"],
        void="void: the load fell behind" if found["fell_behind"] else "",
    )


def idle_run(folder: Path, *, sessions: int, settle_s: float, hold_s: float) -> IdleRow:
    """What an agent at rest takes; with sessions, they are opened at once and stay silent."""
    shutil.rmtree(folder, ignore_errors=True)
    config = all_at_once(sessions + 50) if sessions else ""
    agent = Agent(folder, config)
    try:
        pid = agent.process.pid
        # As a page that was looked at once: the people's port has loaded what it needs.
        agent.get("/api/status")
        if sessions:
            found = Load(
                agent.port, module="benchmarks.idle_load", pid=pid, sessions=sessions,
                settle_s=settle_s, hold_s=hold_s,
            ).run()  # fmt: skip
            return IdleRow(
                sessions, found["welcomed_s"], found["rss_anon_mb"], found["core"], hold_s
            )
        time.sleep(settle_s)
        cpu = process_seconds(pid)
        time.sleep(hold_s)
        cpu = process_seconds(pid) - cpu
        return IdleRow(0, 0.0, rss_anon_mb(pid), cpu / hold_s, hold_s)
    finally:
        agent.stop()


def section(folder: Path, tiny: bool) -> Section:
    """Sensors and silence, as a chapter of the results."""
    if tiny:
        rows = [
            agent_run(folder / "sensors", sensors=20, rate=400, seconds=0.6, warm_s=0.1),
            baseline_run(folder / "baseline", sensors=5, rate=50, seconds=0.4, warm_s=0.1),
        ]
        silent = idle_run(folder / "idle", sessions=20, settle_s=0.1, hold_s=0.2)
        alone = idle_run(folder / "idle", sessions=0, settle_s=0.1, hold_s=0.2)
    else:
        rows = [
            agent_run(folder / "sensors", seconds=14, warm_s=2),
            baseline_run(folder / "baseline", seconds=8, warm_s=2),
        ]
        silent = idle_run(folder / "idle", sessions=IDLE_SESSIONS, settle_s=5, hold_s=30)
        alone = idle_run(folder / "idle", sessions=0, settle_s=5, hold_s=30)
    return Section(render(rows, silent, alone), figures(rows[0], silent, alone))


def figures(ours: SensorsRow, silent: IdleRow, alone: IdleRow) -> dict[str, float]:
    """For the table of goals; those of a void run are missing there."""
    found = {
        "sensors_connect_s": silent.welcomed_s,
        "sensors_idle_mb": silent.rss_anon_mb,
        "idle_cpu": alone.core * 100,
    }
    if not ours.void:
        found |= {"sensors_cpu_us": ours.cpu_us, "sensors_p99_ms": ours.p99_ms}
    return found


def render(rows: list[SensorsRow], silent: IdleRow, alone: IdleRow) -> str:
    """The chapter in Markdown."""
    head = (
        "server", "sensors", "messages/s in all", "messages measured", "server CPU us/message",
        "ack p50 ms", "p99 ms", "max ms", "load late p99 ms", "load, of a core",
    )  # fmt: skip
    rest = [
        (
            f"{idle.sessions:,}",
            f"{idle.welcomed_s:.2f} s" if idle.sessions else "-",
            f"{idle.rss_anon_mb:.1f} MB",
            f"{idle.core:.2%}",
        )
        for idle in (alone, silent)
    ]
    return (
        "## Many slow sensors: single records, a connection each, open loop\n\n"
        "Ack latency counts from the scheduled moment. CPU is user and system time of all threads "
        "while the messages came in, connecting and closing left out.\n\n"
        + markdown(head, [row.cells() for row in rows])
        + f"\n\n### Silence: people's port on, CPU over {alone.seconds:g} s\n\n"
        + markdown(
            ("sessions open", "until the last of them was welcomed", "RssAnon", "CPU, of a core"),
            rest,
        )
    )
