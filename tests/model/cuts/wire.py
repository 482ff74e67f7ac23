"""The way to a server in memory, and what happens on it: the dice decide about each request.

A request that has arrived as a whole is, by chance,

taken       and acknowledged.
unheard     taken, and the acknowledgement lost with the connection: one in ten.
late        taken when the sender has long given up, some seconds after the connection broke.
cut         not taken: the connection breaks first. Or it broke before it had arrived as a whole.

After a cut the server is away for a while, now and then for longer than any window in which it
would remember what it was sent.
"""

from __future__ import annotations

import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import trio
import trio.testing

Fate = Literal["taken", "unheard", "late", "cut"]

CHANCES: Final[tuple[tuple[float, Fate], ...]] = ((0.10, "unheard"), (0.10, "late"), (0.25, "cut"))
#: Of each piece that arrives: the connection breaks behind it.
TORN: Final = 0.02
#: How long a server is away, at most; and one time in ten.
AWAY_S, LONG_S = 5.0, 900.0
_LATE_S: Final = 20.0
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Wire:
    """All connections to one server.

    Attributes:
        cuts: connections that broke.
        fates: how many requests met which.
    """

    def __init__(self, seed: int, serve: Callable[[Connection], Awaitable[None]]) -> None:
        self.dice = random.Random(seed)
        self.cuts, self.fates = 0, Counter[Fate]()
        self._serve = serve
        self._away_until = 0.0
        self._nursery: trio.Nursery | None = None
        #: From then on nothing happens any more, so that what is left arrives.
        self.is_calm = False

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    async def dial(self, host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        """In the shape of the agent's own ``dial``."""
        assert tls is None and self._nursery is not None
        await trio.sleep(0.02)
        if trio.current_time() < self._away_until and not self.is_calm:
            raise ConnectionRefusedError("nobody listens there")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._accept, Connection(self, theirs))
        return ours

    async def _accept(self, connection: Connection) -> None:
        try:
            await self._serve(connection)
        except _BROKEN:
            pass  # The other side's to notice.
        finally:
            await trio.aclose_forcefully(connection.stream)

    def draw(self, share: float) -> Fate:
        """What becomes of a request; only a ``share`` of them may meet anything."""
        fate: Fate = "taken"
        number = 1.0 if self.is_calm else self.dice.random() / share
        for chance, each in CHANCES:
            if number < chance:
                fate = each
                break
            number -= chance
        self.fates[fate] += 1
        return fate

    async def broken(self, take: Callable[[], object], fate: Fate) -> None:
        """A request's connection breaks; what is ``late`` is taken some time later."""
        self.cut()
        if fate == "late":
            assert self._nursery is not None
            self._nursery.start_soon(self._later, take, self.dice.uniform(0, _LATE_S))
        raise trio.BrokenResourceError

    def cut(self) -> None:
        """A connection breaks, and the server is away for a while."""
        self.cuts += 1
        longest = LONG_S if self.dice.random() < 0.1 else AWAY_S
        self._away_until = trio.current_time() + self.dice.uniform(0, longest)

    async def _later(self, take: Callable[[], object], wait: float) -> None:
        await trio.sleep(wait)
        take()


class Connection:
    """One connection, as the server sees it."""

    def __init__(self, wire: Wire, stream: trio.abc.Stream) -> None:
        self.wire, self.stream = wire, stream

    async def receive(self) -> bytes:
        """The next piece; the connection may break behind it."""
        data = bytes(await self.stream.receive_some(4096))
        if not data:
            raise trio.BrokenResourceError
        wire = self.wire
        if not wire.is_calm and wire.dice.random() < TORN:
            wire.cut()
            raise trio.BrokenResourceError
        return data

    async def answer(self, take: Callable[[], bytes], share: float = 1.0) -> None:
        """A request has arrived: ``take`` it and say what that gives, or whatever else happens."""
        fate = self.wire.draw(share)
        if fate in ("late", "cut"):
            await self.wire.broken(take, fate)
        said = take()
        if fate == "unheard":
            await self.wire.broken(take, fate)
        await trio.sleep(0.02)
        await self.stream.send_all(said)
