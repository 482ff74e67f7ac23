"""Pushes chunks of bytes, prepared in advance, through sockets and counts what comes back.

The load must never be the bottleneck: a message may cost this process less than half a
microsecond. So whole messages are joined to chunks of `CHUNK_BYTES` before the clock starts, with
the number of records up to the end of each. A window is honoured a whole chunk at a time, and all
chunks that it allows leave together, `CHUNKS_AT_ONCE` in one call and without a copy. What an
answer means is the business of the protocol that is spoken: `Flow.receive` gets the bytes and moves
``acked``.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

#: The smallest window that an agent grants is four times as large.
CHUNK_BYTES = 8 * 1024
CHUNKS_AT_ONCE = 32
RECEIVE_BYTES = 256 * 1024
STALLED_AFTER_S = 60.0


@dataclass(slots=True)
class Flow:
    """One connection: what it sends, how far it is, and how much may be out unacked.

    ``upto[i]`` records have been sent when chunk ``i`` is out. A window smaller than one chunk
    would stop the flow for good: `check` says so before the clock starts.
    """

    socket: socket.socket
    chunks: Sequence[bytes]
    upto: Sequence[int]
    window: int
    receive: Callable[[Flow, bytes], None]
    window_bytes: int = 1 << 62
    source: str = ""
    acked: int = 0
    rest: bytes = b""  # of what came in, not yet a whole answer
    index: int = 0
    offset: int = 0
    settled: int = 0  # chunks that are acked to their end
    ends: list[int] = field(default_factory=list)  # bytes up to the end of each chunk

    def __post_init__(self) -> None:
        """Take the sums once, and make the socket return at once."""
        self.ends = list(accumulate(len(chunk) for chunk in self.chunks))
        self.socket.setblocking(False)

    @property
    def total(self) -> int:
        """Records that it sends in all."""
        return self.upto[-1] if self.upto else 0

    def check(self) -> None:
        """Every chunk fits the window that was granted.

        Raises:
            ValueError: it does not; nothing may be measured.
        """
        steps = [self.upto[0], *(b - a for a, b in pairwise(self.upto))]
        if max(steps) > self.window or max(map(len, self.chunks)) > self.window_bytes:
            raise ValueError(f"a chunk is larger than the window of {self.window} records")

    def allowed(self) -> int:
        """The first chunk that may not go out: what has begun is finished, else the window says."""
        while self.settled < self.index and self.upto[self.settled] <= self.acked:
            self.settled += 1
        before = self.ends[self.settled - 1] if self.settled else 0
        last_record, last_byte = self.acked + self.window, before + self.window_bytes
        end = self.index + (1 if self.offset else 0)
        most = min(len(self.chunks), self.index + CHUNKS_AT_ONCE)
        while end < most and self.upto[end] <= last_record and self.ends[end] <= last_byte:
            end += 1
        return end

    def send(self) -> bool:
        """Send what window and socket take; whether it was the socket that ended it."""
        while (end := self.allowed()) > self.index:
            parts: list[bytes | memoryview] = list(self.chunks[self.index : end])
            parts[0] = memoryview(self.chunks[self.index])[self.offset :]
            try:
                count = self.socket.sendmsg(parts)
            except BlockingIOError:
                return True
            count += self.offset
            while self.index < end and count >= len(self.chunks[self.index]):
                count -= len(self.chunks[self.index])
                self.index += 1
            self.offset = count
            if self.index < end:
                return True
        return False


def slices(sizes: Sequence[int], most: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[slice]:
    """Cut messages of these sizes into runs of at most ``chunk_bytes`` and ``most`` messages.

    A message that is larger than a chunk is one of its own.
    """
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and (total + size > chunk_bytes or index - start == most):
            yield slice(start, index)
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def chunked(messages: Sequence[bytes], most: int) -> tuple[list[bytes], list[int]]:
    """Encoded messages of one record each, joined; and the records up to the end of each chunk."""
    cuts = list(slices([len(message) for message in messages], most))
    return [b"".join(messages[cut]) for cut in cuts], [cut.stop for cut in cuts]


def pump(flows: Sequence[Flow]) -> float:
    """Send and receive on all of them until everything is acked; how many seconds it took.

    Raises:
        TimeoutError: for a minute nothing came back.
        ConnectionError: the other side closed.
    """
    for flow in flows:
        flow.check()
    poller = select.poll()
    flow_of = {flow.socket.fileno(): flow for flow in flows}
    wanted = dict.fromkeys(flow_of, select.POLLIN)
    open_flows = {descriptor for descriptor, flow in flow_of.items() if flow.acked < flow.total}
    for descriptor in open_flows:
        poller.register(descriptor, select.POLLIN)
    todo = list(open_flows)
    began = time.perf_counter()
    while open_flows:
        for descriptor in todo:
            events = select.POLLIN | (select.POLLOUT if flow_of[descriptor].send() else 0)
            if events != wanted[descriptor]:
                poller.modify(descriptor, events)
                wanted[descriptor] = events
        ready = poller.poll(STALLED_AFTER_S * 1000)
        if not ready:
            raise TimeoutError("no ack came for a minute")
        for descriptor, event in ready:
            if event & ~select.POLLOUT:
                receive(flow_of[descriptor])
                if flow_of[descriptor].acked >= flow_of[descriptor].total:
                    open_flows.discard(descriptor)
                    poller.unregister(descriptor)
        todo = [descriptor for descriptor, _ in ready if descriptor in open_flows]
    return time.perf_counter() - began


def receive(flow: Flow) -> None:
    """Take what has come in.

    Raises:
        ConnectionError: the other side closed.
    """
    try:
        data = flow.socket.recv(RECEIVE_BYTES)
    except BlockingIOError:
        return  # Of TLS, half a record.
    if not data:
        raise ConnectionError(f"{flow.source or 'the server'}: closed before all was acked")
    flow.receive(flow, data)
