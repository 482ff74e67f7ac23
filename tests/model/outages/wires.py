"""The network of a simulation: byte streams in memory, and what can happen to bytes on their way.

A `Link` is the way from one who dials to one who listens, with all its connections. Conditions on
it are counted, since faults overlap:

cut      connections are reset, dials refused.
vanish   connections stay open and carry nothing any more, ever; dials hang. (A cable pulled, a NAT
         that forgot.) A sender notices only that its socket's buffer is full.
stall    nothing moves; afterwards it arrives late, in order, if its receiver is still there.
mute     what the listening side says is lost; afterwards the connections are reset.
rates    bytes a second, the slowest counts.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final

import trio

from edge_agent.net.dial import Dial

#: One way, in seconds.
LATENCY_S: Final = 0.02
#: What a socket's buffer takes when nobody acknowledges it.
SOCKET_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 16 * 1024
_BACKLOG: Final = 64


class End(trio.abc.Stream):
    """One end of a connection."""

    peer: End

    def __init__(self, link: Link, *, dialled: bool) -> None:
        self.link, self.dialled = link, dialled
        self.broken = self.closed = self.ended = self.dead = False
        #: What was sent and is held back: by a stall, or for ever.
        self.held: list[bytes] = []
        self._held_bytes = 0
        self._inbox = bytearray()
        self._parked = trio.lowlevel.ParkingLot()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when the other end has it, or this end's socket buffer."""
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        for start in range(0, len(view), _PIECE_BYTES):
            piece = bytes(view[start : start + _PIECE_BYTES])
            self._check()
            await trio.sleep(self.link.delay(len(piece)))
            self._check()
            await self._pass_on(piece)

    async def wait_send_all_might_not_block(self) -> None:
        """At once."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived; b"" at the end."""
        await trio.lowlevel.checkpoint()
        while not self._inbox:
            if self.closed:
                raise trio.ClosedResourceError
            if self.broken:
                raise trio.BrokenResourceError("connection reset")
            if self.ended:
                return b""
            await self._parked.park()
        data = bytes(self._inbox[:max_bytes])
        del self._inbox[: len(data)]
        return data

    async def aclose(self) -> None:
        """The other end reads to the end, unless nothing reaches it."""
        if not self.closed:
            self.closed = True
            self.wake()
            if not self.dead and not self.link.stalls:
                self.peer.ended = True
                self.peer.wake()
            self.link.forget(self)
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Everything from now on fails."""
        self.broken = True
        self.wake()

    def arrive(self, data: bytes) -> None:
        """The network brings ``data``."""
        if not self.closed and not self.broken:
            self._inbox += data
            self.wake()

    def late(self) -> None:
        """The stall is over: what was held arrives, and that it was closed."""
        for piece in self.held:
            self.peer.arrive(piece)
        self.held.clear()
        self._held_bytes = 0
        if self.closed:
            self.peer.ended = True
            self.peer.wake()

    def wake(self) -> None:
        """Whoever waits looks again."""
        self._parked.unpark_all()

    def _check(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError
        if self.broken or (self.peer.closed and not self.dead):
            raise trio.BrokenResourceError("connection reset")

    async def _pass_on(self, piece: bytes) -> None:
        if self.dead or self.link.stalls:
            while self._held_bytes >= SOCKET_BYTES and (self.dead or self.link.stalls):
                await self._parked.park()
                self._check()
            self.held.append(piece)
            self._held_bytes += len(piece)
            if not self.dead and not self.link.stalls:
                self.late()
        elif self.dialled or not self.link.mutes:
            self.peer.arrive(piece)


class Link:
    """The way from ``who`` to ``to``."""

    def __init__(self, who: str, to: str) -> None:
        self.who, self.to = who, to
        self.cuts = self.vanished = self.stalls = self.mutes = 0
        self.rates: list[float] = []
        #: In the order in which they were made; a set's order would differ from run to run.
        self.ends: list[End] = []

    def delay(self, size: int) -> float:
        """Seconds that ``size`` bytes take."""
        return LATENCY_S + (size / min(self.rates) if self.rates else 0.0)

    def connect(self) -> tuple[End, End]:
        """A connection: the dialling end and the listening one."""
        ours, theirs = End(self, dialled=True), End(self, dialled=False)
        ours.peer, theirs.peer = theirs, ours
        self.ends += (ours, theirs)
        return ours, theirs

    def forget(self, end: End) -> None:
        """An end was closed; its connection is kept while the other is open."""
        if end.peer.closed and not self.stalls:
            self.ends = [each for each in self.ends if each not in (end, end.peer)]

    def reset(self) -> None:
        """Abort all connections."""
        ends, self.ends = self.ends, []
        for end in ends:
            end.reset()

    def silence(self) -> None:
        """All connections carry nothing any more, and nobody is told."""
        ends, self.ends = self.ends, []
        for end in ends:
            end.dead = True

    def begin(self, kind: str, amount: float) -> None:
        """A fault begins."""
        if kind == "cut":
            self.cuts += 1
            self.reset()
        elif kind == "vanish":
            self.vanished += 1
            self.silence()
        elif kind == "stall":
            self.stalls += 1
        elif kind == "lose-acks":
            self.mutes += 1
        else:
            self.rates.append(amount)

    def end(self, kind: str, amount: float) -> None:
        """It ends."""
        if kind == "cut":
            self.cuts -= 1
        elif kind == "vanish":
            self.vanished -= 1
        elif kind == "stall":
            self.stalls -= 1
            if not self.stalls:
                for end in self.ends:
                    end.late()
                    end.wake()
        elif kind == "lose-acks":
            self.mutes -= 1
            self.reset()
        else:
            self.rates.remove(amount)


class Ear(trio.abc.Listener[trio.abc.Stream]):
    """Accepts what is dialled to one machine."""

    def __init__(self) -> None:
        self._arriving, self._arrived = trio.open_memory_channel[End](_BACKLOG)

    async def accept(self) -> End:
        """The next connection."""
        try:
            return await self._arrived.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    async def aclose(self) -> None:
        """Nobody is accepted any more."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same, now."""
        self._arriving.close()
        self._arrived.close()

    def offer(self, end: End) -> None:
        """A connection arrives; OSError where it cannot be taken."""
        try:
            self._arriving.send_nowait(end)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            raise ConnectionRefusedError("nobody listens there") from None


