"""One session over one WebSocket, from hello to close.

Three tasks: one sends what the buffer holds, as much as the window allows, several records a
message; one reads what the agent says; one pings, because a link that died silently otherwise
shows only when something is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection

from edge_agent.client.buffer import Buffer
from edge_agent.client.dial import close_websocket
from edge_agent.client.encoding import Format, encode_message, joining_bytes
from edge_agent.client.position import ProducerPosition
from edge_agent.client.reports import Callbacks, Opened, Trouble, TroubleKind
from edge_agent.client.wakeup import Wakeup
from edge_agent.errors import ProtocolError, StoreFailed
from edge_agent.session import (
    CLOSE_PROTOCOL,
    CLOSE_TAKEN_OVER,
    FORBIDDEN,
    Ack,
    ClientSession,
    Nack,
    Resume,
    Stop,
)

#: Messages are kept below this even where the agent takes larger ones, so that acks and pings
#: are not stuck behind a long one on a slow link.
MESSAGE_BYTES = 256 * 1024
#: Seconds for the welcome: a takeover first lets the old connection's appends settle.
WELCOME_TIMEOUT = 30.0
#: Seconds that a stopping agent has for its last acks and its close.
STOP_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a connection is over; attributes as in `Trouble`, and the WebSocket close code."""

    kind: TroubleKind
    message: str
    code: str = ""
    close_code: int = 1006
    retry_after: float | None = None


