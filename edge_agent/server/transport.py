"""The transport is the socket as trio-websocket sees it, with the frame lane in front of it.

Coming in: `Transport.receive_some` first plays a head that we wrote ourselves (nothing of the
peer's but its key, so that no strange header can upset the library), then waits until the upgrade
was accepted. From then on everything that is read goes through the lane (`wire.frames`): lifted
messages go to the `Inbox` as lists, and only what is left reaches trio-websocket. Order is kept:
a lifted message waits until the library has given out all that went through before it.

Who reads: the task of trio-websocket that is in `receive_some`, or, while that one waits in it,
the shared reader on its behalf (`poller`).

What the lane does not lift, and what a task of its own reads, is done in turns (`fair_turns`).

Going out (`Outgoing`): trio-websocket's own frames come by `Outgoing.send_all`, ours by
`Outgoing.send_soon`: those are written at once where the socket takes them. What it does not take
waits in a queue, which a task of the connection's empties (`Outgoing.flush`). Frames are never torn
apart, and nothing follows one that was.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import Protocol

import trio

from edge_agent.server.fair_turns import TURN_UNITS, UNIT_BYTES, Turns
from edge_agent.server.poller import SharedReader
from edge_agent.server.receive_queue import Inbox
from edge_agent.wire import FrameLane, Part

#: The first byte of a close frame.
CLOSE_FRAME = b"\x88"
#: Elsewhere a socket's number is that of another file, or of none.
SOCKETS_ARE_FILES = os.name == "posix"


def plain_socket(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket that can be read and written without a task, if ``stream`` is no more than one."""
    is_one = SOCKETS_ARE_FILES and isinstance(stream, trio.SocketStream)
    return stream.socket if is_one and isinstance(stream, trio.SocketStream) else None


def write_now(socket: trio.socket.SocketType, data: bytes) -> int:
    """How many bytes a `plain_socket` takes without a wait. Raises OSError where it is gone."""
    try:
        return os.write(socket.fileno(), data)
    except BlockingIOError:
        return 0


def with_what_is_at_hand(stream: trio.abc.Stream, data: bytes, most: int) -> bytes:
    """``data``, which ``stream`` has just given out, and what it could give out at once behind it;
    less than ``most`` bytes and a record of TLS.

    OpenSSL gives out one record at a time, of 16 KiB at most, and Trio takes a turn of the task for
    each, of the four that one read of the socket has brought.
    """
    # No public method reads without a wait; where there is none of this name, it goes slower.
    ssl_object = getattr(stream, "_ssl_object", None)
    if ssl_object is None or not data:
        return data
    pieces, size = [data], len(data)
    # Nothing more is there; or the next read tells what is wrong.
    with contextlib.suppress(ssl.SSLError):
        while size < most and (more := ssl_object.read(most)):
            pieces.append(more)
            size += len(more)
    return data if len(pieces) == 1 else b"".join(pieces)


class Flusher(Protocol):
    """The connection, as what goes out sees it."""

    def flush_soon(self) -> None:
        """Call `Outgoing.flush` in a task of the connection's."""
        ...


