"""What reaches the device for each byte of records: write amplification, and disk used.

The real agent, on a file system of its own on a loop device (`wear_disk`), takes exactly so many
records for each commit (`wear_load`; checked against the agent's own count of commits). Counted
are all sectors written to that device between two moments at which nothing is dirty: LMDB's pages
and meta pages, and ext4's metadata and journal as well. With a forwarder, the hub is a real agent
on another file system. SQLite takes the same records in the same run, on the same kind of device.

Without root or loop devices there are no figures, and each row says so.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.ports import free_port
from benchmarks.processes import ROOT, Agent
from benchmarks.records import DISTINCT, RECORD_BYTES, encoded_records
from benchmarks.section import Section
from benchmarks.table import markdown
from benchmarks.wear_disk import Disk, own_file_system, why_not

INTERVAL = "20ms"
#: What the agent is called in the rows, and where nothing is compressed: a bound, for records
#: that compress less well than the generator's.
OURS, UNCOMPRESSED = "agent", "agent, compression_level = 0"
SQLITE = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL"
#: Commits that may be more or fewer than the rounds sent, as a part of them: more, and a row says
#: so instead of a figure. (A forwarder's position rides on commits, but now and then needs one.)
COMMITS_OFF = 0.05
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Scale:
    """``rounds`` of measured commits by records per commit, after ``warm`` that are not."""

    rounds: dict[int, int]
    warm: int
    store: int
    disk: int


FULL = Scale({1000: 200, 100: 400}, 20, 256 * MIB, 384 * MIB)
TINY = Scale({100: 5}, 2, 16 * MIB, 48 * MIB)


@dataclass(frozen=True, slots=True)
class WearRow:
    """One run. ``amplification``: bytes to the device by bytes of records. ``disk``: bytes used
    in the store, or by the file, for each byte of records. ``void``: why there is no figure.
    """

    what: str
    per_commit: int
    sources: int
    forwarder: bool
    commits: int = 0
    amplification: float = 0.0
    bytes_per_commit: float = 0.0
    disk: float = 0.0
    void: str = ""


class Paced:
    """`benchmarks.wear_load` in a process of its own."""

    def __init__(self, port: int, sources: int, per_commit: int) -> None:
        options = {
            "host": "127.0.0.1", "port": port, "sources": sources, "per_commit": per_commit,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.wear_load", json.dumps(options)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._hear("ready")

    def run(self, rounds: int) -> None:
        """So many rounds, until the last ack."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{rounds}\n")
        self.process.stdin.flush()
        self._hear("{")

    def end(self) -> None:
        """Close the sessions."""
        self.process.communicate(timeout=60)

    def _hear(self, beginning: str) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(beginning):
            raise RuntimeError(f"the load failed: {line!r}, {self.process.wait()}")


