"""The way to the agent, again and again: attempt, session, wait, attempt.

Owns the buffer's far end: what the agent has is forgotten here, and told.
"""

from __future__ import annotations

import logging
import random as random_module
from dataclasses import dataclass

import trio

from edge_agent.client.buffer import Buffer
from edge_agent.client.connection import ClientConnection, Ended
from edge_agent.client.dial import Address, Unreachable, close_websocket, open_websocket
from edge_agent.client.encoding import Format
from edge_agent.client.position import ProducerPosition
from edge_agent.client.reports import Callbacks, Trouble
from edge_agent.client.wakeup import Wakeup
from edge_agent.net.backoff import Backoff
from edge_agent.net.dial import Dial
from edge_agent.session import CLOSE_TAKEN_OVER, JSON_SESSION, MSGPACK_SESSION

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a `Producer` was given, as far as the way to the agent needs it."""

    address: Address
    source: str
    form: Format
    token: str | None
    numbered: bool
    connect_timeout: float
    ping_interval: float
    backoff: Backoff
    random: random_module.Random
    dial: Dial


class SessionLoop:
    """See the module.

    Attributes:
        fresh: to be woken when the buffer has new records.
        acked: wakes who waits for room or for acks.
    """

    def __init__(self, settings: LinkSettings, buffer: Buffer, callbacks: Callbacks) -> None:
        self._settings = settings
        self._buffer = buffer
        self._callbacks = callbacks
        self._connection: ClientConnection | None = None
        self._leaving: trio.Event | None = None
        #: What went wrong last, "" once something is acked again.
        self.trouble = ""
        self.fresh = Wakeup()
        self.acked = Wakeup()
        self.position = ProducerPosition(
            numbered=settings.numbered,
            epoch=buffer.epoch,
            shift=buffer.shift,
            # What an earlier process sent is not known: all that it kept may have arrived.
            sent_below=buffer.next,
            done_below=buffer.first,
        )

    async def run(self) -> None:
        """Until `leave`, or until cancelled."""
        failures = 0
        while True:
            trouble, failures = await self._attempt(failures + 1)
            if self._leaving is not None:
                self._leaving.set()
                return
            assert trouble.retry_in is not None
            logger.debug("%s: %s", self._settings.source, trouble)
            self.trouble = trouble.message
            self._callbacks.on_error(trouble)
            await trio.sleep(trouble.retry_in)

    async def leave(self) -> None:
        """Say goodbye where there is somebody to say it to. A second or two at most."""
        if self._connection is not None:
            self._leaving = trio.Event()
            self._connection.leave()
            await self._leaving.wait()

    async def settle(self) -> None:
        """Forget what is done, and tell."""
        before = self._buffer.first
        await self._buffer.acknowledge(self.position.done_below)
        if self._buffer.first > before:
            self.trouble = ""
            self._callbacks.on_ack(self._buffer.first - 1)
            self.acked.notify()

    async def _attempt(self, failures: int) -> tuple[Trouble, int]:
        """One connection, to its end: what to tell, and how many failures in a row that makes."""
        settings = self._settings
        async with trio.open_nursery() as nursery:
            try:
                websocket = await open_websocket(
                    nursery,
                    settings.address,
                    [JSON_SESSION if settings.form == "json" else MSGPACK_SESSION],
                    token=settings.token,
                    timeout=settings.connect_timeout,
                    dial=settings.dial,
                )
            except Unreachable as error:
                return self._unreachable(error, failures), failures
            if websocket.subprotocol is None:
                await close_websocket(websocket)
                nursery.cancel_scope.cancel()
                stranger = Unreachable("what answers there is not an agent", slow=True)
                return self._unreachable(stranger, failures), failures
            connection = ClientConnection(
                websocket,
                self._buffer,
                self.position,
                source=settings.source,
                form=settings.form,
                ping_interval=settings.ping_interval,
                fresh=self.fresh,
                callbacks=self._callbacks,
                settle=self.settle,
            )
            self._connection = connection
            ended = await connection.run()
            self._connection = None
            # Where a send failed, the library takes the connection for closed and leaves its reader
            # waiting; that must not hold up the next attempt.
            nursery.cancel_scope.cancel()
        # Whoever takes a source over again and again must slow down, even if acks come between.
        if connection.progressed and ended.close_code != CLOSE_TAKEN_OVER:
            failures = 1
        self._callbacks.on_close(ended.message)
        return self._lost(ended, failures), failures

    def _unreachable(self, error: Unreachable, failures: int) -> Trouble:
        return Trouble(
            "unreachable" if error.status is None else "refused",
            str(error),
            status=error.status or 0,
            retry_in=self._delay(failures, error.retry_after, slow=error.slow),
            lasting=error.slow,
        )

    def _lost(self, ended: Ended, failures: int) -> Trouble:
        # Taken over by a living peer of the same name: hurrying back would only throw it out.
        # Where the name is somebody else's, nothing changes until a person does something.
        lasting = ended.kind == "refused"
        slow = ended.close_code == CLOSE_TAKEN_OVER or lasting
        delay = self._delay(failures, ended.retry_after, slow=slow)
        return Trouble(ended.kind, ended.message, ended.code, retry_in=delay, lasting=lasting)

    def _delay(self, failures: int, retry_after: float | None, *, slow: bool = False) -> float:
        settings = self._settings
        return settings.backoff.delay(failures, settings.random, retry_after=retry_after, slow=slow)
