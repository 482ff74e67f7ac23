"""A session whose messages are taken one list after another, because looking at them may wait.

What they mean is the `Intake`'s business. `forwarded` is the one there is: an agent's blocks are
decompressed and judged elsewhere than in the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from edge_agent.server.parts import Parts, Visitor
from edge_agent.server.session import SessionBase, Taken
from edge_agent.server.websocket import WebSocket
from edge_agent.wire import Hello, ServerSession, WireLimits
from edge_agent.wire.control import Mode


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


class SessionPump(SessionBase):
    """One session with an `Intake`. `run` is called once."""

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
        super().__init__(socket, parts, visitor, mode=mode, limits=limits)
        self._intake = intake
        self._room = trio.Event()

    def _source_of(self, hello: Hello) -> str:
        return self._intake.source_of(hello)

    def _go_on(self) -> None:
        self._room.set()

    async def _read(self, messages: list[str | bytes]) -> None:
        name = self._visitor.grant.name
        while messages or (messages := await self._socket.take()):
            if self._is_over_rate():
                return
            taken = await self._intake.take_in(self._session, self._source, messages)
            self._parts.rates.charge(name, taken.records, trio.current_time())
            await self._append(taken)
            if self._session.failure is not None:
                unread = messages[taken.messages]
                self._unreadable = unread if isinstance(unread, bytes) else unread.encode()
                return
            messages = []
            await self._wait_room()

    async def _wait_room(self) -> None:
        while not self._session.has_room and self._socket.end is None:
            self._room = trio.Event()
            with self._socket.until_end():
                await self._room.wait()
