"""The server accepts, counts and guards connections, and says goodbye in the right order.

Each listener has a loop of its own (after Trio's ``serve_listeners``); each connection has a task
with a guard around it. The guard catches every `Exception`, logs and counts it, so that no peer
can harm another; it never catches ``Cancelled``.

What all connections share is supervised (`edge_agent.supervise`): a mistake of ours in it is told
in journal and health, and the task is run again after `SHARED_REST_S` at most.

============================== =====================================================================
reading plain sockets          run again: every connection's own task comes back to the set
telling acks                   run again: who is due still is. An ack is late, never early; whoever
                               it failed at is told nothing more, and its connection ends
giving turns                   run again: who waits still does, its socket unread
looking for silence            run again, without the connection that it failed at
following, judging by tokens   run again: the tokens known last hold, and all are judged anew
accepting                      run again on the same socket
a listening socket from which  the agent, once everybody has been told goodbye: nobody can come in,
the kernel lets nobody in      and only a new start opens another one
============================== =====================================================================

None of them has acked data in its hands: what is acked was synced before it gets here, and what is
lost with a task was never told. So running it again risks nothing, while a new process would throw
everybody out and then meet the same mistake.

Stopping: the listeners end first, then every connection is told and ends itself within
``close_timeout``; what is left a second after that is cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import trio
from msgspec import structs

from edge_agent.config import Listen
from edge_agent.copied_sources import CopiesSeen
from edge_agent.net.accepting import Sieve, next_connection
from edge_agent.security.tokens import Tokens
from edge_agent.server.connection import Connection
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.transport import abort
from edge_agent.supervise import supervised

logger = logging.getLogger(__name__)

#: Keys of ``[listen]`` that can change while it runs. Others are counted on when memory is divided
#: (connections), or decide who has to prove what (address, tokens, TLS).
RELOADED = ("hosts", "origins", "handshake_timeout", "close_timeout")
#: The longest wait before a shared task is run again: everybody waits for it.
SHARED_REST_S = 5.0
#: Beyond ``close_timeout``, what a connection gets to end by itself when the agent stops.
_GRACE_S = 1.0


class Server:
    """Everything on the sensors' port. `run` is called once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        parts.log.note_connected(parts.claims.is_held)
        self._connections: set[Connection] = set()
        self._open = 0
        self._accepting = trio.CancelScope()
        self._broken: OSError | None = None

    async def run(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `stop` and until every connection has ended; closes ``listeners``.

        Raises:
            OSError: one of them is broken; everybody has been told goodbye.
        """
        async with trio.open_nursery() as common:
            for what, task in self._shared_tasks():
                common.start_soon(self._supervised, what, task)
            async with trio.open_nursery() as handlers:
                with self._accepting:
                    async with trio.open_nursery() as loops:
                        for listener in listeners:
                            loops.start_soon(self._accept, listener, handlers)
                        task_status.started()
                self._parts.sent_away = len(self._connections)
                # Also where a listener broke: what is connected still gets its goodbye.
                for connection in tuple(self._connections):
                    connection.say_goodbye()
                timeout = self._parts.listen.close_timeout + _GRACE_S
                handlers.cancel_scope.deadline = trio.current_time() + timeout
            common.cancel_scope.cancel("every connection has ended")
        if self._broken is not None:
            raise self._broken

    def stop(self) -> None:
        """Accept nobody, say goodbye to everybody; `run` returns soon after. Idempotent."""
        self._accepting.cancel()

    def take_up(self, listen: Listen) -> Listen:
        """Let what ``listen`` says of `RELOADED` hold from now on; what is in force then."""
        new = {key: getattr(listen, key) for key in RELOADED}
        self._parts.listen = structs.replace(self._parts.listen, **new)
        return self._parts.listen

    @property
    def copies(self) -> CopiesSeen:
        """Sources that came back as copies since the start."""
        return self._parts.copies.seen

    def part(self, sources: AbstractSet[str], identities: AbstractSet[str]) -> None:
        """End the connections of ``sources``, and those by which ``identities`` forward; whoever
        comes back is judged anew.
        """
        parted = [
            connection
            for connection in self._connections
            if (who := connection.visitor) is not None
            and (
                who.source in sources
                or (who.target.kind == "forward" and who.grant.name in identities)
            )
        ]
        self._parts.sent_away = len(parted)
        for connection in parted:
            connection.say_goodbye()

    def connections(self) -> list[Visitor]:
        """All that have been let in, the oldest first."""
        found = [one.visitor for one in self._connections if one.visitor is not None]
        return sorted(found, key=lambda visitor: visitor.since_ns)

    async def _accept(
        self, listener: trio.abc.Listener[trio.abc.Stream], handlers: trio.Nursery
    ) -> None:
        async with self._sieved(listener) as door:
            await self._supervised("accepting", partial(self._accept_all, door, handlers))

    async def _accept_all(
        self, door: trio.abc.Listener[trio.abc.Stream], handlers: trio.Nursery
    ) -> None:
        while True:
            try:
                stream = await next_connection(door, "the sensors' port")
            except OSError as error:
                what = f"listen.address = {self._parts.listen.address}: nobody can connect any"
                self._broken = OSError(error.errno, f"{what} more: {error.strerror or error}")
                self.stop()
                return
            if len(self._connections) >= self._connections_max:
                self._parts.metrics.add("connections_refused_total", 1, "full")
                await abort(stream)
            else:
                handlers.start_soon(self._guard, stream)

    def _sieved(
        self, listener: trio.abc.Listener[trio.abc.Stream]
    ) -> trio.abc.Listener[trio.abc.Stream]:
        """``listener``, with a sieve under it where it has a socket."""
        if isinstance(listener, trio.SSLListener):
            listener.transport_listener = self._sieved(listener.transport_listener)
        elif isinstance(listener, trio.SocketListener):
            key = "listen.unproved_per_address"
            parts = self._parts
            has_room = parts.unproved.has_room
            return Sieve(listener, parts.arrivals, self._turned_away, key, has_room)
        return listener

    def _turned_away(self, address: str, reason: str, sentence: str, times: int) -> None:
        self._parts.metrics.add("connections_refused_total", times, reason)
        self._parts.refused.note("listen.address", address, reason, sentence, times)

    @property
    def _connections_max(self) -> int:
        # Those whose socket is gone, or closes, wait only for commits and their peers; but while
        # the disk refuses, they too must not grow without bound.
        return 2 * self._parts.listen.connections + self._parts.listen.unproved

    def _shared_tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What all connections share, each with its name; see the module."""
        parts = self._parts
        found: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("telling acks", parts.teller.run),
            ("looking for silence", parts.silence.run),
            ("giving turns", parts.turns.run),
        ]
        if parts.reader is not None:
            found.append(("reading plain sockets", parts.reader.run))
        if parts.tokens is not None:
            found.append(("following tokens", parts.tokens.watch))
            found.append(("judging by tokens", partial(self._follow, parts.tokens)))
        return found

    async def _supervised(self, what: str, task: Callable[[], Awaitable[None]]) -> None:
        await supervised(what, task, metrics=self._parts.metrics, longest_s=SHARED_REST_S)

    async def _follow(self, tokens: Tokens) -> None:
        """Disconnect whoever may no longer do what it was let in for."""
        while True:
            # Before the first wait, too: this may have failed in the middle of it.
            for connection in tuple(self._connections):
                connection.judge_again(tokens)
            await tokens.changed()

    async def _guard(self, stream: trio.abc.Stream) -> None:
        connection: Connection | None = None
        is_open = True

        def closed() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self._count(-1)

        self._count(1)
        self._parts.metrics.add("connections_total")
        try:
            connection = Connection(stream, self._parts, closed)
            self._connections.add(connection)
            await connection.serve()
        except* Exception:
            # Whatever it was, it was about this peer; the others must not hear of it.
            self._parts.metrics.add("connection_faults_total")
            logger.exception("a connection ended in an error that nobody expected")
        finally:
            closed()
            if connection is not None:
                self._connections.discard(connection)

    def _count(self, change: int) -> None:
        self._open += change
        self._parts.metrics.set("connections", self._open)
