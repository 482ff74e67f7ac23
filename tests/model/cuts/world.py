"""One simulation: an agent's forwarder, a server in memory, and cuts between them."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio
import trio.testing

from edge_agent.forward import Forwarder, make_sink
from tests.forward.support import inline, running_station, settings_for, upstream
from tests.model.cuts.servers import SERVERS, Server
from tests.model.cuts.wire import Wire

#: Records of one simulation, in blocks of some.
RECORDS: Final = 600
#: Simulated seconds after which what has not arrived never will.
PATIENCE_S: Final = 40_000.0
#: In memory where there is such a folder: what is tried is not the disk.
_FOLDER: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass
class Result:
    """What came of it: cuts, acknowledgements that were lost, records that are missing at the end,
    records that are there more than once, though each may be once only.
    """

    server: str
    seed: int
    cuts: int = 0
    unheard: int = 0
    kills: int = 0
    repeats: int = 0
    problems: list[str] = field(default_factory=list)


def simulate(server: str, seed: int, make: Callable[[], Server] | None = None) -> Result:
    """``RECORDS`` records to such a server, with cuts and kills as the seed has it."""
    folder = Path(tempfile.mkdtemp(dir=_FOLDER))
    far: Server = (make or SERVERS[server])()
    result = Result(server, seed)
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        trio.run(partial(_simulate, far, folder, result), clock=clock)
    finally:
        shutil.rmtree(folder)
    return result


async def _simulate(far: Server, folder: Path, result: Result) -> None:
    wire = Wire(result.seed, far.serve)
    dice = random.Random(result.seed)
    given = upstream(
        far.url,
        name="far",
        batch_records=dice.choice((2, 4, 10)),
        order="in order",
        timeout=10.0,
        backoff_base=0.5,
        backoff_max=60.0,
        **far.options,
    )
    settings = settings_for(size=16 << 20)
    async with running_station(folder, settings=settings) as station, trio.open_nursery() as work:
        work.start_soon(wire.run)

        async def produce() -> None:
            n = 0
            while n < RECORDS:
                count = min(dice.choice((1, 10, 50)), RECORDS - n)
                await station.put(count, stream=f"t/{dice.randrange(2)}", start=n)
                n += count
                await trio.sleep(dice.uniform(0, 10))

        def forwarder() -> Forwarder:
            make = partial(
                make_sink,
                given,
                identity=station.log.identity,
                clock=station.clock,
                run_blocking=inline,
                dial=wire.dial,
            )
            return Forwarder(
                given,
                station.log,
                make,
                clock=station.clock,
                dice=random.Random(result.seed),
                metrics=station.metrics,
            )

        work.start_soon(produce)
        with trio.move_on_after(PATIENCE_S) as patience:
            while True:
                running = forwarder()
                async with trio.open_nursery() as life:
                    life.start_soon(running.run)
                    # Killed, its positions as durable as they happen to be.
                    with trio.move_on_after(dice.uniform(5, 4000)):
                        while station.log.last_seq("main") < RECORDS or (
                            running.statistics().backlog_records
                        ):
                            await trio.sleep(20)
                        wire.is_calm = True
                        await trio.sleep(30)
                    life.cancel_scope.cancel()
                if wire.is_calm:
                    break
                result.kills += 1
        work.cancel_scope.cancel()
    _judge(far, wire, result, late=patience.cancelled_caught)


def _judge(far: Server, wire: Wire, result: Result, *, late: bool) -> None:
    held = far.held()
    missing = [n for n in range(RECORDS) if not held[n]]
    repeated = [n for n, times in held.items() if times > 1]
    result.cuts, result.unheard, result.repeats = wire.cuts, wire.fates["unheard"], len(repeated)
    if late:
        result.problems.append("not everything had been acknowledged at the end")
    if missing and not late:
        result.problems.append(f"lost {len(missing)} records, {missing[0]} the first")
    if repeated and far.once:
        result.problems.append(f"doubled {len(repeated)} records, {repeated[0]} the first")