class Outgoing:
    """One connection's. ``owner`` has `flush` called in a task of the connection's."""

    __slots__ = ("_is_torn", "_lock", "_owner", "_queue", "_since", "_socket", "_stream")

    def __init__(self, stream: trio.abc.Stream, owner: Flusher) -> None:
        self._stream = stream
        self._socket = plain_socket(stream)
        self._owner = owner
        self._queue: list[bytes] = []
        self._lock = trio.Lock()
        self._is_torn = False
        self._since = 0.0

    @property
    def is_clogged(self) -> bool:
        """Whether something of ours still waits for the socket, and not in vain."""
        return bool(self._queue) and (not self._is_torn or self._lock.locked())

    def stuck_for(self) -> float:
        """Seconds that the peer has not read what is being sent; 0 where nothing is."""
        return trio.current_time() - self._since if self._lock.locked() else 0.0

    def send_soon(self, frame: bytes) -> None:
        """Write whole frames now, or after what already waits."""
        is_sending = self._lock.locked()
        if self._is_torn and not is_sending:
            return
        if self._socket is not None and not self._queue and not is_sending:
            try:
                done = write_now(self._socket, frame)
            except OSError:
                return  # It is gone; the reading side learns why.
            if done == len(frame):
                return
            frame = frame[done:]
        self._queue.append(frame)
        if len(self._queue) == 1:
            self._owner.flush_soon()

    async def flush(self) -> None:
        """Send what `send_soon` has left."""
        async with self._lock:
            await self._send_queue()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send a frame of the library's, after everything of ours."""
        async with self._lock:
            await self._send_queue()
            await self._send_whole(data)

    async def _send_queue(self) -> None:
        while self._queue:
            # What comes meanwhile must queue behind it, so it leaves the queue only when sent.
            count = len(self._queue)
            await self._send_whole(b"".join(self._queue))
            del self._queue[:count]

    async def _send_whole(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_torn:
            raise trio.BrokenResourceError("an earlier frame was cut in the middle")
        self._is_torn = True
        self._since = trio.current_time()
        await self._stream.send_all(data)
        self._is_torn = False


#: Bytes asked of a socket at a time; 4 KiB, the library's default, cost three times the CPU.
RECEIVE_BYTES = 64 * 1024
#: What a message costs beside its bytes, in bytes: a flood of the smallest brings 11,000 in a read.
MESSAGE_BYTES = 64


class Owner(Flusher, Protocol):
    """The connection."""

    @property
    def keeps_open(self) -> bool:
        """Whether the connection will close the socket itself, later."""
        ...

    def too_big(self) -> None:
        """Nothing more comes: a message is over the limit, everything before it was delivered."""
        ...

    def receive_soon(self) -> None:
        """The library will give out messages: deliver them."""
        ...


async def abort(stream: trio.abc.Stream) -> None:
    """Close the socket itself, whatever else is going on above it."""
    inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    await trio.aclose_forcefully(inner)


class Transport(trio.abc.Stream):
    """See the module.

    Args:
        stream: the socket, or TLS over it.
        lane: what is lifted.
        inbox: where to.
        owner: does what needs a task; whoever owns us gives a weak proxy of itself.
        reader: reads plain sockets; None where each connection reads for itself.
        turns: of all connections.

    Attributes:
        close_sent: whether the library has sent a close frame, its own or an answer.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        lane: FrameLane,
        inbox: Inbox,
        owner: Owner,
        reader: SharedReader | None,
        turns: Turns,
    ) -> None:
        self._upgrade: trio.Event | None = trio.Event()  # there until it was accepted
        self._stream = stream
        self._lane = lane
        self._inbox = inbox
        self._owner = owner
        # Only a plain socket can be read and written without a task.
        self._socket = plain_socket(stream)
        self._reader = reader if self._socket is not None else None
        self._head = self._early = b""
        # What the lane made of the last read, as far as it has not gone on yet, its end first; and
        # what each list in it has to wait for.
        self._parts: list[Part] = []
        self._marks: list[int] = []
        self._turns = turns
        self._spent = 0  # since our last turn, in units of one
        self._is_over = False
        self._error: Exception | None = None
        self._last_byte = trio.current_time()
        self._reading = False
        self.outgoing = Outgoing(stream, owner)
        self.close_sent = False

    def replay(self, head: bytes, early: bytes) -> None:
        """What `receive_some` answers first, and what came behind the peer's own head."""
        self._head, self._early = head, early

    def accept(self) -> None:
        """The library has accepted the upgrade."""
        if self._upgrade is not None:
            self._upgrade.set()
            self._upgrade = None

    @property
    def is_accepted(self) -> bool:
        """Whether it has."""
        return self._upgrade is None

    def silence(self) -> float:
        """Seconds that the peer has left us waiting, to hear from it or to read what we send; 0
        while we are not reading for a reason of our own.
        """
        if self._reading:
            return trio.current_time() - self._last_byte
        return self.outgoing.stuck_for()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What the lane did not lift, b"" at the end."""
        if self._head:
            head, self._head = self._head, b""
            return head
        # The library reads on before the upgrade was accepted, and would lose what it got then.
        if self._upgrade is not None:
            await self._upgrade.wait()
        if self._early:
            early, self._early = self._early, b""
            self._take_in(early)
        while True:
            if (left := await self._deliver_parts()) is not None:
                return left
            if self._lane.too_big is not None:
                await self._inbox.wait_got(self._lane.passed)
                self._owner.too_big()
            if self._spent >= TURN_UNITS:
                await self._turns.take()
                self._spent = 0
            if self._lane.is_behind:
                self._put_by(self._lane.go_on())
            elif self._is_over:
                return b""
            else:
                await self._read()

    async def _deliver_parts(self) -> bytes | None:
        """All that has not gone on yet, up to what is for the library."""
        while self._parts:
            part = self._parts.pop()
            if isinstance(part, bytes):
                if not self._inbox.has_got(self._lane.passed):
                    self._owner.receive_soon()
                return part
            await self._inbox.wait_got(self._marks.pop())
            # A message of the library's may have used up the room; and so may this list.
            await self._inbox.wait_room()
            if part:
                self._inbox.deliver(part)
                await self._inbox.wait_room()
        return None

    async def _read(self) -> None:
        # Silence is counted from here on: what came before, we were not listening to.
        self._last_byte = trio.current_time()
        self._reading = True
        try:
            if self._reader is None:
                data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
                data = with_what_is_at_hand(self._stream, data, RECEIVE_BYTES)
                self._is_over = not data
                self._spent += len(data) // UNIT_BYTES
                self._take_in(data)
                return
            if self.fileno() < 0:
                raise trio.ClosedResourceError
            await self._reader.watch(self)
        finally:
            self._reading = False
        if isinstance(self._error, OSError):
            raise trio.BrokenResourceError from self._error
        if self._error is not None:
            raise self._error
        if self.fileno() < 0:
            raise trio.ClosedResourceError

    def fileno(self) -> int:
        """The plain socket's descriptor; -1 once it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def take_some(self, now: float) -> int:
        """The shared reader's call: read once; how much work that was, in bytes, negative where our
        own task has to act.
        """
        try:
            return self._take_some(os.read(self.fileno(), RECEIVE_BYTES), now)
        except BlockingIOError:
            return 0
        except Exception as error:  # noqa: BLE001 - our own task raises it; the reader has others
            self._error = error
            return -1

    def _take_some(self, data: bytes, now: float) -> int:
        if not data:
            self._is_over = True
            return -1
        self._last_byte = now
        lane = self._lane
        parts = lane.feed(data)
        if not parts:
            if lane.is_behind:
                return self._hold()
            # The middle of a long frame; or of one that is over the limit.
            return len(data) if lane.too_big is None else -1
        if (
            len(parts) == 1
            and isinstance(parts[0], list)
            and lane.too_big is None
            and self._inbox.takes_after(lane.passed)
        ):
            work = len(data) + MESSAGE_BYTES * len(parts[0])
            return work if self._inbox.deliver(parts[0]) else self._hold()
        self._put_by(parts)
        return -1

    def _take_in(self, data: bytes) -> None:
        self._put_by(self._lane.feed(data))

    def _put_by(self, parts: list[Part]) -> None:
        # Nothing is read before all of the last read has gone on.
        self._parts, self._marks = parts[::-1], self._lane.marks[::-1]
        # Our own task being woken for it counts too.
        self._spent += 1 + self._lane.looked_at

    def _hold(self) -> int:
        # An empty list: our own task waits for room before it reads on.
        self._parts, self._marks = [[]], [0]
        return -1

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """A frame of the library's."""
        self.close_sent |= data[:1] == CLOSE_FRAME
        await self.outgoing.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket does."""
        await self._stream.wait_send_all_might_not_block()

    async def linger(self) -> None:
        """Say that nothing more comes, and read on until the peer has closed: else what it still
        sends would make the kernel throw away our last words.
        """
        if isinstance(self._stream, trio.SocketStream):
            await self._stream.send_eof()
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass

    async def aclose(self) -> None:
        """The library has done with it; where it found a violation, we have not."""
        self._leave()
        if self._owner.keeps_open:
            self._is_over = True
            return
        await self._stream.aclose()

    async def abort(self) -> None:
        """Close the socket itself."""
        self._leave()
        await abort(self._stream)

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.leave(self, self.fileno())
