"""Plain mode is sending without a session, as a microcontroller or a browser does in five lines.

Nothing is numbered and nothing is said, unless ``?ack=1`` asks for ``{"ack": n}`` and errors. A
message that cannot be read goes to quarantine, and only a row of them closes the connection: who
speaks no protocol learns nothing from a close after the first mistake.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator, Sequence

import trio

from edge_agent.errors import ProtocolError
from edge_agent.server.acks import Owed
from edge_agent.server.closing import LastWords, NotNow, quarantined
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.pump import Feed, Pump
from edge_agent.server.sensor_session import arrival_of
from edge_agent.server.websocket import WebSocket
from edge_agent.session import CLOSE_RESTART, CLOSE_TRY_LATER
from edge_agent.store import Entry
from edge_agent.wire import (
    REJECT_BYTES_MAX,
    PlainSession,
    Received,
    Reject,
    in_short_turns,
    read_in_turns,
)

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class PlainPump(Pump):
    """One plain connection."""

    _failure: ProtocolError | None = None

    def __init__(self, socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
        super().__init__(socket, parts, visitor)
        self._tells = visitor.target.ack
        self._session = PlainSession(
            tells=self._tells, undecodable_max=parts.limits.undecodable_in_a_row
        )
        socket.on_unclogged = self._unclogged
        self._feed = Feed(socket, parts.log, self._answers, parts.turns)
        # What is left of the last read, for the turns to come.
        self._turns: Iterator[Received] | None = None
        visitor.source = plain_source(visitor.grant.name)

    async def _run(self) -> None:
        self._socket.divert(self._receive)
        await self._feed.until_end(read_on=self._read_on, go_on=self._go_on)
        if self._socket.end == "too_big":
            self._failure = self._too_big()
        await self._farewell()
        await self._answers.settled()

    def _receive(self, messages: list[str | bytes]) -> bool:
        """What was read; False where there is no room for more, or it was not all dealt with."""
        if self._parts.rates.is_limited and self._is_over_rate():
            self._socket.interrupt("refused")
            return False
        arrival = arrival_of(self._parts, self._visitor, self._visitor.source)
        turns = read_in_turns(
            messages, 0, arrival, self._limits, self._session.learner,
            past_failures=True, apart=self._tells,
        )  # fmt: skip
        if arrival.turn_of is not None:
            turns = in_short_turns(turns, arrival.turn_of)
        return self._take_in(turns)

    def _read_on(self) -> None:
        """The next turn of what was read."""
        assert self._turns is not None
        if self._take_in(self._turns):
            self._socket.resume()

    def _take_in(self, turns: Iterator[Received]) -> bool:
        received = next(turns)
        self._turns = None if received.is_last else turns
        has_room = self._append(received)
        if self._failure is not None:
            self._socket.interrupt("refused")
        if not (has_room and self._has_room):
            return False
        if self._turns is not None:
            self._feed.later()
            return False
        return True

    @property
    def _has_room(self) -> bool:
        # Nobody is told of a window here, but it holds: and who does not read its acks must not
        # make us remember more.
        in_flight = self._answers.in_flight_bytes
        return self._socket.can_be_told and (not in_flight or in_flight < self._share.granted)

    def _unclogged(self) -> None:
        # Also where nothing is owed: what was told last may have filled the socket.
        self._answers.due()
        self._go_on()

    def _go_on(self) -> None:
        if not (self._feed.has_room and self._has_room):
            return
        if self._turns is not None:
            self._feed.later()
        else:
            self._socket.resume()

    def _append(self, received: Received) -> bool:
        """Count what a turn brought, and hand it to the log; whether there is room for more."""
        parts, visitor, session = self._parts, self._visitor, self._session
        begin = session.received
        session.receive(received.messages)
        kept = [(reject, begin + 1) for reject in received.rejects]
        messages, size = received.messages, received.size
        if received.failure is not None:
            failure, unread = received.failure, received.unread
            self._failure = session.fail(failure)
            body = unread.encode() if isinstance(unread, str) else unread
            name = visitor.target.name
            reject = Reject(0, failure.code, failure.message, body[:REJECT_BYTES_MAX], name)
            kept.append((reject, session.received))
            messages, size = messages + 1, size + len(unread)
        wall_ns = parts.clock.read().wall_ns if kept else 0
        refused = tuple(quarantined(reject, visitor.source, wall_ns) for reject, _ in kept)
        parts.count(messages, received.numbers, size, refused)
        parts.rates.charge(visitor.grant.name, received.numbers, trio.current_time())
        visitor.next = session.received
        if not (messages or received.numbers):
            return True
        runs, set_aside = parts.apply_rules(received.runs)
        if set_aside:
            # Of several messages that were read together it is not known which one it was in.
            at = max(session.received, begin + 1)
            kept += [(reject, at) for reject in set_aside]
            wall_ns = parts.clock.read().wall_ns
            refused += tuple(quarantined(reject, visitor.source, wall_ns) for reject in set_aside)
        told = (
            session.error(ProtocolError(reject.code, reject.message), at) for reject, at in kept
        )
        # Where nothing is left to store, the ack alone is worth no commit of its own.
        lazy = not (runs or refused)
        entry = Entry(runs=runs, quarantine=refused)
        self._share.peak = max(self._share.peak, self._answers.in_flight_bytes)
        return self._feed.offer(entry, session.received, told=tuple(filter(None, told)), lazy=lazy)

    def tell(self, done: Sequence[Owed]) -> None:
        """Errors and the ack."""
        told = [text for owed in done for text in owed.told]
        self._parts.windows.review(self._share, self._answers.in_flight_bytes)
        self._visitor.acked = done[-1].upto
        ack = self._session.committed(done[-1].upto)
        if ack is not None:
            told.append(ack)
        if told:
            self._socket.send_soon(*told)
        self._go_on()

    def _stop(self, reason: NotNow) -> LastWords:
        error = ProtocolError(reason.code, reason.message)
        text = self._session.error(error, self._session.received + 1)
        code = CLOSE_RESTART if reason.code == "closing" else CLOSE_TRY_LATER
        return LastWords(text, code, reason.code)


def plain_source(name: str) -> str:
    """The source of somebody who gives no name: its token's or address, made a source name."""
    return _NOT_IN_NAMES.sub("-", name).strip(".-")[:200] or "local"


def serve_plain(socket: WebSocket, parts: Parts, visitor: Visitor) -> Awaitable[None]:
    """One plain connection, from the first message to the last answer."""
    return PlainPump(socket, parts, visitor).run()
