"""This module keeps an upstream to so many bytes a second: a metered link, or one shared with
others.

One `LinkPace` belongs to one upstream, whatever the number of its lanes. What is held back are the
pieces of the byte stream itself (`PacedStream`), below TLS, so that what comes out at the other
side is even, and no batch is too large for it. The lanes take turns, a piece each.

Who waits for a turn is not silent: `PacedStream` tells whoever looks for progress how far it is
(``progress_stream.py``), or a slow pace would be taken for a dead peer.

A sink whose library makes its own connections cannot be slowed within a batch. It is given a
`PacedSink` around it: what a batch had is known once it is acknowledged, and the next one, of
whatever lane, waits until that has been paid for.
"""

from __future__ import annotations

import ssl
from typing import Final

import trio

from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, Sink
from edge_agent.net.dial import Dial, secure

#: A piece takes so long, so that lanes take turns often; within these bounds, in bytes.
_TURN_S: Final = 0.1
_PIECE_MIN: Final = 64
_PIECE_MAX: Final = 64 * 1024
#: What a task that wakes late may make up for: of ten seconds no more than a thirtieth.
_LATE_S: Final = 0.35


class LinkPace:
    """``bytes_per_second`` over all who ask, in the order in which they ask; `LastInLine` asks
    behind them all.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.piece_bytes = min(max(int(bytes_per_second * _TURN_S), _PIECE_MIN), _PIECE_MAX)
        self._turn = trio.Lock()  # first come, first served
        self._paid_until = -float("inf")
        #: How many wait, those that are last in line left out.
        self._waiting = 0

    async def pay(self, size: int) -> None:
        """Wait until ``size`` bytes may go; whoever is cancelled meanwhile has taken nothing."""
        self._waiting += 1
        try:
            async with self._turn:
                await trio.sleep_until(self._paid_until)
                self.charge(size)
        finally:
            self._waiting -= 1

    async def pay_last(self, size: int) -> None:
        """As `pay`, once nobody else waits."""
        while True:
            async with self._turn:
                await trio.sleep_until(self._paid_until)
                if not self._waiting:
                    self.charge(size)
                    return

    async def wait(self) -> None:
        """Wait until what was charged is paid for."""
        await self.pay(0)

    def charge(self, size: int) -> None:
        """``size`` bytes have gone, and are paid for by whoever comes next."""
        since = max(self._paid_until, trio.current_time() - _LATE_S)
        self._paid_until = since + size / self.bytes_per_second


class LastInLine(LinkPace):
    """The same pace as that of ``others``, for what may go only when they have nothing to send."""

    def __init__(self, others: LinkPace) -> None:
        super().__init__(others.bytes_per_second)
        self._others = others

    async def pay(self, size: int) -> None:
        """As `LinkPace.pay`, behind all others."""
        await self._others.pay_last(size)

    def charge(self, size: int) -> None:
        """As `LinkPace.charge`."""
        self._others.charge(size)


class PacedStream(trio.abc.Stream):
    """Sends through ``inner`` at the pace; what comes is not held back.

    Attributes:
        is_sending: whether there is something that has not gone into the inner stream yet.
        handed_bytes: how much went into it so far.
    """

    def __init__(self, inner: trio.abc.Stream, pace: LinkPace) -> None:
        self.inner, self._pace = inner, pace
        self.is_sending = False
        self.handed_bytes = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the inner stream's, in pieces."""
        view, step = memoryview(data), self._pace.piece_bytes
        self.is_sending = True
        try:
            for start in range(0, max(len(view), 1), step):
                piece = view[start : start + step]
                await self._pace.pay(len(piece))
                await self.inner.send_all(piece)
                self.handed_bytes += len(piece)
        finally:
            self.is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """As the inner stream's."""
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the inner stream's."""
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        """As the inner stream's."""
        await self.inner.aclose()


def paced(dial: Dial, pace: LinkPace) -> Dial:
    """``dial`` with everything that is sent at the pace, TLS included."""

    async def dial_paced(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        stream = PacedStream(await dial(host, port, None), pace)
        return stream if tls is None else await secure(stream, host, tls)

    return dial_paced


class PacedSink:
    """A keyed sink whose library dials itself: the pace is kept from batch to batch."""

    def __init__(self, sink: Sink, pace: LinkPace) -> None:
        self._sink, self._pace = sink, pace

    @property
    def keyed(self) -> bool:
        """As the sink's."""
        return self._sink.keyed

    @property
    def drained(self) -> bool:
        """As the sink's."""
        return self._sink.drained

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """As the sink's."""
        return await self._sink.open(nursery, resume)

    async def send(self, batch: Batch) -> Acknowledged:
        """As the sink's, once the batches before it are paid for."""
        await self._pace.wait()
        acknowledged = await self._sink.send(batch)
        self._pace.charge(acknowledged.size)
        return acknowledged

    async def settle(self, floor: int) -> Acknowledged:
        """As the sink's."""
        return await self._sink.settle(floor)

    async def aclose(self) -> None:
        """As the sink's."""
        await self._sink.aclose()
