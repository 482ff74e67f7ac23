"""A station with every kind of record that a file has to carry, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import trio

from edge_agent.forward import make_sink
from edge_agent.forward.carried.bringing import Bringing, BroughtIn
from edge_agent.forward.carried.reading import find_files
from edge_agent.forward.credentials import Credentials
from edge_agent.forward.sink import Batch, LaneResume
from edge_agent.store import Entry, encode_runs
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import ForeignBlock, Origin, Record, Run
from tests.forward.support import NOW_NS, Station, inline, upstream

SECOND = 10**9
#: A time in each form in which a sensor may tell it.
MAPS: list[dict[str, Any]] = [
    {"n": 0, "time": "2026-11-22T10:00:00.123456Z"},
    {"n": 1},
    {"n": 2, "time": -1.5},
    {"n": 3, "time": 77},
    {"n": 4, "time": {"historic": "1969-07-20T20:17:40Z"}},
    {"n": 5, "raw": b"\x00\xff", "nan": float("inf"), "deep": {"a": [1, None, True]}},
    {"n": 6, "text": 'é "x"\n', "big": 2**63, "small": -(2**63), "f": 1.0},
]


def rich_run(stream: str, *, source: str = "pi/bme", seq: int = 1, arrival_ns: int = NOW_NS) -> Run:
    body = b"".join(msgpack.packb(one) for one in MAPS)
    synced = arrival_ns >= NOW_NS
    return Run(stream, source, seq, arrival_ns, synced, len(MAPS), body, -(2**62), 2**62)


async def fill(station: Station) -> None:
    """Records with every kind of time, from numbered and plain sources, and from another agent."""
    log = station.log
    for run in (
        rich_run("greenhouse/1"),
        rich_run("left/out", seq=0),
        rich_run("greenhouse/2", source="other", seq=100, arrival_ns=NOW_NS + 1_234_567_891),
        rich_run("greenhouse/3", source="$rule/hot", seq=0),
    ):
        await (await log.append(Entry(runs=(run,)))).wait()
    origin = Origin("c0ffee", "e1", "main", 501, bytes(16), 5, NOW_NS, True, ("c0ffee", "facade"))
    run = rich_run("far/1", source="far")
    payload = encode_runs([run])
    block = ForeignBlock(1, run.count, run.count, 0, len(payload), payload, -(2**62), 2**62, origin)
    await (await log.append(Entry(blocks=(block,)))).wait()


async def write_out(station: Station, folder: Path, *ends: int, **more: Any) -> None:
    """The log as files in ``folder``, cut behind the numbers ``ends``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = upstream(folder.as_uri(), name="stick", **more)
    sink = make_sink(
        config, "main",
        identity=station.log.identity, clock=station.clock, run_blocking=inline,
    )  # fmt: skip
    first = 1
    async with trio.open_nursery() as nursery:
        await sink.open(nursery, LaneResume(0, 1, 0, None, station.log.identity))
        for last in (*ends, station.log.last_seq("main")):
            items = tuple(await station.log.read("main", first - 1))
            await sink.send(Batch("main", first, last, items))
            first = last + 1
        nursery.cancel_scope.cancel()
    await sink.aclose()


async def bring(port: int, *paths: Path, with_gaps: bool = False) -> BroughtIn:
    """What ``edge-agent import`` does."""
    config = upstream(f"ws://127.0.0.1:{port}/forward", name="import")
    credentials = Credentials((), None, None, ())
    bringing = Bringing(config, credentials, SystemClock(), with_gaps=with_gaps)
    return await bringing.run(find_files(paths))


def told(record: Record, station: Station) -> tuple[Any, ...]:
    """What is the same of a record wherever it is: all but its place and time in this store."""
    own = record.origin == ""
    identity = station.log.identity
    place = (
        record.origin or identity.agent_id,
        record.origin_epoch or identity.epoch,
        record.origin_log or record.log,
        record.seq if own else record.origin_seq,
    )
    times = (record.time_ns, record.quality, record.synced, record.corrected, record.time_quality)
    return (*place, record.stream, *times, record.source, record.source_seq, record.fields)


async def all_told(station: Station, *streams: str) -> list[tuple[Any, ...]]:
    return [
        told(one, station)
        for one in await station.records()
        if not streams or one.stream in streams
    ]
