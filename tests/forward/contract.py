"""What the contract test needs of a far side, and a forwarder reduced to the contract.

Each kind of sink has a ``side.py`` beside its tests: an async context manager that starts the real
server and gives a `FarSide`. ``test_sink_contract.py`` names them all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import trio

from edge_agent.forward import make_sink
from edge_agent.forward.sink import Batch, LaneResume, Sink
from tests.forward.support import Station, inline, running_station, upstream
from tests.patience import PATIENCE_S


class FarSide(Protocol):
    """What a test may do to an upstream, and what it may ask of it.

    Attributes:
        url: the upstream's.
        options: what its configuration needs beside the URL.
        nobody: a URL of the same kind at which nobody answers.
        is_once: whether a record that is sent twice is there once; else a test drops repeats.
    """

    url: str
    options: dict[str, Any]
    nobody: str
    is_once: bool

    def hold(self) -> None:
        """Keep what comes from becoming durable, and so from being acknowledged."""

    def release(self) -> None:
        """End that."""

    def break_down(self) -> None:
        """Take what comes next, and fail before it is acknowledged."""

    async def durable(self) -> list[tuple[str, int]]:
        """(stable id, n) of every record that is durable there, in order."""


@runtime_checkable
class Repaired(Protocol):
    """A far side that stays broken until it is told: a sink whose library tries again by itself
    would get past what is over at once.
    """

    def repair(self) -> None:
        """End what `break_down` began."""


Side = Callable[[Path], AbstractAsyncContextManager[FarSide]]


def sink_for(station: Station, url: str, options: dict[str, Any]) -> Sink:
    """The sink of the station's log ``main`` for the upstream at ``url``."""
    return make_sink(
        upstream(url, timeout=PATIENCE_S, **options),
        "main",
        identity=station.log.identity,
        clock=station.clock,
        run_blocking=inline,
    )


class Courier:
    """A forwarder reduced to what the contract speaks of: it keeps the floor and the state."""

    def __init__(self, station: Station, sink: Sink) -> None:
        self.station, self.sink = station, sink
        self.floor = 0
        self.state: bytes | None = None
        self.acknowledged: list[int] = []

    async def deliver(self, upto: int) -> None:
        """Open, send record by record what is beyond the floor, and wait for the last ack."""
        async with trio.open_nursery() as nursery:
            resume = LaneResume(self.floor, 1, self.station.log.last_seq("main"), self.state)
            resumed = await self.sink.open(nursery, resume)
            self.floor, self.state = resumed.next - 1, resumed.state or self.state
            nursery.start_soon(self._settle)
            for seq in range(self.floor + 1, upto + 1):
                items = (await self.station.log.read("main", seq - 1))[:1]
                self._note((await self.sink.send(Batch("main", seq, seq, tuple(items)))).upto)
            with trio.fail_after(PATIENCE_S):
                while self.floor < upto:
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    async def _settle(self) -> None:
        while True:
            self._note((await self.sink.settle(self.floor)).upto)

    def _note(self, upto: int) -> None:
        if upto > self.floor:
            self.floor = upto
            self.acknowledged.append(upto)


@asynccontextmanager
async def couriers(tmp_path: Path, side: Side) -> AsyncIterator[tuple[Courier, FarSide]]:
    async with side(tmp_path / "far") as far, running_station(tmp_path / "near") as station:
        for n in range(6):
            await station.put(1, start=n)
        sink = sink_for(station, far.url, far.options)
        try:
            yield Courier(station, sink), far
        finally:
            await sink.aclose()


async def arrived(far: FarSide) -> list[tuple[str, int]]:
    """What is durable there, without repeats where the kind of upstream cannot drop them."""
    found = await far.durable()
    return found if far.is_once else list(dict.fromkeys(found))


def expected(courier: Courier, upto: int) -> list[tuple[str, int]]:
    epoch = courier.station.log.identity.epoch
    return [(f"{epoch}/main/{seq}", seq - 1) for seq in range(1, upto + 1)]
