"""Real servers whose clients dial by themselves, and a way to them that is cut behind some byte.

libpq and librdkafka open their own sockets, so there is no simulated time here: PostgreSQL and a
Kafka broker run as processes, and a relay stands before them. The dice say for each connection in
which direction it is cut, and behind how many bytes: within a handshake, a COPY, a COMMIT, a
produce request or their answers. What had been on its way to the server is gone, or arrives later,
when the client has long given up.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.ports import free_port
from edge_agent.net.dial import dial_tcp
from tests.forward.sinks.kafka.broker import kafka_broker, make_topic, messages
from tests.forward.sinks.postgres.server import new_database
from tests.forward.sinks.postgres.side import secret_file
from tests.model.cuts.wire import Fate

#: Of all connections so many are cut; the longest that a server is away then, in seconds.
_SHARE: Final = 0.9
_AWAY_S: Final = 0.05
#: Until what is late arrives, at most; and until it has been read.
_LATE_S, _READ_S = 0.2, 0.05
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class CutRelay:
    """All connections to one real server; the attributes are those of `wire.Wire`.

    Args:
        seed: of the dice.
        there, back: the longest that a connection lasts, in bytes of either direction.
    """

    def __init__(self, seed: int, there: int, back: int) -> None:
        self.dice = random.Random(seed)
        self.cuts, self.fates = 0, Counter[Fate]()
        self.is_calm, self.dial = True, dial_tcp
        self._reach = {"there": there, "back": back}
        self._away_until = 0.0

    async def serve(self, port: int, stream: trio.SocketStream) -> None:
        """A connection that is to be one to ``port``."""
        with suppress(*_BROKEN):
            async with stream:
                if trio.current_time() >= self._away_until or self.is_calm:
                    onward = await trio.open_tcp_stream("127.0.0.1", port)
                    async with onward, trio.open_nursery() as nursery:
                        end = nursery.cancel_scope
                        left = {"there": -1, "back": -1}
                        if not self.is_calm and self.dice.random() < _SHARE:
                            way = self.dice.choice(("there", "back"))
                            left[way] = self.dice.randint(1, self._reach[way])
                        nursery.start_soon(self._pump, stream, onward, left["there"], "there", end)
                        nursery.start_soon(self._pump, onward, stream, left["back"], "back", end)

    async def _pump(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        left: int,
        way: str,
        end: trio.CancelScope,
    ) -> None:
        with suppress(*_BROKEN):
            while data := await source.receive_some(1 << 16):
                if 0 <= left < len(data) and not self.is_calm:
                    await self._cut(source, target, data, left, way)
                    break
                left -= len(data) if left >= 0 else 0
                await target.send_all(data)
        end.cancel()

    async def _cut(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        data: bytes | bytearray,
        left: int,
        way: str,
    ) -> None:
        is_late = way == "there" and self.dice.random() < 0.5
        self.fates["unheard" if way == "back" else "late" if is_late else "cut"] += 1
        self.cuts += 1
        self._away_until = trio.current_time() + self.dice.uniform(0, _AWAY_S)
        await target.send_all(data[:left])
        if is_late:
            await source.aclose()
            await trio.sleep(self.dice.uniform(0, _LATE_S))
            await target.send_all(data[left:])
            await trio.sleep(_READ_S)


class FarServer:
    """A real server, in the shape of `servers.Server`; ``read`` blocks."""

    def __init__(
        self, url: str, options: dict[str, Any], read: Callable[[], list[int]], *, once: bool
    ) -> None:
        self.url, self.options, self.once, self._read = url, options, once, read

    def held(self) -> Counter[int]:
        return Counter(self._read())


Relayed = Callable[[Path, int], AbstractAsyncContextManager[tuple[FarServer, CutRelay]]]


@asynccontextmanager
async def postgres(folder: Path, seed: int) -> AsyncIterator[tuple[FarServer, CutRelay]]:
    """A database of its own, of the one server of this process."""
    server, database = await trio.to_thread.run_sync(new_database)
    relay = CutRelay(seed, there=6_000, back=2_500)

    def read() -> list[int]:
        found = server.psql("SELECT fields->'n' FROM records", database=database)
        return [int(line) for line in found.splitlines()]

    async with trio.open_nursery() as nursery:
        serve = partial(relay.serve, server.port)
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        url = f"postgresql://edge@127.0.0.1:{port}/{database}"
        options = {"password_file": str(secret_file(folder / "secret"))}
        yield FarServer(url, options, read, once=True), relay
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def kafka(folder: Path, seed: int) -> AsyncIterator[tuple[FarServer, CutRelay]]:
    """A broker of its own: it tells its clients to come by way of the relay."""
    relay, there = CutRelay(seed, there=3_000, back=1_500), free_port()
    with kafka_broker(folder / "broker", there) as port:
        async with trio.open_nursery() as nursery:
            serve = partial(relay.serve, port)
            await nursery.start(partial(trio.serve_tcp, serve, there, host="127.0.0.1"))
            await trio.to_thread.run_sync(make_topic, there)

            def read() -> list[int]:
                values = (one.value() or b"" for one in messages(there))
                return [json.loads(value)["fields"]["n"] for value in values]

            url, options = f"kafka://127.0.0.1:{there}", {"compression": "none"}
            yield FarServer(url, options, read, once=False), relay
            nursery.cancel_scope.cancel()


#: The kinds, and what part of the cuts that others get: their time is that of real processes.
RELAYED: Final[dict[str, tuple[Relayed, float]]] = {
    "postgres": (postgres, 0.1),
    "kafka": (kafka, 0.03),
}
