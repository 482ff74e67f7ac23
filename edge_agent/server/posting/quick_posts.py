"""Posts that are read, stored and answered without a turn of their connection's task.

Nearly every request of a connection has a head that is known (`post_requests`) and a body of usual
records, for a log that has room. The shared reader (`poller`) brings it, it goes into the log in
the same call, and the committer's call to `QuickPosts._answered` writes the answer: three turns of
a task less, of 20 to 50 µs each. Whatever is not so goes to the task, unread or as it came, and so
does every answer but a yes.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

import trio

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.server.context import Parts
from edge_agent.server.poller import SharedReader
from edge_agent.server.posting.post_answers import PostAnswer, response
from edge_agent.server.posting.post_bodies import one_message
from edge_agent.server.posting.post_requests import READ_BYTES, KnownHead, PostRequests
from edge_agent.server.sensor_session import arrival_of
from edge_agent.server.transport import write_now
from edge_agent.store import Entry, Stored
from edge_agent.wire import Learner, read_in_turns

#: What a request costs the others' turn, in bytes, beside its own.
_REQUEST_BYTES: Final = 1024


class QuickPosts:
    """One connection's. A member of the shared reader while its task is in `wait`.

    Attributes:
        heard_at: when the last request came that it took, on Trio's clock.
        is_over: nothing new is taken, and the last answer is for the task to give.
    """

    def __init__(
        self,
        socket: trio.socket.SocketType,
        reader: SharedReader,
        requests: PostRequests,
        parts: Parts,
    ) -> None:
        self._socket, self._reader, self._requests = socket, reader, requests
        self._parts, self._limits = parts, parts.wire_limits
        # What its records have in common; it spares a third of reading a batch.
        self._learner = Learner()
        self.heard_at = 0.0
        self.is_over = False
        self._came: bytes | None = None
        self._error: OSError | None = None
        self._ticket: Ticket | None = None
        self._records = 0
        self._untold: Stored | StoreFull | StoreFailed | None = None
        self._unsent = b""
        self._answered_event: trio.Event | None = None

    async def wait(self) -> bytes | None:
        """What came and is for the task to read; b"": the peer has left. None: there is an answer
        to give (`settled`).

        Raises:
            trio.BrokenResourceError: the socket broke.
        """
        while True:
            if self._ticket is not None:
                # More came before the answer to this.
                await self._wait_answered()
            if self._untold is not None or self._unsent:
                return None
            if self._error is not None:
                raise trio.BrokenResourceError from self._error
            if self._came is not None:
                came, self._came = self._came, None
                return came
            await self._reader.watch(self)

    async def settled(self) -> tuple[bytes, Stored | StoreFull | StoreFailed | None]:
        """Once nothing is being stored: what of the last yes was not sent, and the answer of the
        store that nobody was told.
        """
        while self._ticket is not None:
            await self._wait_answered()
        unsent, self._unsent = self._unsent, b""
        untold, self._untold = self._untold, None
        return unsent, untold

    @property
    def said(self) -> dict[str, object]:
        """What a yes to the last request says."""
        return {"stored": self._records, "refused": []}

    async def _wait_answered(self) -> None:
        self._answered_event = trio.Event()
        try:
            await self._answered_event.wait()
        finally:
            self._answered_event = None

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def take_some(self, now: float) -> int:
        """The shared reader's call: read once, and store it if it is as nearly all are."""
        if self._ticket is not None:
            return -1
        try:
            data = os.read(self._socket.fileno(), READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._error = error
            return -1
        known = self._requests.known(data, now)
        if known is None or not self._store(*known):
            self._came = data
            return -1
        self.heard_at = now
        return len(data) + _REQUEST_BYTES

    def _store(self, head: KnownHead, body: bytes) -> bool:
        """Whether it is on its way to the disk. Where not, nothing has happened."""
        parts, visitor = self._parts, head.visitor
        message = one_message(head.post.content_type, body)
        if message is None or parts.rates.is_limited or parts.rules.are_any:
            return False
        arrival = arrival_of(parts, visitor, visitor.source)
        received = next(read_in_turns([message], 0, arrival, self._limits, self._learner))
        if not received.is_last or received.failure or received.rejects or not received.runs:
            return False
        try:
            ticket = parts.log.offer(Entry(runs=received.runs))
        except Closed:
            return False
        if ticket is None:
            return False
        parts.count(1, received.numbers, len(body))
        visitor.next += 1
        visitor.acked = visitor.next
        self._ticket, self._records = ticket, received.numbers
        ticket.watcher = self._answered
        return True

    def _answered(self) -> None:
        """The committer's call. Must not fail."""
        ticket, self._ticket = self._ticket, None
        answer = None if ticket is None else ticket.answer
        if isinstance(answer, Stored) and not self.is_over:
            yes = _yes(self._records)
            try:
                done = write_now(self._socket, yes)
            except OSError:
                done = len(yes)  # It is gone; who reads learns why.
            self._unsent = yes[done:]
        else:
            self._untold = answer
        if self._answered_event is not None:
            self._answered_event.set()
        elif self._unsent or self._untold is not None:
            self._reader.leave(self, self._socket.fileno())


@lru_cache(maxsize=256)
def _yes(records: int) -> bytes:
    return response(PostAnswer(200, {"stored": records, "refused": []}), is_last=False)
