"""The agent's side of a session, without I/O: what the pump feeds and what it then sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from edge_agent.errors import ProtocolError
from edge_agent.session import (
    CLOSE_FORBIDDEN,
    CLOSE_PROTOCOL,
    CLOSE_RESTART,
    CLOSE_TRY_LATER,
    FORBIDDEN,
    SERVER,
    Hello,
    Mode,
    Nack,
    ServerInput,
    ServerState,
    Stop,
    ToldLimits,
    Welcome,
    Window,
    decode_hello,
    encode_ack,
    encode_control,
    follow,
)
from edge_agent.values.clock_note import ClockNote
from edge_agent.wire.alone import read_alone
from edge_agent.wire.forward import Segment, covers, decode_forwarded
from edge_agent.wire.messages import read_in_turns
from edge_agent.wire.reading_types import (
    REASON_CHARACTERS_MAX,
    REJECT_WEIGHT,
    Arrival,
    Received,
    Reject,
    WireLimits,
    make_reject,
)
from edge_agent.wire.shapes import Learner
from edge_agent.wire.short_turns import in_short_turns

#: Looking a state up costs as much as reading a small record; what the table says about an open
#: session is looked up here, once.
_OPEN = ServerState.OPEN
_OPEN_STAYS_OPEN = all(
    SERVER[_OPEN][what] is _OPEN for what in (ServerInput.DATA, ServerInput.COMMITTED)
)


@dataclass(frozen=True, slots=True)
class ReceivedSegments:
    """What a list of ``/forward`` messages holds; like `Received`."""

    segments: tuple[Segment, ...]
    numbers: int
    size: int
    messages: int
    failure: ProtocolError | None = None
    notes: tuple[ClockNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Goodbye:
    """How to end a session: send ``message``, finish what was accepted, close with the code."""

    message: str | bytes
    close_code: int
    reason: str


class ServerSession:
    """One source's session.

    Attributes:
        state: where it is; only the table in `states` changes it.
        hello: what the source said, once it has.
        number: what the next record gets; everything before it was received.
        acked: everything before it was told to be durable.
        bytes_in_flight: bytes of messages received and not yet committed; a reject counts more.
        failure: why nothing more is read, if that is so.

    Exceeding the window is no error: a sender learns of a smaller window later than we decide it.
    The pump reads while `has_room`; TCP does the rest.
    """

    def __init__(self, mode: Mode, limits: WireLimits, window: Window) -> None:
        self.state = ServerState.NEW
        self.hello: Hello | None = None
        self.number = 0
        self.acked = 0
        self.bytes_in_flight = 0
        self.failure: ProtocolError | None = None
        self._mode = mode
        self._limits = limits
        self._window = window
        self._window_is_news = False
        self._learner = Learner()
        self._turns: Iterator[Received] | None = None
        # What each read took: the number behind it, and its bytes. Both are made when they are
        # needed, as an empty deque has 600 bytes and most sessions are idle.
        self._sizes: deque[tuple[int, int]] | None = None
        self._nacks: deque[Nack] | None = None

    @property
    def records_in_flight(self) -> int:
        """Numbers received and not yet told to be durable."""
        return self.number - self.acked

    @property
    def has_room(self) -> bool:
        """Whether to read on. With nothing in flight one message is always allowed."""
        return not self.records_in_flight or (
            self.records_in_flight < self._window.records
            and self.bytes_in_flight < self._window.bytes
        )

    def receive_hello(self, data: str | bytes) -> Hello:
        """The first message. The pump then settles what an older connection left, reads ``next``
        from the store, asks `resume_point` and calls `welcome`.

        Raises:
            ProtocolError: ``bad_hello``, ``bad_source``, ``out_of_order``; close 1002.
        """
        after = follow(SERVER, self.state, ServerInput.HELLO)
        hello = decode_hello(data)
        self.state, self.hello = after, hello
        return hello

    def welcome(
        self,
        next_number: int,
        epoch: str,
        time: str,
        *,
        forked: bool = False,
        resends: bool = False,
        bridged: bool = False,
    ) -> str | bytes:
        """What to answer to hello. ``time`` is RFC 3339, "" where the clock is not set; ``forked``
        as in `resume_point`, ``resends`` and ``bridged``
        as in `Welcome`.
        """
        self.state = follow(SERVER, self.state, ServerInput.WELCOME)
        self.number = self.acked = next_number
        limits = ToldLimits(
            self._limits.message_bytes, self._limits.record_bytes, self._limits.batch_records
        )
        welcome = Welcome(epoch, next_number, self._window, time, limits, forked, resends, bridged)
        return encode_control(welcome, self._mode)

    def receive_data(self, batch: Sequence[str | bytes], arrival: Arrival) -> Received:
        """Messages in the order in which they came; their records get their numbers. What a turn
        has read, which need not be all: see `is_behind`.

        Where one cannot be read, ``Received.failure`` says why, and it and all that follow are
        discarded, now and later. The pump then commits, acks and closes with the failure's code.
        """
        if self.state is not _OPEN or not _OPEN_STAYS_OPEN:
            after = follow(SERVER, self.state, ServerInput.DATA)
            if after is ServerState.CLOSING:
                return Received((), (), 0, 0, 0, self.failure)
        if len(batch) == 1:
            # A slow sensor's, whose every message would otherwise pay for the making of a turn.
            alone = read_alone(batch[0], self.number, arrival, self._limits)
            if alone is not None:
                self._count(1, alone.size)
                return alone
        turns = read_in_turns(batch, self.number, arrival, self._limits, self._learner)
        if arrival.turn_of is not None:
            turns = in_short_turns(turns, arrival.turn_of)
        received = next(turns)
        self._turns = None if received.is_last else turns
        return self._received(received)

    @property
    def is_behind(self) -> bool:
        """Whether something of the last list is still to be read: `receive_more`."""
        return self._turns is not None

    def receive_more(self) -> Received:
        """The next turn of what `receive_data` was given."""
        assert self._turns is not None, "all of the list was read"
        received = next(self._turns)
        if received.is_last:
            self._turns = None
        return self._received(received)

    def _received(self, received: Received) -> Received:
        for reject in received.rejects:
            self._add_nack(reject)
        weight = REJECT_WEIGHT * len(received.rejects)
        self._count(received.numbers, received.size + weight)
        if received.failure is not None:
            self.fail(received.failure)
        return received

    def receive_segments(self, batch: Sequence[str | bytes]) -> ReceivedSegments:
        """The same for ``/forward``, whose messages say their numbers. A message must begin
        where the one before it ended.
        """
        after = follow(SERVER, self.state, ServerInput.DATA)
        if after is ServerState.CLOSING:
            return ReceivedSegments((), 0, 0, 0, self.failure)
        segments: list[Segment] = []
        notes: list[ClockNote] = []
        begin, size, messages = self.number, 0, 0
        for data in batch:
            try:
                decoded = decode_forwarded(data)
                numbers = self._follows(decoded.segments)
            except ProtocolError as error:
                self.fail(error)
                break
            segments += decoded.segments
            notes += decoded.notes
            self._count(numbers, len(data))
            size += len(data)
            messages += 1
        numbers = self.number - begin
        return ReceivedSegments(
            tuple(segments), numbers, size, messages, self.failure, tuple(notes)
        )

    def take_back(self, number: int) -> None:
        """What was received from ``number`` on is not taken after all; the session is to end."""
        self.number = number
        while self._sizes and self._sizes[-1][0] > number:
            self.bytes_in_flight -= self._sizes.pop()[1]
        if number > self.acked and (not self._sizes or self._sizes[-1][0] < number):
            # Of one message a part was taken: it is acked, and so has to be in flight.
            self._sizes = self._sizes or deque()
            self._sizes.append((number, 0))

    def refuse(self, at: int, code: str, message: str) -> None:
        """Some of what was received under the number ``at`` is refused for its content, for good;
        told once that is durable.
        """
        self._add_nack(make_reject(at, code, message, b"", ""))

    def refuse_records(self, rejects: Sequence[Reject]) -> None:
        """Some records of what was received last are refused after all, by a rule."""
        for reject in rejects:
            self._add_nack(reject)
        assert self._nacks is not None and self._sizes, "they were received"
        # In order, also with those that were refused when they were read.
        self._nacks = deque(sorted(self._nacks, key=attrgetter("at")))
        number, size = self._sizes[-1]
        weight = REJECT_WEIGHT * len(rejects)
        self._sizes[-1] = number, size + weight
        self.bytes_in_flight += weight

    def _follows(self, segments: Sequence[Segment]) -> int:
        """How many numbers a message of ``segments`` takes, which must begin with the next one."""
        if not segments:
            return 0
        first, last = covers(segments)
        if first != self.number:
            raise ProtocolError(
                "bad_segment",
                f"expected a message from {self.number} on, got {first}",
                CLOSE_PROTOCOL,
            )
        return last - first + 1

    def fail(self, error: ProtocolError) -> None:
        """A message cannot be read: nothing more is. Also for what the transport refuses (a
        message over its limit) before it comes here. The first failure is the one that counts.
        """
        self.state = follow(SERVER, self.state, ServerInput.FAILURE)
        if self.failure is None:
            # Its traceback holds the frames that hold us; kept here, it would keep all of them.
            error.__cause__ = error.__context__ = None
            self.failure = error.with_traceback(None)

    def use_up_number(self, body: bytes, stream: str) -> Reject:
        """The second failure at the same number (`FailureMemory`): give it to the message that
        cannot be read, so that the source gets past it. The pump puts the reject into quarantine
        with its number and commits that.
        """
        failure = self.failure
        if failure is None or self.state is not ServerState.CLOSING:
            raise ProtocolError("out_of_order", "no message has failed", CLOSE_PROTOCOL)
        reject = make_reject(self.number, failure.code, failure.message, body, stream)
        self._add_nack(reject)
        self._count(1, len(reject.body))
        return reject

    def grant(self, window: Window) -> None:
        """Change the window; the next ack tells it."""
        self._window_is_news = self._window_is_news or window != self._window
        self._window = window

    def committed(self, next_number: int) -> list[str | bytes]:
        """Everything before ``next_number`` is durable (or in quarantine): what to send now.

        That is the nacks of refused records before it, in order, then at most one ack. A nack
        never goes out before its record is durable in quarantine.
        """
        if self.state is not _OPEN or not _OPEN_STAYS_OPEN:
            self.state = follow(SERVER, self.state, ServerInput.COMMITTED)
        durable = min(next_number, self.number)
        if self.state is ServerState.CLOSED or (durable <= self.acked and not self._window_is_news):
            return []
        self.acked = max(self.acked, durable)
        while self._sizes and self._sizes[0][0] <= self.acked:
            self.bytes_in_flight -= self._sizes.popleft()[1]
        messages: list[str | bytes] = []
        while self._nacks and self._nacks[0].at < self.acked:
            messages.append(encode_control(self._nacks.popleft(), self._mode))
        window = self._window if self._window_is_news else None
        self._window_is_news = False
        messages.append(encode_ack(self.acked, window, self._mode))
        return messages

    def stop(self, code: str, retry_after: float, message: str) -> Goodbye:
        """Not now: accept nothing more. Commits still outstanding are acked as they come."""
        self.state = follow(SERVER, self.state, ServerInput.STOP)
        text = message[:REASON_CHARACTERS_MAX]
        close_code = CLOSE_RESTART if code == "closing" else CLOSE_TRY_LATER
        if code in FORBIDDEN:
            close_code = CLOSE_FORBIDDEN
        told = encode_control(Stop(code, retry_after, text), self._mode)
        return Goodbye(told, close_code, code)

    def close(self) -> None:
        """The connection has ended."""
        self.state = follow(SERVER, self.state, ServerInput.CLOSE)

    def _count(self, numbers: int, size: int) -> None:
        # A message without records takes no number, is never committed and so is not in flight.
        if numbers:
            self.number += numbers
            self.bytes_in_flight += size
            if self._sizes is None:
                self._sizes = deque()
            self._sizes.append((self.number, size))

    def _add_nack(self, reject: Reject) -> None:
        if self._nacks is None:
            self._nacks = deque()
        self._nacks.append(Nack(reject.number, reject.code, reject.message))
