"""The session pump: hello, takeover, welcome, data, acks, goodbye. For sensors and for agents.

What a message means is the `Intake`'s business (`ingest.py` for sensors, `forwarded.py` for
agents); when what may be said is `edge_agent.wire.ServerSession`'s. This module moves between the
socket, the log and those two::

    socket ─▶ take ─▶ ServerSession ─▶ Intake ─▶ log.append ─▶ Answers ─▶ ack, nack ─▶ socket

It ends in one way, whatever the reason: nothing further is accepted, what was accepted gets some
time to be committed and acked, then the socket is closed (`farewell`), and the pump stays until
everything that it appended has its answer, because the next connection of that source waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import ProtocolError, StoreFailed, StoreFull
from edge_agent.record import ForeignBlock, Run, format_time
from edge_agent.server.answers import Answers, Owed
from edge_agent.server.endings import (
    LastWords,
    NotNow,
    close_of,
    not_now,
    quarantined,
    say_goodbye,
    why_not_now,
)
from edge_agent.server.parts import Parts, Visitor
from edge_agent.server.takeover import Claim
from edge_agent.server.websocket import WebSocket
from edge_agent.store import Entry, Numbering, Quarantined
from edge_agent.wire import (
    CLOSE_FORBIDDEN,
    CLOSE_TOO_BIG,
    CLOSE_UNDECODABLE,
    Hello,
    ServerSession,
    Stop,
    TooBigMessage,
    Undecodable,
    Window,
    WireLimits,
    encode_control,
    resume_point,
)
from edge_agent.wire.control import Mode


@dataclass(frozen=True, slots=True)
class Taken:
    """What a list of messages becomes: parts of one entry, and how far its numbers go."""

    runs: tuple[Run, ...]
    blocks: tuple[ForeignBlock, ...]
    quarantine: tuple[Quarantined, ...]
    messages: int
    numbers: int
    records: int
    size: int


class Intake(Protocol):
    """What the messages of a session mean."""

    def source_of(self, hello: Hello) -> str:
        """The name under which the source's numbers are stored.

        Raises:
            ProtocolError: the peer may not use it.
        """
        ...

    async def take_in(
        self, session: ServerSession, source: str, messages: Sequence[str | bytes]
    ) -> Taken:
        """Read messages that the session has room for; failures are in ``session.failure``."""
        ...


class SessionPump:
    """One session. `run` is called once."""

    def __init__(
        self,
        socket: WebSocket,
        parts: Parts,
        visitor: Visitor,
        intake: Intake,
        *,
        mode: Mode,
        limits: WireLimits,
    ) -> None:
        self._socket, self._parts, self._visitor = socket, parts, visitor
        self._intake = intake
        self._mode: Mode = mode
        self._limits = limits
        self._share = parts.windows.open()
        self._session = ServerSession(mode, limits, self._window())
        self._answers = Answers(parts.log, self._tell, self._refused)
        self._room = trio.Event()
        self._source = ""
        self._not_now: NotNow | None = None
        self._unreadable = b""

    async def run(self) -> None:
        """From hello to the last answer."""
        try:
            await self._run()
        finally:
            self._parts.windows.close(self._share)
            self._session.close()

    async def _run(self) -> None:
        messages = await self._first()
        if not messages:
            await self._farewell()
            return
        try:
            hello = self._session.receive_hello(messages[0])
            self._source = self._visitor.source = self._intake.source_of(hello)
        except ProtocolError as error:
            await self._turn_away(error)
            return
        claim = self._parts.claims.take(self._source, self._taken_over)
        try:
            if await self._welcome(hello, claim):
                await self._serve(messages[1:], claim)
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
        message = encode_control(Stop(error.code, 0.0, error.message[:1000]), self._mode)
        with trio.move_on_after(self._parts.listen.close_timeout):
            await self._socket.send(message)
        code = error.close_code or CLOSE_FORBIDDEN
        await self._socket.close(code, error.message, self._parts.listen.close_timeout)

    async def _welcome(self, hello: Hello, claim: Claim) -> bool:
        """Settle what was before, agree on ``next`` and say so. False where it came to nothing."""
        log = self._parts.log
        ticket: Ticket | None = None
        try:
            with self._socket.until_end():
                await self._parts.claims.settled(claim)
                epoch = log.identity.epoch
                point = resume_point(hello, epoch, await log.next_of(self._source))
                if point.restart:
                    numbering = Numbering(self._source, point.next, point.next, restart=True)
                    # Once in the life of a source, while its peer waits: not worth the interval.
                    ticket = await log.append(Entry(numbering=numbering), soon=True)
                    await ticket.wait()
        except (StoreFull, StoreFailed, Closed) as refusal:
            self._not_now = not_now(refusal, self._parts.random)
        if self._socket.end is not None or self._not_now is not None:
            await _settle(ticket)
            return False
        reading = self._parts.clock.read()
        time = format_time(reading.wall_ns) if reading.synced else ""
        self._parts.tell("welcome", source=self._source, next=point.next, restart=point.restart)
        return await self._socket.send(self._session.welcome(point.next, epoch, time))

    async def _serve(self, messages: list[str | bytes], claim: Claim) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer, claim)
            await self._read(messages)
            await self._conclude()
            self._answers.finish()
            await self._farewell()

    async def _answer(self, claim: Claim) -> None:
        await self._answers.run()
        # The next connection need not wait for the goodbye: a peer that has vanished answers none.
        self._parts.claims.release(claim)

    async def _read(self, messages: list[str | bytes]) -> None:
        rates, name = self._parts.rates, self._visitor.grant.name
        while messages or (messages := await self._socket.take()):
            if wait := rates.wait(name, trio.current_time()):
                self._not_now = NotNow("rate", wait, f"{name} sends faster than it may")
                return
            taken = await self._intake.take_in(self._session, self._source, messages)
            rates.charge(name, taken.records, trio.current_time())
            await self._append(taken)
            if self._session.failure is not None:
                unread = messages[taken.messages]
                self._unreadable = unread if isinstance(unread, bytes) else unread.encode()
                return
            messages = []
            await self._wait_room()

    async def _append(self, taken: Taken) -> None:
        self._parts.count(taken.messages, taken.records, taken.size, taken.quarantine)
        if not taken.numbers:
            return
        session, visitor = self._session, self._visitor
        visitor.next, visitor.in_flight_bytes = session.number, session.bytes_in_flight
        self._share.peak = max(self._share.peak, session.bytes_in_flight)
        entry = Entry(
            runs=taken.runs,
            blocks=taken.blocks,
            numbering=Numbering(self._source, session.number - taken.numbers, session.number),
            quarantine=taken.quarantine,
        )
        # Where rules or the loop check left nothing to store, the numbers alone are worth no
        # commit of their own.
        lazy = not (taken.runs or taken.blocks or taken.quarantine)
        try:
            ticket = await self._parts.log.append(entry, lazy=lazy)
        except Closed:
            self._socket.interrupt("closing")
        else:
            self._answers.owe(Owed(ticket, session.number))

    async def _wait_room(self) -> None:
        while not self._session.has_room and self._socket.end is None:
            self._room = trio.Event()
            with self._socket.until_end():
                await self._room.wait()

    async def _tell(self, done: Sequence[Owed]) -> None:
        upto = done[-1].upto
        self._parts.windows.review(self._share, self._session.bytes_in_flight)
        if self._share.granted != self._share.told:
            self._share.told = self._share.granted
            self._session.grant(self._window())
        for message in self._session.committed(upto):
            if not await self._socket.send(message):
                break
        self._visitor.acked = upto
        self._visitor.in_flight_bytes = self._session.bytes_in_flight
        self._parts.tell("acked", source=self._source, next=upto)
        self._room.set()

    def _window(self) -> Window:
        return Window(self._parts.limits.window_records, self._share.granted)

    def _refused(self) -> None:
        self._socket.interrupt("refused")
        self._room.set()

    def _taken_over(self) -> None:
        self._socket.interrupt("taken_over")
        self._answers.hurry()

    async def _conclude(self) -> None:
        """What made reading end, if it was a message that cannot be read, may use up a number."""
        socket, session = self._socket, self._session
        if socket.too_big is not None and socket.end == "too_big":
            most = self._limits.message_bytes
            session.fail(TooBigMessage(f"a message has at most {most} bytes, got {socket.too_big}"))
        elif socket.violation == CLOSE_UNDECODABLE:
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

    async def _farewell(self) -> None:
        timeout = self._parts.listen.close_timeout
        await say_goodbye(self._socket, self._answers, timeout, self._last_words)

    def _last_words(self) -> LastWords:
        reason = why_not_now(self._not_now, self._answers, self._socket, self._parts.random)
        if reason is None:
            return LastWords(None, *close_of(self._socket.end, self._session.failure))
        self._parts.metrics.add("stops_total", 1, reason.code)
        goodbye = self._session.stop(reason.code, reason.retry_after, reason.message)
        return LastWords(goodbye.message, goodbye.close_code, goodbye.reason)


async def _settle(ticket: Ticket | None) -> None:
    if ticket is not None:
        try:
            await ticket.wait()
        except (StoreFull, StoreFailed):
            pass  # Refused is settled too.
