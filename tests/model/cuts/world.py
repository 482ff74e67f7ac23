"""One simulation: an agent's forwarder, a server in memory, and cuts between them."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import trio
import trio.testing

from edge_agent.forward import Forwarder, make_sink
from edge_agent.net.dial import Dial
from tests.forward.support import Station, inline, running_station, settings_for, upstream
from tests.model.cuts.relayed import RELAYED
from tests.model.cuts.servers import SERVERS, Far, Server
from tests.model.cuts.wire import Fate, Wire
from tests.patience import PATIENCE_S

#: Records of one simulation, in blocks of some.
RECORDS: Final = 600
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


class Way(Protocol):
    """To the server: what happens on it."""

    dice: random.Random
    cuts: int
    fates: Counter[Fate]
    is_calm: bool

    @property
    def dial(self) -> Dial: ...


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds.

    Attributes:
        between: two arrivals of records, at most.
        life: an agent lives, at least and at most, until it is killed.
        look: between two looks whether all has arrived.
        rest: for what is late, in the end.
        patience: where nothing more is acknowledged for so long, nothing ever will be.
        trying: of the upstream.
    """

    between: float
    life: tuple[float, float]
    look: float
    rest: float
    patience: float
    trying: dict[str, float]


SIMULATED: Final = Pace(
    10.0,
    (5.0, 4000.0),
    20.0,
    30.0,
    40_000.0,
    {"timeout": 10.0, "backoff_base": 0.5, "backoff_max": 60.0},
)
#: Beside real processes; no life is so short that nothing is connected in it.
REAL: Final = Pace(
    0.02,
    (0.5, 4.0),
    0.01,
    0.4,
    2 * PATIENCE_S,
    {"timeout": 3.0, "backoff_base": 0.02, "backoff_max": 0.1},
)


def simulate(server: str, seed: int, make: Callable[[], Server] | None = None) -> Result:
    """``RECORDS`` records to such a server, with cuts and kills as the seed has it."""
    if server in RELAYED:
        return trio.run(relayed, server, seed)
    folder = Path(tempfile.mkdtemp(dir=_FOLDER))
    far: Server = (make or SERVERS[server])()
    result = Result(server, seed)
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        trio.run(partial(_simulate, far, folder, result), clock=clock)
    finally:
        shutil.rmtree(folder)
    return result


async def relayed(server: str, seed: int) -> Result:
    """The same with a real one, in real time."""
    folder, result = Path(tempfile.mkdtemp(dir=_FOLDER)), Result(server, seed)
    try:
        async with RELAYED[server][0](folder, seed) as (far, way):
            way.is_calm = False
            late = await _live(far, way, folder / "near", result, REAL)
            way.is_calm = True
            held = await trio.to_thread.run_sync(far.held)
        _judge(held, way, result, once=far.once, late=late)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


async def _simulate(far: Server, folder: Path, result: Result) -> None:
    wire = Wire(result.seed, far.serve)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.run)
        late = await _live(far, wire, folder, result, SIMULATED)
        nursery.cancel_scope.cancel()
    _judge(far.held(), wire, result, once=far.once, late=late)


async def _live(far: Far, way: Way, folder: Path, result: Result, pace: Pace) -> bool:
    """Lives of an agent until all records have arrived; whether that was not to be waited for."""
    dice = random.Random(result.seed)
    options: dict[str, Any] = {**pace.trying, **far.options}
    given = upstream(
        far.url,
        name="far",
        batch_records=dice.choice((2, 4, 10)),
        order="in order",
        **options,
    )
    settings = settings_for(size=16 << 20)
    async with running_station(folder, settings=settings) as station, trio.open_nursery() as work:

        async def produce() -> None:
            n = 0
            while n < RECORDS:
                count = min(dice.choice((1, 10, 50)), RECORDS - n)
                await station.put(count, stream=f"t/{dice.randrange(2)}", start=n)
                n += count
                await trio.sleep(dice.uniform(0, pace.between))

        def forwarder() -> Forwarder:
            make = partial(
                make_sink,
                given,
                identity=station.log.identity,
                clock=station.clock,
                run_blocking=inline,
                dial=way.dial,
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
        with trio.move_on_after(pace.patience) as patience:
            most = 0
            while True:
                running = forwarder()
                async with trio.open_nursery() as life:
                    life.start_soon(running.run)
                    # Killed, its positions as durable as they happen to be.
                    with trio.move_on_after(dice.uniform(*pace.life)):
                        while (there := _acknowledged(station, running)) < RECORDS:
                            if there > most:
                                most, patience.deadline = there, trio.current_time() + pace.patience
                            await trio.sleep(pace.look)
                        way.is_calm = True
                        await trio.sleep(pace.rest)
                    life.cancel_scope.cancel()
                if way.is_calm:
                    break
                result.kills += 1
        work.cancel_scope.cancel()
    return patience.cancelled_caught


def _acknowledged(station: Station, running: Forwarder) -> int:
    return station.log.last_seq("main") - running.statistics().backlog_records


def _judge(held: Counter[int], way: Way, result: Result, *, once: bool, late: bool) -> None:
    missing = [n for n in range(RECORDS) if not held[n]]
    repeated = [n for n, times in held.items() if times > 1]
    result.cuts, result.unheard, result.repeats = way.cuts, way.fates["unheard"], len(repeated)
    if late:
        result.problems.append("not everything had been acknowledged at the end")
    if missing and not late:
        result.problems.append(f"lost {len(missing)} records, {missing[0]} the first")
    if repeated and once:
        result.problems.append(f"doubled {len(repeated)} records, {repeated[0]} the first")
