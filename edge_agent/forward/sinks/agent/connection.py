"""An `AgentConnection` is one connection to ``/forward``: upgrade, hello, messages out, acks in.

A link lives as long as its connection. Everything that can go wrong with it, in the network, in
TLS, in the WebSocket library or because the hub says stop, ends `run` with `SinkUnavailable`, so
that above this file an upstream is either there or not.

Messages are handed over (`AgentConnection.transmit`) and sent by a task of the link as soon as the
hub's window and ``in_flight_bytes`` leave room. So the next ones are read and packed meanwhile, and
the hub never waits for us between two of them.

Deadlines: ``timeout`` for connecting up to the welcome; `PING_S` + ``timeout`` in which no byte
moves in either direction (a ping goes out every `PING_S`, so a living hub always moves some; a
slow uplink may take minutes for one message and is not dead); `ACK_S` without an acknowledgement
since the last of what is in flight went out, long because the hub may hold acks back for its commit
interval.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from edge_agent.config import Upstream
from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import Credentials
from edge_agent.forward.link.progress_stream import ProgressStream
from edge_agent.forward.link.proxy import tunnelled
from edge_agent.forward.link.tls_clock import waits_for_clock
from edge_agent.forward.sink import CLOSE_S, Acknowledged
from edge_agent.forward.sinks.agent.close_codes import most_telling, stopped, translated
from edge_agent.forward.sinks.agent.link_speed import LinkSpeed
from edge_agent.forward.sinks.agent.messages import Message
from edge_agent.net.dial import Dial
from edge_agent.session import (
    MSGPACK_SESSION,
    Ack,
    ClientSession,
    History,
    Nack,
    Resume,
    Stop,
    Window,
)
from edge_agent.system.clock import Clock

PING_S = 30.0
ACK_S = 300.0
#: What may wait behind the hub's window: enough that reading the store goes on meanwhile.
QUEUE_BYTES = 256 * 1024
#: Control messages are small; a hub that sends more is not one.
_MESSAGE_BYTES_MAX = 64 * 1024
_RECEIVE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ForwardHello:
    """What to say first; without ``first`` the hub's numbering is taken up where it stands.
    ``resends``: some of it may be there already, and is to be left out then. ``moved``: what is
    before ``first`` is not missing. ``bridged``: what was acknowledged is with the hub's upstream.
    """

    source: str
    epoch: str | None
    first: int | None
    history: History | None = None
    resends: bool = False
    moved: bool = False
    bridged: bool = False


class AgentConnection:
    """See the module's docstring; ``credentials`` are those of this attempt.

    Attributes:
        acked: everything up to this seq is acknowledged.
        handed: everything up to this seq was handed over.
        sent, acks: how many messages were sent, and how often something was acknowledged.
        speed: how fast they were.
    """

    def __init__(
        self, upstream: Upstream, dial: Dial, clock: Clock, credentials: Credentials
    ) -> None:
        self._upstream, self._dial, self._clock = upstream, dial, clock
        self._credentials = credentials
        self._session = ClientSession("msgpack")
        self._socket: WebSocketConnection | None = None
        self._stream: ProgressStream | None = None
        self._scope = trio.CancelScope()
        self._closing = False
        self._stop: SinkUnavailable | None = None
        self._news = trio.Event()  # the hub said something
        self._work = trio.Event()  # a message was queued
        self._room = trio.Event()  # a message left the queue, or none will any more
        self._heard_at = 0.0
        #: Messages that wait for room in the hub's window, in order.
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self.speed = LinkSpeed()
        #: (last seq, records, bytes) of messages sent and not acknowledged, oldest first.
        self._in_flight: deque[tuple[int, int, int]] = deque()
        self.acked = self.handed = 0
        self.acks = self.sent = 0
        self._records = self._size = self._refused = 0
        self._refusal = ""

    @property
    def message_bytes(self) -> int:
        """What the hub said that a message may have; 0 where it did not say."""
        return self._session.limits.message_bytes

    @property
    def window(self) -> Window:
        """What the hub last said that may be in flight."""
        return self._session.window

    @property
    def owes_records(self) -> bool:
        """Whether a record that was handed over is not acknowledged."""
        return any(records for _, records, _ in self._in_flight) or any(
            message.records for message in self._queue
        )

    async def run(
        self,
        hello: ForwardHello,
        *,
        task_status: trio.TaskStatus[Resume] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Connect, report what the hub answered to hello, and stay until closed.

        Raises:
            SinkUnavailable: whatever ended it, unless that was `aclose`.
        """
        cause: Exception | None = None
        is_welcome = False
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    resume = await self._connect(nursery, hello)
                    task_status.started(resume)
                    is_welcome = True
                    nursery.start_soon(self._ping)
                    nursery.start_soon(self._watch)
                    nursery.start_soon(self._send)
                    await self._receive()
            except* Exception as group:  # noqa: BLE001  # the reason follows
                # The border: what the libraries raise for a bad peer is theirs to choose, and no
                # peer may bring the agent down.
                cause = most_telling(group)
            finally:
                if self._stream is not None:
                    await trio.aclose_forcefully(self._stream)
        if not (self._closing and is_welcome):
            waits = await waits_for_clock(cause, self._upstream, self._clock, self._dial)
            raise waits or self._translated(cause) from cause

    async def transmit(self, message: Message) -> None:
        """Hand over for sending, in order; waits while `QUEUE_BYTES` wait for the hub's window.

        The caller so reads what comes next while this is sent. A message that the connection did
        not survive is not acknowledged, whether it was sent or not.

        Raises:
            SinkUnavailable: the connection has ended, or the hub said stop.
        """
        while self._queued_bytes >= QUEUE_BYTES and self._stop is None:
            # No deadline here: `_watch` ends a connection on which nothing moves.
            await self._room.wait()
        if self._stop is not None or self._closing:
            raise self._stop or SinkUnavailable("the connection is closed")
        self.handed = message.last
        self._queue.append(message)
        self._queued_bytes += len(message.data)
        self._work.set()

    async def wait_past(self, floor: int) -> None:
        """Wait until more than ``floor`` is acknowledged, or a record was refused."""
        while self.acked <= floor and not self._refused:
            await self._news.wait()

    def take(self) -> Acknowledged:
        """What has been acknowledged, and what that added since the last call."""
        acknowledged = Acknowledged(
            self.acked, self._records, self._size, self._refused, self._refusal
        )
        self._records = self._size = self._refused = 0
        self._refusal = ""
        return acknowledged

    async def aclose(self) -> None:
        """Say goodbye within `CLOSE_S`, then end `run`."""
        self._closing = True
        if self._socket is not None:
            with trio.move_on_after(CLOSE_S):
                await self._socket.aclose()
        self._scope.cancel()

    async def _connect(self, nursery: trio.Nursery, hello: ForwardHello) -> Resume:
        upstream = self._upstream
        parts = urlsplit(upstream.url)
        host, is_tls = parts.hostname or "", parts.scheme == "wss"
        credentials = self._credentials
        headers = [(name.encode(), value.encode()) for name, value in credentials.headers]
        self._dial = tunnelled(upstream, credentials.proxy_authorization, self._dial)
        with trio.fail_after(upstream.timeout):
            self._stream = ProgressStream(
                await self._dial(host, parts.port or (443 if is_tls else 80), credentials.tls)
            )
            socket = self._socket = await wrap_client_stream(
                nursery,
                self._stream,  # type: ignore[arg-type]  # any Stream will do; theirs names two kinds
                parts.netloc.rpartition("@")[2],
                parts.path.rstrip("/") or "/forward",
                subprotocols=[MSGPACK_SESSION],
                extra_headers=headers,
                message_queue_size=16,
                max_message_size=_MESSAGE_BYTES_MAX,
                receive_buffer_size=_RECEIVE_BYTES,
            )
            self._stream.is_opening = False
            if socket.subprotocol != MSGPACK_SESSION:
                raise SinkUnavailable(
                    "what answers there is not an edge agent", slow=True, obstacle="there"
                )
            said_first = self._session.hello(
                hello.source,
                hello.epoch,
                hello.first,
                history=hello.history,
                resends=hello.resends,
                moved=hello.moved,
                bridged=hello.bridged,
            )
            await socket.send_message(said_first)
            while not isinstance(said := self._session.receive(await socket.get_message()), Resume):
                if isinstance(said, Stop):
                    raise stopped(said)
        self.acked = self.handed = said.next - 1
        self._heard_at = trio.current_time()
        return said

    async def _send(self) -> None:
        socket = self._socket
        assert socket is not None
        while True:
            while not self._queue:
                self._work = trio.Event()
                await self._work.wait()
            message = self._queue[0]
            numbers, size = message.last - message.first + 1, len(message.data)
            while not self._has_room(numbers, size):
                await self._news.wait()
            self._queue.popleft()
            self._queued_bytes -= size
            if not self._in_flight:
                self._heard_at = trio.current_time()
                self.speed.begins(self._heard_at)
            if numbers:
                self._in_flight.append((message.last, message.records, size))
            self._session.sent(numbers, size)
            self.sent += 1
            self._room.set()
            self._room = trio.Event()
            await socket.send_message(message.data)

    async def _receive(self) -> None:
        socket = self._socket
        assert socket is not None
        while True:
            try:
                data = await socket.get_message()
            except ConnectionClosed:
                if self._closing:
                    # `aclose` still waits for the hub's goodbye, which this nursery reads.
                    await trio.sleep_forever()
                raise
            said = self._session.receive(data)
            if isinstance(said, Ack):
                self._count_acked(said.next - 1)
            elif isinstance(said, Nack):
                self._refused += 1
                self._refusal = f"{said.at}: {said.code}: {said.message}"
            elif isinstance(said, Stop):
                # Acks for what was accepted still come, then the hub closes: two seconds at most.
                self._stop = stopped(said)
                self._scope.deadline = trio.current_time() + 2 * CLOSE_S
            self._tell()

    def _count_acked(self, seq: int) -> None:
        self.acks += seq > self.acked
        self.acked = seq
        self._heard_at = trio.current_time()
        before = self._size
        while self._in_flight and self._in_flight[0][0] <= seq:
            _, records, size = self._in_flight.popleft()
            self._records += records
            self._size += size
        self.speed.acknowledged(self._size - before, self._heard_at)

    async def _ping(self) -> None:
        assert self._socket is not None
        while True:
            await trio.sleep(PING_S)
            if self._stream is not None:
                self._stream.look()
            await self._socket.ping()

    async def _watch(self) -> None:
        assert self._stream is not None
        limit = PING_S + self._upstream.timeout
        while True:
            await trio.sleep_until(self._stream.moved_at + limit)
            self._stream.look()
            now = trio.current_time()
            # The same sum as above: a difference may be a hair less than the limit at that moment,
            # and nothing would end the loop but time going on.
            if now >= self._stream.moved_at + limit:
                raise SinkUnavailable(f"the hub was not heard for {limit:g} s")
            heard_at = max(self._heard_at, self._stream.gone_at)
            if self._in_flight and now - heard_at >= ACK_S:
                raise SinkUnavailable(f"nothing was acknowledged for {ACK_S:g} s")

    def _has_room(self, numbers: int, size: int) -> bool:
        session = self._session
        if self._closing:
            return False
        return session.may_send(numbers, size) and (
            not session.records_in_flight
            or session.bytes_in_flight + size <= self._upstream.in_flight_bytes
        )

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
        if self._stop is not None:
            self._room.set()

    def _translated(self, cause: Exception | None) -> SinkUnavailable:
        return self._stop or translated(cause, self._upstream, self._clock.read().wall_ns)