class ClientConnection:
    """See the module. One instance per connection.

    Args:
        websocket: open, with a session subprotocol agreed; closed when `run` returns.
        buffer, position: what outlives the connection; while it runs nobody else reads the one
            or moves the other.
        fresh: woken when the buffer has new records.
        settle: called when ``position.done_below`` may have moved; forgets in the buffer what
            is done and tells the owner.
    """

    def __init__(
        self,
        websocket: WebSocketConnection,
        buffer: Buffer,
        position: ProducerPosition,
        *,
        source: str,
        form: Format,
        ping_interval: float,
        fresh: Wakeup,
        callbacks: Callbacks,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._websocket = websocket
        self._buffer = buffer
        self._position = position
        self._source = source
        self._form = form
        self._ping_interval = ping_interval
        self._fresh = fresh
        self._callbacks = callbacks
        self._settle = settle
        self._answered = Wakeup()
        self._session = ClientSession(form)
        self._welcomed = False
        self._stop: Stop | None = None
        self._ended: Ended | None = None
        self._patience = trio.CancelScope()
        self.progressed = False

    async def run(self) -> Ended:
        """Hold the session until it ends, and say why.

        Afterwards ``progressed`` says whether an ack came, that is, whether it was worth it.
        """
        try:
            async with trio.open_nursery() as nursery:
                ended = await self._receive(nursery)
                nursery.cancel_scope.cancel()
        finally:
            await close_websocket(self._websocket)
        self._position.closed(ended.close_code)
        return ended

    async def _receive(self, nursery: trio.Nursery) -> Ended:
        self._patience.deadline = trio.current_time() + WELCOME_TIMEOUT
        try:
            with self._patience:
                buffer = self._buffer
                greeting = self._position.greeting(buffer.first)
                history = self._position.history(buffer.first, buffer.opening, buffer.before)
                await self._websocket.send_message(
                    self._session.hello(self._source, *greeting, history)
                )
                while True:
                    said = self._session.receive(await self._websocket.get_message())
                    if isinstance(said, Resume):
                        await self._welcome(said)
                        nursery.start_soon(self._send)
                        nursery.start_soon(self._ping)
                    elif isinstance(said, Ack):
                        await self._ack(said)
                    elif isinstance(said, Nack):
                        self._nack(said)
                    elif isinstance(said, Stop):
                        self._stop = said
                        self._patience.deadline = trio.current_time() + STOP_TIMEOUT
        except ConnectionClosed as closed:
            return self._why(closed.reason)
        except ProtocolError as error:
            return Ended(
                "lost", f"the agent broke the protocol: {error}", error.code, CLOSE_PROTOCOL
            )
        except StoreFailed as error:
            return Ended("buffer", str(error))
        return self._ended or self._why(None)

    async def _welcome(self, resume: Resume) -> None:
        position = self._position
        resumed = position.epoch == resume.epoch
        told = position.welcome(resume, self._buffer.first)
        # Before anything is sent under it: after a power cut it is the key to what was sent.
        await self._buffer.remember(resume.epoch, position.shift)
        self._welcomed = True
        self._patience.deadline = float("inf")
        self._callbacks.on_open(Opened(resume.epoch, position.done_below, resumed))
        if told:
            self._callbacks.on_error(Trouble("renumbered", told))
        await self._settle()

    async def _ack(self, ack: Ack) -> None:
        self._position.ack(ack.next)
        self.progressed = True
        await self._settle()
        self._answered.notify()

    def _nack(self, nack: Nack) -> None:
        number = self._position.nack(nack.at)
        if number is not None:
            self._callbacks.on_error(Trouble("nack", nack.message, nack.code, number))

    async def _send(self) -> None:
        try:
            number = max(self._position.done_below, self._buffer.first)
            # The agent's stop ends sending; its close ends everything.
            while self._stop is None:
                number = max(number, self._position.done_below)
                if number >= self._buffer.next:
                    # What was handed over may be done already (`ProducerPosition.numbered`).
                    await self._settle()
                    if number < self._buffer.next:
                        continue
                    # No deadline: a sensor may have nothing to say for days.
                    await self._fresh.wait()
                    continue
                records = await self._next_batch(number)
                message = encode_message(records, self._form)
                if not self._session.may_send(len(records), len(message)):
                    # No deadline: the pings notice if the other side is gone.
                    await self._answered.wait()
                    continue
                # Before it leaves: once a byte is out, the agent may have it.
                self._session.sent(len(records), len(message))
                self._position.sending(number, len(records))
                number += len(records)
                await self._websocket.send_message(message)
        except ConnectionClosed:
            # The receiver reads what is left (acks, the reason) and ends the connection.
            return
        except StoreFailed as error:
            self._end(Ended("buffer", str(error)))

    async def _next_batch(self, number: int) -> list[bytes]:
        """Records from ``number`` on, at least one, as many as limits and window allow."""
        position, session = self._position, self._session
        most = 1 if number < position.singly_below else position.limits.batch_records
        most = max(1, min(most, session.window.records - session.records_in_flight))
        room = session.window.bytes - session.bytes_in_flight
        room = min(MESSAGE_BYTES, position.limits.message_bytes, room)
        return await self._buffer.read(number, most, room - joining_bytes(most, self._form))

    async def _ping(self) -> None:
        try:
            while True:
                await trio.sleep(self._ping_interval)
                with trio.fail_after(self._ping_interval):
                    await self._websocket.ping()
        except ConnectionClosed:
            return
        except trio.TooSlowError:
            self._end(Ended("lost", f"no answer to a ping within {self._ping_interval:g} s"))

    def leave(self) -> None:
        """End the connection politely; `run` returns soon."""
        self._end(Ended("lost", "closed by this side", close_code=1000))

    def _end(self, ended: Ended) -> None:
        self._ended = self._ended or ended
        self._patience.cancel()

    def _why(self, reason: CloseReason | None) -> Ended:
        code = 1006 if reason is None else reason.code
        if self._stop is not None:
            stop = self._stop
            if stop.code in FORBIDDEN:
                told = stop.message or stop.code
                return Ended("refused", f"the agent refuses: {told}", stop.code, code, None)
            message = f"the agent takes nothing now: {stop.message or stop.code}"
            return Ended("stop", message, stop.code, code, stop.retry_after)
        if not self._welcomed and self._patience.cancelled_caught:
            return Ended("lost", f"no welcome within {WELCOME_TIMEOUT:g} s")
        if code == CLOSE_TAKEN_OVER:
            return Ended("lost", "another connection took this source over", close_code=code)
        text = (reason.reason if reason is not None else None) or "the connection broke"
        return Ended("lost", f"closed ({code}): {text}", close_code=code)