def agent_run(
    folder: Path, scale: Scale, *, per_commit: int, sources: int, forwarder: bool, what: str = OURS
) -> WearRow:
    """One agent on a device of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    rounds = scale.rounds[per_commit]
    config = "" if what == OURS else "compression_level = 0\n"
    config = (
        f'[store]\nsize = "{scale.store // MIB}MiB"\n{config}'
        f'[log.main]\ncommit_interval = "{INTERVAL}"\n'
    )
    with (
        own_file_system(folder, scale.disk) as disk,
        _agent(folder, disk, config, forwarder) as agent,
    ):
        load = Paced(agent.port, sources, per_commit)
        load.run(scale.warm)
        if forwarder:
            wait_forwarding(agent)
        commits, used = store_of(agent)
        written = disk.written()
        load.run(rounds)
        written = disk.written() - written
        after, used_after = store_of(agent)
        load.end()
    size = rounds * per_commit * RECORD_BYTES
    commits = after - commits
    return WearRow(
        what=what, per_commit=per_commit, sources=sources, forwarder=forwarder,
        commits=commits, amplification=written / size, bytes_per_commit=written / commits,
        disk=(used_after - used) / size, void=wrong_pace(commits, rounds),
    )  # fmt: skip


@contextmanager
def _agent(folder: Path, disk: Disk, config: str, forwarder: bool) -> Iterator[Agent]:
    """Its store on the device, all else (output, configuration, the hub) beside it."""
    hub: Agent | None = None
    agent: Agent | None = None
    try:
        if forwarder:
            hub = Agent(folder / "hub", port=free_port())
            url = f"ws://127.0.0.1:{hub.port}/forward"
            config += f'[[upstream]]\nname = "hub"\nurl = "{url}"\nbatch_age = "100ms"\n'
        (disk.mount / "data").mkdir()
        (folder / "agent").mkdir()
        (folder / "agent" / "data").symlink_to(disk.mount / "data")
        agent = Agent(folder / "agent", config)
        yield agent
    finally:
        for each in (agent, hub):
            if each is not None:
                each.stop()


def store_of(agent: Agent) -> tuple[int, int]:
    """Commits so far, and bytes in pages that hold something."""
    store = agent.get("/api/status")["store"]
    return store["commits"], store["used_bytes"]


def wait_forwarding(agent: Agent) -> None:
    """Until its hub has acknowledged something; before, a row would not be what it says."""
    deadline = time.perf_counter() + 30
    while not agent.get("/api/status")["upstreams"][0]["acknowledged_records"]:
        if time.perf_counter() > deadline:
            raise RuntimeError("nothing is forwarded")
        time.sleep(0.05)


def wrong_pace(commits: int, rounds: int) -> str:
    """Why the commits made do not fit what was sent; empty where they do."""
    if abs(commits - rounds) <= max(1, COMMITS_OFF * rounds):
        return ""
    return f"void: {commits} commits for {rounds} rounds"


def sqlite_run(folder: Path, scale: Scale, *, per_commit: int) -> WearRow:
    """SQLite in WAL mode with ``synchronous=FULL``: as durable as the agent. Its defaults else.

    Moving the log into the database is work that is put off, so the last of it is counted too.
    """
    shutil.rmtree(folder, ignore_errors=True)
    records, rounds = encoded_records(), scale.rounds[per_commit]

    def fill(database: sqlite3.Connection, first: int, count: int) -> None:
        for turn in range(first, first + count):
            at = turn * per_commit
            chosen = [(records[(at + index) % DISTINCT],) for index in range(per_commit)]
            with database:
                database.executemany("INSERT INTO records (record) VALUES (?)", chosen)

    with own_file_system(folder, scale.disk) as disk:
        path = disk.mount / "records.sqlite"
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, record BLOB NOT NULL)")
        fill(database, 0, scale.warm)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        written, used = disk.written(), path.stat().st_size
        fill(database, scale.warm, rounds)
        database.close()
        written, used = disk.written() - written, path.stat().st_size - used
    size = rounds * per_commit * RECORD_BYTES
    return WearRow(
        what=SQLITE, per_commit=per_commit,
        sources=1, forwarder=False, commits=rounds, amplification=written / size,
        bytes_per_commit=written / rounds, disk=used / size,
    )  # fmt: skip


def run(folder: Path, scale: Scale) -> list[WearRow]:
    """Every row; each says why, where there is no figure."""
    reason = why_not()
    ways = [(OURS, *way) for way in product(scale.rounds, (1, 50), (False, True))]
    ways += [(UNCOMPRESSED, per_commit, 1, False) for per_commit in scale.rounds]
    others = [(SQLITE, per_commit, 1, False) for per_commit in scale.rounds]
    if reason is not None:
        return [WearRow(*way, void=reason) for way in ways + others]
    place = folder / "wear"
    rows = [
        agent_run(
            place, scale, what=what, per_commit=per_commit, sources=sources, forwarder=forwarder
        )
        for what, per_commit, sources, forwarder in ways
    ]
    return rows + [sqlite_run(place, scale, per_commit=count) for count in scale.rounds]


def section(folder: Path, tiny: bool) -> Section:
    """Wear, as a chapter of the results."""
    rows = run(folder, TINY if tiny else FULL)
    return Section(render(rows), figures(rows))


def figures(rows: list[WearRow]) -> dict[str, float]:
    """For the table of goals: the worst of the agent's rows, with every source and forwarder.

    Missing where a row is void: the worst is not known then.
    """
    found: dict[str, float] = {}
    for per_commit in (1000, 100):
        mine = [row for row in rows if row.what == OURS and row.per_commit == per_commit]
        if not mine or any(row.void for row in mine):
            continue
        found[f"wear_{per_commit}"] = max(row.amplification for row in mine)
        if per_commit == 1000:
            found["disk_1000"] = max(row.disk for row in mine)
    return found


def render(rows: list[WearRow]) -> str:
    """The chapter in Markdown."""
    head = (
        "store", "records per commit", "sources", "forwarder", "commits",
        "bytes to the device per commit", "write amplification", "disk per byte of records",
    )  # fmt: skip
    cells = []
    for row in rows:
        found = (
            str(row.commits), f"{row.bytes_per_commit:,.0f}",
            f"{row.amplification:.2f}", f"{row.disk:.2f}",
        )  # fmt: skip
        way = (row.what, row.per_commit, row.sources, "one" if row.forwarder else "none")
        cells.append((*way, *((row.void, "", "", "") if row.void else found)))
    return (
        "## Wear: bytes written to the device for each byte of records\n\n"
        "A loop device of its own for each row, ext4; the file system's metadata and journal are "
        "included, SQLite's last checkpoint too. A record is 71 bytes. The store is new: every "
        "page of it is written for the first time.\n\n" + markdown(head, cells)
    )
