"""A hub that keeps in memory what agents forward to it: once, in order, or it says what was wrong.

It speaks with the real agent's side of a session (`edge_agent.wire`), over any stream, so that the
same hub serves the recorded run over TCP and the survivors of power cuts in memory. A hub of a
survivor begins with what the recorded one may have had at that moment (`FakeHub.lanes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest
from trio_websocket import wrap_server_stream as wrap

from edge_agent.session import MSGPACK_SESSION, Window, resume_point
from edge_agent.store.format.codec import decompress
from edge_agent.store.format.payload import read_runs
from edge_agent.wire import Segment, ServerSession, WireLimits
from tests.crash.aggregates import Aggregate

EPOCH = "0123456789abcdef"
LIMITS = WireLimits(1024 * 1024, 64 * 1024, 16, 10_000)
WINDOW = Window(100_000, 8 * 1024 * 1024)
_MAPS = msgspec.msgpack.Decoder(list[dict[str, object]])


@dataclass(slots=True)
class Lane:
    """One agent's log: the number expected next, and the tokens of all records, as they came.

    ``gaps`` are the records that the agent said are no longer there; ``withheld`` those of them
    that gave way to aggregates while we had a part of what these stand for.
    """

    next: int = 1
    tokens: list[str] = field(default_factory=list)
    gaps: int = 0
    withheld: int = 0

    def take(self, segments: Iterable[Segment]) -> None:
        """What a message holds; what was there before is left out, as a real hub does."""
        for segment in segments:
            if segment.last < self.next:
                continue
            if segment.block is None:
                gap = segment.last - max(segment.first, self.next) + 1
                self.gaps += gap
                self.withheld += gap if segment.reason == "thinned" else 0
            else:
                assert self.next <= segment.first or not segment.block.thinned, segment
                self.tokens += tokens_of(segment)[max(self.next - segment.first, 0) :]
            self.next = segment.last + 1


class FakeHub:
    """All lanes of one hub; `serve` is one connection to it.

    ``hold`` keeps what comes from being committed and acked until it is cleared and `release`
    called; ``news`` is set whenever something was committed.
    """

    def __init__(self, lanes: dict[str, Lane] | None = None) -> None:
        self.lanes = lanes or {}
        self.hold = False
        self.problems: list[str] = []
        self.news = trio.Event()
        self._released = trio.Event()

    def release(self) -> None:
        """Commit what is held."""
        self.hold = False
        self._released.set()
        self._released = trio.Event()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, to its end."""
        try:
            async with trio.open_nursery() as nursery:
                request: WebSocketRequest = await wrap(nursery, stream)
                await self._session(await request.accept(subprotocol=MSGPACK_SESSION))
        except* (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _session(self, socket: WebSocketConnection) -> None:
        session = ServerSession("msgpack", LIMITS, WINDOW)
        hello = session.receive_hello(await socket.get_message())
        log = hello.source.split("/")[2]
        lane = self.lanes.get(log)
        point = resume_point(hello, EPOCH, 0 if lane is None else lane.next)
        if lane is None:
            lane = self.lanes[log] = Lane(point.next)
        elif point.restart and point.next >= lane.next:
            # What is between was discarded there.
            lane.gaps += point.next - lane.next
            lane.next = point.next
        elif point.restart:
            self.problems.append(f"{log}: begun anew at {point.next} of {lane.next} by {hello}")
            lane.next = point.next
        await socket.send_message(session.welcome(point.next, EPOCH, ""))
        while True:
            received = session.receive_segments([await socket.get_message()])
            if received.failure is not None:
                self.problems.append(f"{log}: {received.failure}")
                return
            while self.hold:
                await self._released.wait()
            lane.take(received.segments)
            for message in session.committed(lane.next):
                await socket.send_message(message)
            self.news.set()
            self.news = trio.Event()


def tokens_of(segment: Segment) -> list[str]:
    """The tokens of the records of one segment. Each of its numbers has one, unless aggregates
    stand for some of them.
    """
    block = segment.block
    assert block is not None
    assert (block.thinned or block.count) == segment.last - segment.first + 1, segment
    return tokens_of_payload(decompress(block.codec, block.payload, block.raw_len))


def tokens_of_payload(raw: bytes) -> list[str]:
    """The tokens of a block's records, in order."""
    return [_token(run.source, one) for run in read_runs(raw) for one in _maps(run.records)]


def _token(source: str, fields: dict[str, object]) -> str:
    aggregate = Aggregate.of(source, fields)
    return str(fields.get("token", "")) if aggregate is None else aggregate.token


def _maps(raw: msgspec.Raw) -> Sequence[dict[str, object]]:
    return _MAPS.decode(raw)
