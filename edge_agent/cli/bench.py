"""``edge-agent bench``: what this machine's own card can do for durable records.

Three questions a person with a Raspberry Pi has. How long does one sync take? How many records a
second survive a power cut, in small groups and in large ones? How much does each commit write,
and so how long will the card last? The real store is asked, in a folder of its own beside the
real one, and removed afterwards. A file system in memory is refused: a sync is free there.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from edge_agent.cli.common import Failure
from edge_agent.cli.progress import ProgressBar
from edge_agent.ops.figures import cpu_seconds
from edge_agent.ops.text import amount, duration, size
from edge_agent.store import Engine, Entry, StoreSettings
from edge_agent.system.block_device import IN_MEMORY, file_system_of
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import Run
from edge_agent.wear import Written, written_of

#: Bytes that the store of the measurement reserves; with the probe's the most that it takes.
STORE_BYTES = 64 * 1024 * 1024
_GROUPS = (1, 100, 1_000, 10_000)
_PROBE_BYTES = 4096
_DIFFERENT = 5_000
_COMMITS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class SyncTimes:
    """``fdatasync`` after 4 KiB: how many were timed, and their durations in seconds."""

    count: int
    median_s: float
    p99_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Commits:
    """Commits of ``group`` records each.

    Attributes:
        records_per_s: durable records per second, one commit after the other.
        median_s, p99_s: duration of one commit.
        written_bytes: what one commit wrote, None where it cannot be told.
        records_per_cpu_s: E.
    """

    group: int
    records_per_s: float
    median_s: float
    p99_s: float
    written_bytes: float | None
    records_per_cpu_s: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """Everything, as ``--json`` prints it."""

    path: str
    file_system: str
    written_by: str
    syncs: SyncTimes
    commits: tuple[Commits, ...]


@click.command()
@click.option(
    "--store",
    "path",
    metavar="PATH",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder on the card to measure, e.g. /var/lib/edge-agent.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="How long to measure, about.",
)
@click.option("--json", "as_json", is_flag=True, help="The figures, as JSON.")
def command(path: Path, seconds: float, *, as_json: bool) -> None:
    """Measure this machine's own disk for durable records.

    Takes at most 70 MB below PATH for as long as it runs, and removes it.
    """
    result = measure(path, seconds)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
    else:
        _print(result)


def measure(path: Path, seconds: float) -> Result:
    """Measure below ``path`` for about ``seconds``.

    Raises:
        Failure: the file system is in memory, or has too little room.
    """
    kind = file_system_of(path)
    if kind in IN_MEMORY:
        raise Failure(f"{path} is on {kind}, in memory, where a sync is free: name a disk")
    free = shutil.disk_usage(path).free
    if free < 2 * STORE_BYTES:
        raise Failure(f"{path} has {size(free)} free; {size(2 * STORE_BYTES)} are needed")
    share = seconds / (1 + len(_GROUPS))
    written = written_of(path)
    with _folder(path) as folder, ProgressBar("measuring", 1 + len(_GROUPS)) as bar:
        bar.show(0, "syncs")
        syncs = _time_syncs(folder / "probe", share)
        engine = Engine.open(
            folder,
            StoreSettings(size=STORE_BYTES),
            clock=SystemClock(),
            entropy=os.urandom,
        )
        try:
            commits = []
            for index, group in enumerate(_GROUPS):
                bar.show(1 + index, f"commits of {group}")
                commits.append(_time_commits(engine, group, share, written))
        finally:
            engine.close()
    return Result(str(path), kind, written.source, syncs, tuple(commits))


def _time_syncs(path: Path, seconds: float) -> SyncTimes:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:

        def once() -> None:
            os.pwrite(descriptor, os.urandom(_PROBE_BYTES), 0)
            os.fdatasync(descriptor)

        once()  # the first one allocates the block
        taken = sorted(_repeat(once, seconds))
    finally:
        os.close(descriptor)
    return SyncTimes(len(taken), statistics.median(taken), percentile(taken, 0.99), taken[-1])


def _time_commits(engine: Engine, group: int, seconds: float, written: Written) -> Commits:
    numbers = _forever(group)

    def once() -> None:
        engine.commit([Entry((next(numbers),))])

    once()
    before_bytes, before_cpu = written.bytes(), cpu_seconds()
    taken = sorted(_repeat(once, seconds))
    cpu_s, after_bytes = cpu_seconds() - before_cpu, written.bytes()
    records = group * len(taken)
    return Commits(
        group=group,
        records_per_s=records / sum(taken),
        median_s=statistics.median(taken),
        p99_s=percentile(taken, 0.99),
        written_bytes=(
            None
            if before_bytes is None or after_bytes is None
            else (after_bytes - before_bytes) / len(taken)
        ),
        records_per_cpu_s=records / cpu_s if cpu_s > 0 else None,
    )


def _repeat(once: Callable[[], None], seconds: float) -> list[float]:
    """Durations of ``once``, called one after the other, at least three times."""
    taken: list[float] = []
    end = time.monotonic() + seconds
    while len(taken) < 3 or (time.monotonic() < end and len(taken) < _COMMITS_MAX):
        began = time.perf_counter()
        once()
        taken.append(time.perf_counter() - began)
    return taken


def _forever(group: int) -> Iterator[Run]:
    """Runs of ``group`` records of 71 bytes with drifting numbers, as a sensor sends them."""
    import math

    import msgpack

    bodies = [
        msgpack.packb(
            {
                "time": 1.7e9 + number,
                "temperature": 20 + math.sin(number / 50),
                "humidity": 40 + math.cos(number / 90),
                "pressure": 1013.25 + number / 1000,
                "n": number,
            }
        )
        for number in range(_DIFFERENT)
    ]
    position = 0
    while True:
        chosen = [bodies[(position + index) % _DIFFERENT] for index in range(group)]
        position += group
        now = time.time_ns()
        yield Run("bench/1", "bench", 0, now, True, group, b"".join(chosen), now, now)


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value below which ``part`` of the ordered values lie, at least one of them."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=".edge-agent-bench-", dir=path))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print(result: Result) -> None:
    syncs = result.syncs
    click.echo(f"{result.path} on {result.file_system}; bytes written as {result.written_by}")
    click.echo(
        f"one sync (4 KiB, fdatasync): median {duration(syncs.median_s)},"
        f" p99 {duration(syncs.p99_s)}, longest {duration(syncs.longest_s)} of {syncs.count}"
    )
    click.echo()
    click.echo("records a commit   durable records/s   commit median      p99   written   E")
    for one in result.commits:
        wrote, efficiency = size(one.written_bytes), amount(one.records_per_cpu_s)
        click.echo(
            f"{amount(one.group):>16} {amount(one.records_per_s):>19}"
            f" {duration(one.median_s):>15} {duration(one.p99_s):>8} {wrote:>9}   {efficiency}"
        )
    single = result.commits[0].written_bytes
    if single:
        click.echo()
        click.echo(
            f"At log.main.commit_interval = 1s the card gets at most about {size(single * 86_400)}"
            " a day from commits; at 10s a tenth of that. wear.bytes_per_day_max keeps a budget."
        )
