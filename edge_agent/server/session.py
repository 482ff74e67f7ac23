"""A session goes from hello to goodbye: takeover, welcome, data, acks.

Sensors and agents share it.

What a message means, and how it is read, is for the kinds of sessions to say (`sensor_session.py`
for sensors, `agent_session.py` for agents); when what may be said is
`edge_agent.wire.ServerSession`'s. This module moves between the socket, the log and those two::

    socket ─▶ ServerSession ─▶ entry ─▶ log ─▶ Answers ─▶ ack, nack ─▶ socket

It ends in one way, whatever the reason: nothing further is accepted, what was accepted gets some
time to be committed and acked, then the socket is closed (`_farewell`), and the pump stays until
everything that it appended has its answer, because the next connection of that source waits for it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import ProtocolError, StoreFailed, StoreFull
from edge_agent.server.acks import Owed
from edge_agent.server.closing import LastWords, NotNow, quarantined
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.pump import Pump
from edge_agent.server.source_claims import Claim
from edge_agent.server.websocket import WebSocket
from edge_agent.session import (
    CLOSE_FORBIDDEN,
    CLOSE_TOO_BIG,
    CLOSE_UNDECODABLE,
    Hello,
    Mode,
    ResumePoint,
    Stop,
    Window,
    encode_control,
    resume_point,
)
from edge_agent.store import FORBIDDEN_RETRY_S, Binding, Entry, Numbering, Quarantined
from edge_agent.values.record import ForeignBlock, Run, format_time
from edge_agent.wire import ServerSession, Undecodable, WireLimits


@dataclass(slots=True)
class Taken:
    """What a list of messages becomes: parts of one entry, and how far its numbers go."""

    runs: tuple[Run, ...]
    blocks: tuple[ForeignBlock, ...]
    quarantine: tuple[Quarantined, ...]
    messages: int
    numbers: int
    records: int
    size: int


class SessionBase(Pump):
    """One session. How messages are read is the business of its kinds."""

    #: Whether a peer whose history has forked begins anew under another source.
    _begins_anew = False
    #: Whether what is here already is left out, as the peer has asked.
    _leaves_out = False
    #: Whether what is acknowledged is with an upstream, too.
    _is_bridged = False

    def __init__(
        self, socket: WebSocket, parts: Parts, visitor: Visitor, *, mode: Mode, limits: WireLimits
    ) -> None:
        super().__init__(socket, parts, visitor)
        self._mode: Mode = mode
        self._limits = limits
        self._session = visitor.session = ServerSession(mode, limits, self._window())
        socket.on_unclogged = self._answers.due
        self._source = ""
        #: The opening of the sender's store, until an entry tells it; "" where it says none.
        self._opening: str | None = ""
        self._is_copy = False
        #: Whose all is that is appended; None where nobody has an identity.
        self._owner = visitor.grant.identity or None
        self._unreadable = b""

    async def run(self) -> None:
        """From hello to the last answer."""
        try:
            await super().run()
        finally:
            self._session.close()

    # What the kinds of sessions differ in.

    @abstractmethod
    def _source_of(self, hello: Hello) -> str:
        """The name under which the source's numbers are stored.

        Raises:
            ProtocolError: the peer may not use it.
        """

    async def _copied_next(self, source: str) -> int:
        """The number expected next of the source that this one says it was copied from; 0 where
        that is not here, or is none of this peer's. A sensor that is a copy keeps its name.
        """
        return 0

    @abstractmethod
    async def _whose(self) -> Binding | None:
        """What has to be bound for the source to be this peer's; None where it is already, or
        where nobody has an identity.

        Raises:
            ProtocolError: it belongs to somebody else.
            StoreFull, StoreFailed, Closed: not now.
        """

    async def _not_yet(self, hello: Hello) -> NotNow | None:
        """Why it cannot be said now what is here of the source; None where it can. May wait."""
        return None

    @abstractmethod
    async def _read(self, messages: list[str | bytes]) -> None:
        """Read until the end; ``messages`` came first, together with the hello."""

    @abstractmethod
    def _go_on(self) -> None:
        """There may be room again."""

    # From hello to welcome.

    async def _run(self) -> None:
        messages = await self._first()
        if not messages:
            await self._farewell()
            return
        try:
            hello = self._session.receive_hello(messages[0])
            self._source = self._visitor.source = self._source_of(hello)
            # Before the claim: who may not be this source must not throw out who is.
            await self._whose()
        except ProtocolError as error:
            await self._turn_away(error)
            return
        except (StoreFull, StoreFailed, Closed) as refusal:
            self._not_now = self._parts.not_now(refusal)
            await self._farewell()
            return
        claim = self._parts.claims.take(self._source, self._taken_over, self._owner or "")
        try:
            if await self._welcome(hello, claim):
                await self._read(messages[1:])
                await self._conclude(claim)
            else:
                await self._farewell()
        finally:
            self._parts.claims.release(claim)

    async def _first(self) -> list[str | bytes]:
        with trio.move_on_after(self._parts.listen.handshake_timeout) as deadline:
            return await self._socket.take()
        if deadline.cancelled_caught:
            self._socket.interrupt("idle")
        return []

    async def _turn_away(self, error: ProtocolError) -> None:
        wait = FORBIDDEN_RETRY_S if error.close_code == CLOSE_FORBIDDEN else 0.0
        message = encode_control(Stop(error.code, wait, error.message[:1000]), self._mode)
        self._parts.metrics.add("stops_total", 1, error.code)
        with trio.move_on_after(self._parts.listen.close_timeout):
            await self._socket.send(message)
        code = error.close_code or CLOSE_FORBIDDEN
        await self._socket.close(code, error.message, self._parts.listen.close_timeout)

    async def _welcome(self, hello: Hello, claim: Claim) -> bool:
        """Settle what was before, agree on ``next`` and say so. False where it came to nothing."""
        log = self._parts.log
        ticket: Ticket | None = None
        if not await self._is_settled(hello, claim):
            return False
        try:
            with self._socket.until_end():
                epoch = log.identity.numbering
                known = await log.next_of(self._source)
                binding = await self._whose()
                point = await self._resume_point(hello, epoch, known)
                if binding is not None and binding.over is not None and hello.first is not None:
                    # The numbers that another identity used up are none of this one's.
                    point = ResumePoint(hello.first, restart=True, gap=0)
                share = 0 if binding is None else binding.share
                if not known and (full := log.lacking_place(self._owner, share)) is not None:
                    raise full
                if point.restart or binding is not None or self._lacks_place(known):
                    opening = self._opening if point.restart else None
                    begin = (self._source, point.next, point.next, point.restart)
                    numbering = Numbering(*begin, self._owner, binding, opening, hello.moved)
                    # Once in the life of a source, while its peer waits: not worth the interval.
                    # Who is welcome has its place here, and is not refused with the first record.
                    ticket = await log.append(Entry(numbering=numbering), soon=True)
                    await ticket.wait()
        except (StoreFull, StoreFailed, Closed) as refusal:
            self._not_now = self._parts.not_now(refusal)
        except ProtocolError as error:
            # Somebody else was faster between the two looks.
            self._not_now = NotNow(error.code, FORBIDDEN_RETRY_S, error.message)
        if self._socket.end is not None or self._not_now is not None:
            await _settle(ticket)
            return False
        reading = self._parts.clock.read()
        time = format_time(reading.wall_ns) if reading.synced else ""
        self._parts.tell("welcome", source=self._source, next=point.next, restart=point.restart)
        if self._is_copy:
            self._parts.copies.note(self._source)
        welcome = self._session.welcome(
            point.next,
            epoch,
            time,
            forked=point.forked,
            resends=self._leaves_out,
            bridged=self._is_bridged,
        )
        return await self._socket.send(welcome)

    async def _is_settled(self, hello: Hello, claim: Claim) -> bool:
        """Wait for what was before; whether what is here may be told now."""
        with self._socket.until_end():
            await self._parts.claims.settled(claim)
            self._not_now = await self._not_yet(hello)
        return self._socket.end is None and self._not_now is None

    async def _resume_point(self, hello: Hello, epoch: str, known: int) -> ResumePoint:
        log, history, opening, copied_next = self._parts.log, hello.history, "", 0
        if history is not None:
            self._opening = history.opening
            _, opening = await log.history_of(self._source)
            if history.copied:
                copied_next = await self._copied_next(history.copied)
        point = resume_point(hello, epoch, known, opening, copied_next)
        begins = copied_next > 0 and not known
        self._is_copy = begins or (point.forked and not self._begins_anew)
        return point

    def _lacks_place(self, known: int) -> bool:
        """Whether all who are connected might find no place among the sources."""
        return not known and self._parts.log.places_left() <= 2 * self._parts.listen.connections

    # Appending and answering.

    def _entry(
        self,
        numbers: int,
        runs: tuple[Run, ...],
        blocks: tuple[ForeignBlock, ...],
        refused: tuple[Quarantined, ...],
    ) -> Entry:
        """What was read, under the numbers that it has used up."""
        upto, in_flight = self._session.number, self._session.bytes_in_flight
        if in_flight > self._share.peak:
            self._share.peak = in_flight
        # Told with the first numbers of a session, and not before its sender has been welcomed: it
        # may see then that what is here is not of its history, and send nothing.
        opening, self._opening = self._opening, None
        numbering = Numbering(self._source, upto - numbers, upto, False, self._owner, None, opening)
        return Entry(runs, blocks, numbering, (), refused)

    async def _append(self, taken: Taken, *, soon: bool = False) -> None:
        self._parts.count(taken.messages, taken.records, taken.size, taken.quarantine)
        if not taken.numbers:
            return
        upto = self._session.number
        entry = self._entry(taken.numbers, taken.runs, taken.blocks, taken.quarantine)
        try:
            # Numbers of what is here already are all that a resend may bring for a long time.
            lazy = is_lazy(entry) and not self._leaves_out
            ticket = await self._parts.log.append(entry, lazy=lazy, soon=soon)
        except Closed:
            self._socket.interrupt("closing")
        else:
            self._answers.owe(Owed(ticket, upto))

    def tell(self, done: Sequence[Owed]) -> None:
        """Nacks and the ack."""
        upto = done[-1].upto
        session, share = self._session, self._share
        self._parts.windows.review(share, session.bytes_in_flight)
        if share.granted != share.told:
            share.told = share.granted
            session.grant(self._window())
        if messages := session.committed(upto):
            self._socket.send_soon(*messages)
        if self._parts.trace is not None:
            self._parts.tell("acked", source=self._source, next=upto)
        self._go_on()

    def _window(self) -> Window:
        return Window(self._parts.limits.window_records, self._share.granted)

    def _taken_over(self) -> None:
        self._socket.interrupt("taken_over")
        self._answers.hurry()

    # The end.

    async def _conclude(self, claim: Claim) -> None:
        """Reading has ended: settle, say goodbye, and stay until everything has its answer."""
        await self._use_up_number()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._release, claim)
            await self._farewell()

    async def _release(self, claim: Claim) -> None:
        await self._answers.settled()
        # The next connection need not wait for the goodbye: a peer that has vanished answers none.
        self._parts.claims.release(claim)

    async def _use_up_number(self) -> None:
        """What made reading end, if it was a message that cannot be read, may use up a number."""
        socket, session = self._socket, self._session
        if socket.too_big_bytes is not None and socket.end == "too_big":
            session.fail(self._too_big())
        elif socket.violation == CLOSE_UNDECODABLE and not socket.has_peer_closed:
            session.fail(Undecodable("text is not UTF-8"))
        failure = session.failure
        if failure is None or failure.close_code not in (CLOSE_UNDECODABLE, CLOSE_TOO_BIG):
            return
        if self._parts.failures.note(self._source, session.number) < 2:
            return
        self._parts.failures.forget(self._source)
        reject = session.use_up_number(self._unreadable, self._visitor.target.name)
        kept = quarantined(reject, self._source, self._parts.clock.read().wall_ns)
        await self._append(Taken((), (), (kept,), 1, 1, 1, 0))

    def _stop(self, reason: NotNow) -> LastWords:
        goodbye = self._session.stop(reason.code, reason.retry_after, reason.message)
        return LastWords(goodbye.message, goodbye.close_code, goodbye.reason)

    @property
    def _failure(self) -> ProtocolError | None:
        return self._session.failure


def is_lazy(entry: Entry) -> bool:
    """Where rules or the loop check left nothing to store, the numbers alone are worth no commit
    of their own.
    """
    return not (entry.runs or entry.blocks or entry.quarantine)


async def _settle(ticket: Ticket | None) -> None:
    if ticket is not None:
        try:
            await ticket.wait()
        except (StoreFull, StoreFailed):
            pass  # Refused is settled too.