class Network:
    """All links, and who listens. Addresses are ``127.0.0.1:PORT``, one port for each machine.

    ``dark``: machines without power, which answer nothing at all.
    """

    def __init__(self, ports: dict[int, str]) -> None:
        self._names = ports
        self._ears: dict[str, Ear] = {}
        self.links: dict[str, Link] = {}
        self.dark: set[str] = set()

    def link(self, who: str, to: str) -> Link:
        """The way from ``who`` to ``to``."""
        return self.links.setdefault(f"{who}>{to}", Link(who, to))

    async def listen(
        self, address: str, tls: ssl.SSLContext | None = None
    ) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """In the shape of the agent's own ``listen``."""
        assert tls is None, "there is nobody to eavesdrop in memory"
        await trio.lowlevel.checkpoint()
        ear = self._ears[self._named(address)] = Ear()
        return [ear]

    def dialer(self, who: str) -> Dial:
        """How ``who`` connects."""

        async def dial(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
            link = self.link(who, self._named(f"{host}:{port}"))
            await trio.sleep(LATENCY_S)
            if link.vanished or link.to in self.dark:
                # No deadline: who dials has one.
                await trio.sleep_forever()
            ear = self._ears.get(link.to)
            if link.cuts or ear is None:
                raise ConnectionRefusedError(f"nobody listens on {link.to}")
            ours, theirs = link.connect()
            ear.offer(theirs)
            return ours

        return dial

    def unplug(self, machine: str, *, silently: bool) -> None:
        """All connections of a machine end: reset, as when a process is killed, or silently, as
        when its power fails.
        """
        for link in self.links.values():
            if machine not in (link.who, link.to):
                continue
            ends = list(link.ends)
            link.silence() if silently else link.reset()
            for end in ends:
                # What a process that is gone would still do must reach nobody.
                if (link.who == machine) == end.dialled:
                    end.reset()
        ear = self._ears.pop(machine, None)
        if ear is not None:
            ear.close()

    def _named(self, address: str) -> str:
        return self._names[int(address.rpartition(":")[2])]
