"""A sensor's session takes records from ``/ingest/STREAM`` to the log in plain calls.

`SensorSession._receive` is the hot path. It is called with a list of messages as they were read,
some 800 under a flood, one from a slow sensor, and does everything once per list.

Where the microseconds go, per message of 71 bytes (CPython 3.11, x86-64, warm):

- One from a slow sensor, some 24 µs: read(2) and write(2) of the ack 5 each, in the kernel; the
  lane 1.0; `_receive` 5.3 (judging and numbering 2.3, the entry and its ticket 1.8, the arrival's
  clocks 0.5); the store 4.2 (`store.group`); settling and telling 2.7 (`SessionBase.tell` 2.2);
  and a share of the round and of the commit. What is left is one object each for what has to be
  remembered until the commit: run, entry, numbering, ticket, debt.
- One of 800 in a list, some 1.0 µs: the lane 0.35 (`wire.frames`), judging 0.23 (`wire.messages`),
  the store 0.17 (`store.group`), the read 0.05, and nothing else that is not once per list.
"""

from __future__ import annotations

from collections.abc import Awaitable

import trio

from edge_agent.errors import ProtocolError
from edge_agent.server.closing import quarantined
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.pump import Feed
from edge_agent.server.session import SessionBase, is_lazy
from edge_agent.server.websocket import WebSocket
from edge_agent.session import CLOSE_FORBIDDEN, Hello, Mode
from edge_agent.store import Binding, Quarantined
from edge_agent.wire import Arrival, Received


class SensorSession(SessionBase):
    """Records become runs; what cannot be used goes to quarantine in the same entry."""

    def __init__(self, socket: WebSocket, parts: Parts, visitor: Visitor, *, mode: Mode) -> None:
        super().__init__(socket, parts, visitor, mode=mode, limits=parts.wire_limits)
        self._feed = Feed(socket, parts.log, self._answers, parts.turns)

    def _source_of(self, hello: Hello) -> str:
        may_be = self._visitor.grant.may_be
        if may_be is not None and not may_be(hello.source):
            raise ProtocolError(
                "forbidden_source",
                f"the token does not allow the source {hello.source!r}",
                CLOSE_FORBIDDEN,
            )
        return hello.source

    async def _whose(self) -> Binding | None:
        grant, owners = self._visitor.grant, self._parts.owners
        if self._owner is None:
            return None
        owner = await self._parts.log.owner_of(self._source)
        if owner is None:
            # Whoever is about to be bound was faster, and is not thrown out.
            holder = self._parts.claims.holder(self._source)
            owner = None if holder == self._owner else holder
        over = owners.judge_source(grant, self._source, owner)
        return None if owner == self._owner else Binding(over, owners.share)

    async def _read(self, messages: list[str | bytes]) -> None:
        self._socket.divert(self._receive, messages)
        await self._feed.until_end(read_on=self._read_on, go_on=self._go_on)

    def _go_on(self) -> None:
        if not (self._feed.has_room and self._session.has_room):
            return
        if self._session.is_behind:
            self._feed.later()
        else:
            self._socket.resume()

    def _receive(self, messages: list[str | bytes]) -> bool:
        """What was read; False where there is no room for more, or it was not all dealt with."""
        if self._parts.rates.is_limited and self._is_over_rate():
            self._socket.interrupt("refused")
            return False
        arrival = arrival_of(self._parts, self._visitor, self._source)
        return self._take_in(self._session.receive_data(messages, arrival), arrival.wall_ns)

    def _read_on(self) -> None:
        """The next turn of what was read."""
        if self._take_in(self._session.receive_more(), self._parts.clock.read().wall_ns):
            self._socket.resume()

    def _take_in(self, received: Received, wall_ns: int) -> bool:
        parts, session = self._parts, self._session
        refused: tuple[Quarantined, ...] = ()
        if received.rejects:
            refused = tuple(
                quarantined(reject, self._source, wall_ns) for reject in received.rejects
            )
        numbers = received.numbers
        if parts.rates.is_limited:
            parts.rates.charge(self._visitor.grant.name, numbers, trio.current_time())
        parts.count(received.messages, numbers, received.size, refused)
        has_room = True
        if numbers:
            runs, set_aside = parts.apply_rules(received.runs)
            if set_aside:
                session.refuse_records(set_aside)
                refused += tuple(quarantined(reject, self._source, wall_ns) for reject in set_aside)
            entry = self._entry(numbers, runs, (), refused)
            has_room = self._feed.offer(entry, session.number, lazy=is_lazy(entry))
        if received.failure is not None:
            unread = received.unread
            self._unreadable = unread if isinstance(unread, bytes) else unread.encode()
            self._socket.interrupt("refused")
        if not (has_room and session.has_room):
            return False
        if session.is_behind:
            self._feed.later()
            return False
        return True


def arrival_of(parts: Parts, visitor: Visitor, source: str) -> Arrival:
    """What is the same for all that one read brought."""
    reading, rules = parts.clock.read(), parts.rules
    return Arrival(
        visitor.target.name,
        source,
        reading.wall_ns,
        reading.synced,
        visitor.grant.may_write,
        rules.time_key,
        rules.turn_of if rules.are_any else None,
    )


def serve_session(socket: WebSocket, parts: Parts, visitor: Visitor, mode: Mode) -> Awaitable[None]:
    """One sensor's session, from hello to the last answer."""
    return SensorSession(socket, parts, visitor, mode=mode).run()
