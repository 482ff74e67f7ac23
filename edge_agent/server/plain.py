"""Plain mode: just send. What a microcontroller or a browser does in five lines.

Nothing is numbered and nothing is said, unless ``?ack=1`` asks for ``{"ack": n}`` and errors. A
message that cannot be read goes to quarantine, and only a row of them closes the connection: who
speaks no protocol learns nothing from a close after the first mistake.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence

import trio

from edge_agent.errors import ProtocolError
from edge_agent.record import Run
from edge_agent.server.answers import Answers, Owed
from edge_agent.server.endings import (
    LastWords,
    NotNow,
    close_of,
    quarantined,
    say_goodbye,
    why_not_now,
)
from edge_agent.server.feed import Feed
from edge_agent.server.ingest import arrival_of
from edge_agent.server.parts import Parts, Visitor
from edge_agent.server.websocket import WebSocket
from edge_agent.store import Entry, Quarantined
from edge_agent.wire import (
    CLOSE_RESTART,
    CLOSE_TRY_LATER,
    Arrival,
    PlainSession,
    Received,
    Reject,
    TooBigMessage,
    read_messages,
)
from edge_agent.wire.shapes import Learner

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class PlainPump:
    """One plain connection. `run` is called once."""

    def __init__(self, socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
        self._socket, self._parts, self._visitor = socket, parts, visitor
        self._tells = visitor.target.ack
        self._session = PlainSession(
            tells=self._tells, undecodable_max=parts.limits.undecodable_in_a_row
        )
        self._answers = Answers(parts.log, parts.teller, self)
        socket.on_unclogged = self._answers.due
        self._feed = Feed(socket, parts.log, self._answers)
        self._not_now: NotNow | None = None
        self._failure: ProtocolError | None = None
        visitor.source = plain_source(visitor.grant.name)

    async def run(self) -> None:
        """From the first message to the last answer."""
        self._socket.divert(self._receive)
        await self._feed.until_end()
        if self._socket.end == "too_big":
            limit, got = self._parts.limits.message_bytes, self._socket.too_big_bytes
            self._failure = TooBigMessage(f"a message has at most {limit} bytes, got {got}")
        await self._farewell()
        await self._answers.settled()
        self._answers.let_go()

    def _receive(self, messages: list[str | bytes]) -> bool:
        """What was read; False where there is no room for more."""
        rates, name = self._parts.rates, self._visitor.grant.name
        if wait := rates.wait(name, trio.current_time()):
            self._not_now = NotNow("rate", wait, f"{name} sends faster than it may")
            self._socket.interrupt("refused")
            return False
        arrival = arrival_of(self._parts, self._visitor, self._visitor.source)
        has_room = self._append(_Reading(self, arrival).read(messages))
        if self._failure is not None:
            self._socket.interrupt("refused")
        # There is no window here: who does not read its acks must not make us remember more.
        return has_room and self._socket.can_be_told

    def _append(self, reading: _Reading) -> bool:
        parts, visitor = self._parts, self._visitor
        parts.count(reading.messages, reading.records, reading.size, reading.quarantine)
        parts.rates.charge(visitor.grant.name, reading.records, trio.current_time())
        self._failure = reading.failure
        visitor.next = self._session.received
        runs = parts.apply_rules(reading.runs)
        entry = Entry(runs=runs, quarantine=tuple(reading.quarantine))
        # Where nothing is left to store, the ack alone is worth no commit of its own.
        lazy = not (runs or reading.quarantine)
        told = tuple(reading.told)
        return self._feed.offer(entry, self._session.received, told=told, lazy=lazy)

    def judge(self, received: Received, reading: _Reading, unreadable: str | bytes) -> None:
        """Count what a read brought, and what it says about the connection."""
        begin = self._session.received
        self._session.receive(received.messages)
        for reject in received.rejects:
            self._note(reading, reject, begin + 1)
        if received.failure is not None:
            failure = received.failure
            reading.failure = self._session.fail(failure)
            body = unreadable.encode() if isinstance(unreadable, str) else unreadable
            stream = self._visitor.target.name
            reject = Reject(0, failure.code, failure.message, body[:4096], stream)
            self._note(reading, reject, self._session.received)

    def _note(self, reading: _Reading, reject: Reject, at: int) -> None:
        kept = quarantined(reject, self._visitor.source, reading.arrival.wall_ns)
        reading.quarantine.append(kept)
        told = self._session.error(ProtocolError(reject.code, reject.message), at)
        if told is not None:
            reading.told.append(told)

    @property
    def parts(self) -> Parts:
        """What all connections share."""
        return self._parts

    @property
    def learner(self) -> Learner:
        """What is known of the keys that this sender uses."""
        return self._session.learner

    @property
    def tells(self) -> bool:
        """Whether the peer asked for acks and errors."""
        return self._tells

    @property
    def can_be_told(self) -> bool:
        """For `Answers`."""
        return self._socket.can_be_told

    def tell(self, done: Sequence[Owed]) -> None:
        """For `Answers`: errors and the ack."""
        for owed in done:
            for text in owed.told:
                self._socket.send_soon(text)
        self._visitor.acked = done[-1].upto
        ack = self._session.committed(done[-1].upto)
        if ack is not None:
            self._socket.send_soon(ack)
        if self._feed.has_room:
            self._socket.resume()

    def refused(self) -> None:
        """For `Answers`."""
        self._socket.interrupt("refused")

    def fail(self, error: Exception) -> None:
        """For `Answers`."""
        self._socket.fail(error)

    async def _farewell(self) -> None:
        timeout = self._parts.listen.close_timeout
        await say_goodbye(self._socket, self._answers, timeout, self._last_words)

    def _last_words(self) -> LastWords:
        reason = why_not_now(self._not_now, self._answers, self._socket, self._parts.random)
        if reason is None:
            return LastWords(None, *close_of(self._socket.end, self._failure))
        self._parts.metrics.add("stops_total", 1, reason.code)
        error = ProtocolError(reason.code, reason.message)
        text = self._session.error(error, self._session.received + 1)
        code = CLOSE_RESTART if reason.code == "closing" else CLOSE_TRY_LATER
        return LastWords(text, code, reason.code)


class _Reading:
    """What one list of messages brought: the parts of one entry."""

    def __init__(self, pump: PlainPump, arrival: Arrival) -> None:
        self.arrival = arrival
        self.runs: list[Run] = []
        self.quarantine: list[Quarantined] = []
        self.told: list[str] = []
        self.messages = 0
        self.records = 0
        self.size = 0
        self.failure: ProtocolError | None = None
        self._pump = pump
        self._singly = False

    def read(self, messages: Sequence[str | bytes]) -> _Reading:
        """Read until the end, or until the connection is to be closed."""
        at = 0
        while at < len(messages) and self.failure is None:
            received = self._read_some(messages[at:])
            at += received.messages
            self.runs += received.runs
            self.messages += received.messages
            self.records += received.numbers
            self.size += received.size
            unreadable: str | bytes = b""
            if received.failure is not None:
                unreadable = messages[at]
                at += 1
                self.messages += 1
                self.size += len(unreadable)
            self._pump.judge(received, self, unreadable)
        return self

    def _read_some(self, messages: Sequence[str | bytes]) -> Received:
        limits = self._pump.parts.wire_limits
        if not self._singly:
            received = read_messages(messages, 0, self.arrival, limits, self._pump.learner)
            if not (self._pump.tells and received.rejects and len(messages) > 1):
                return received
            # Who wants to be told which message it was gets them read one by one.
            self._singly = True
        return read_messages(messages[:1], 0, self.arrival, limits)


def plain_source(name: str) -> str:
    """The source of somebody who gives no name: its token's or address, made a source name."""
    return _NOT_IN_NAMES.sub("-", name).strip(".-")[:200] or "local"


def serve_plain(socket: WebSocket, parts: Parts, visitor: Visitor) -> Awaitable[None]:
    """One plain connection, from the first message to the last answer."""
    return PlainPump(socket, parts, visitor).run()
