"""Cuts on the way to real servers: what they took is acknowledged, and the acknowledgement is lost.

A forwarder sends record after record to a NATS server, PostgreSQL, InfluxDB, VictoriaMetrics and
Mosquitto, each a process of its own behind a relay that breaks the connection (the sides of
``tests/forward/test_sink_contract.py``). The dice decide before which records that happens. At the
end every record is there; where it can be there once only, it is there once.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from edge_agent.forward import Forwarder, make_sink
from tests.crash.proof import Outcome, Scale
from tests.forward.contract import Repaired, Side
from tests.forward.sinks.influx.side import influx_side, victoria_side
from tests.forward.sinks.mqtt.side import broker_side
from tests.forward.sinks.nats.side import nats_side
from tests.forward.sinks.postgres.server import end_servers
from tests.forward.sinks.postgres.side import postgres_side
from tests.forward.support import inline, running_station, upstream
from tests.patience import PATIENCE_S

SIDES: Final[dict[str, Side]] = {
    "nats": nats_side,
    "postgres": postgres_side,
    "influx": influx_side,
    "victoria": victoria_side,
    "mqtt": broker_side,
}


@dataclass
class Result:
    """What came of one kind of server."""

    name: str
    cuts: int = 0
    records: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


def prove(scale: Scale, seed: int) -> Outcome:
    """``scale.tries`` cuts, shared by all kinds of servers."""
    each = -(-scale.tries // len(SIDES))
    try:
        results = [trio.run(cut_off, name, each, seed) for name in SIDES]
    finally:
        end_servers()
    failures = [f"{one.name}: {problem}" for one in results for problem in one.problems]
    lines = [
        f"{one.name}: {one.cuts} cuts, {one.records} records, {one.doubled} there again"
        for one in results
    ]
    lines.append(f"{sum(one.cuts for one in results)} cuts, {len(failures)} problems, seed {seed}")
    return Outcome(tuple(lines), tuple(failures))


async def cut_off(name: str, cuts: int, seed: int) -> Result:
    """So many cuts on the way to a server of this kind."""
    folder, result, dice = Path(tempfile.mkdtemp()), Result(name), random.Random(seed)
    try:
        async with (
            SIDES[name](folder / "far") as far,
            running_station(folder / "near") as station,
            trio.open_nursery() as nursery,
        ):
            given = upstream(far.url, name="far", order="in order", timeout=10.0, **far.options)
            make = partial(
                make_sink,
                given,
                identity=station.log.identity,
                clock=station.clock,
                run_blocking=inline,
            )
            forwarder = Forwarder(
                given, station.log, make, clock=station.clock, dice=dice, metrics=station.metrics
            )
            nursery.start_soon(forwarder.run)
            while result.cuts < cuts and not result.problems:
                is_cut = dice.random() < 0.5
                failed = station.metrics.total("forward_failures_total")
                if is_cut:
                    far.break_down()
                count = dice.choice((1, 2, 5))
                await station.put(count, start=result.records)
                result.records += count
                with trio.move_on_after(PATIENCE_S) as patience:
                    while is_cut and station.metrics.total("forward_failures_total") == failed:
                        await trio.sleep(0.002)
                    if isinstance(far, Repaired):
                        far.repair()
                    while forwarder.statistics().backlog_records:
                        await trio.sleep(0.002)
                if patience.cancelled_caught:
                    result.problems.append(f"stuck behind {result.cuts} cuts")
                result.cuts += is_cut
            found = [n for _, n in await far.durable()]
            result.doubled = len(found) - len(set(found))
            if lost := set(range(result.records)) - set(found):
                result.problems.append(f"lost {len(lost)} records, {min(lost)} the first")
            if far.is_once and result.doubled:
                result.problems.append(f"{result.doubled} records are there again")
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result
