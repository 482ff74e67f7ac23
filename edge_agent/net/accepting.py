"""Opens a port, and judges each new connection by its address, before it costs anything.

A connection costs a port half a millisecond until it is known that it proves nothing: a task, a
place, a look at its request. Opening one costs its peer a tenth of that. So whoever connects
thousands of times a second and says nothing would have the whole event loop, and everybody else
would wait behind it in the kernel's queue. `Sieve` stands under a port's listener: it takes that
queue as fast as it grows, lets through whom `Arrivals` hears, and resets the rest on the spot.

In one pass of the event loop it lets one newcomer through, or turns `BATCH` away, one or two
milliseconds' work; after that it rests for as long, so that no storm has more than half of the
processor.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import trio

from edge_agent.net.connection_quota import Arrivals
from edge_agent.net.kept_sockets import Endpoint, KeptSockets
from edge_agent.output.printable import why

logger = logging.getLogger(__name__)

Accepted = TypeVar("Accepted", bound=trio.abc.AsyncResource)

#: Turned away in one pass of the event loop, and the rest after that.
BATCH = 64
REST_S = 0.002
#: Between two looks whether there is a place.
_NO_ROOM_S = 0.01
#: A reset: nothing of ours is left of the connection, no TIME_WAIT either.
_RESET = struct.pack("ii", 1, 0)
#: accept(2) fails with these when the machine is out of something; it may soon have some again.
PASSING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
#: accept(2) fails with these where a connection died in the queue. The next one may be sound.
_ITS_OWN = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN"),
        *("EHOSTUNREACH", "ENOPROTOOPT", "EOPNOTSUPP"),
    )
)

Refused = Callable[[str, str, str, int], None]
"""Is told of peers that were refused: address, reason, sentence, and how many there were."""


#: The connection waits in the kernel's queue meanwhile.
_PASSING_PAUSE_S = 0.1
#: How long, and how much, is read on before a close, so that our answer is not lost to a reset.
LINGER_S = 1.0
LINGER_BYTES = 256 * 1024


async def next_connection(door: trio.abc.Listener[Accepted], port: str) -> Accepted:
    """The next connection to ``port``, however long the machine is out of something.

    Raises:
        OSError: nobody can connect any more.
    """
    while True:
        try:
            return await door.accept()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            logger.warning("%s cannot accept a connection: %s", port, error)
            await trio.sleep(_PASSING_PAUSE_S)


async def linger(stream: trio.abc.Stream) -> None:
    """Say that nothing more comes, and read on for a moment: a close with unread bytes would take
    our answer away again.
    """
    with trio.move_on_after(LINGER_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        taken = 0
        while taken < LINGER_BYTES and (data := await stream.receive_some(65536)):
            taken += len(data)


def cannot_listen(error: OSError) -> str:
    """Why nothing can listen at an address, and what helps where somebody does already."""
    if error.errno != errno.EADDRINUSE:
        return why(error)
    by = "by an agent that runs already, or by another program: stop it, or take another port"
    return f"{why(error)} ({by})"


async def listen_on(
    host: str, port: int, key: str, kept: KeptSockets | None = None
) -> list[trio.SocketListener]:
    """Sockets on an address, which stands under ``key`` in the configuration: those that are
    ``kept`` for it, and new ones, which are kept from then on.

    Raises:
        OSError: the address is taken or not this machine's; says the key and the address.
    """
    kept = KeptSockets() if kept is None else kept
    try:
        held = [kept.get(where) for where in await endpoints(host, port)]
        wrap = trio.socket.from_stdlib_socket
        found = [trio.SocketListener(wrap(one)) for one in held if one is not None]
        if not found:
            found = await trio.open_tcp_listeners(port, host=host or None)
    except OSError as error:
        text = f"{key} = {host}:{port}: {cannot_listen(error)}"
        for other in kept.foreign:
            text += f"; edge-agent.socket listens on {other}, and has to name the same"
        raise OSError(error.errno, text) from error
    for listener in found:
        kept.keep(listener.socket.fileno())
    return found


async def endpoints(host: str, port: int) -> list[Endpoint]:
    """Where ``host:port`` binds: an address for each family that it has."""
    flags = socket.AI_PASSIVE
    found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    return [(str(name[0]), int(name[1])) for *_, name in found]


class Sieve(trio.abc.Listener[trio.SocketStream]):
    """Stands in for a listening socket; see the module.

    Args:
        listener: bound and listening; closed with this.
        arrivals: says whom to hear.
        refused: is told of who is not heard, once for a batch.
        names: the key of the configuration that bounds this, for the sentence.
        has_room: whether one more may come in; until then all wait in the queue.
    """

    def __init__(
        self,
        listener: trio.SocketListener,
        arrivals: Arrivals,
        refused: Refused,
        names: str,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._listener = listener
        self._has_room = has_room
        self._arrivals = arrivals
        self._refused = refused
        self._sentence = (
            "It connects again and again without a request that is let in; so"
            f" {arrivals.per_second} a second are heard of one address ({names})."
        )
        own = listener.socket
        # The same queue, without a pass of the event loop for each that is taken from it.
        self._queue = socket.socket(own.family, own.type, own.proto, os.dup(own.fileno()))
        self._queue.setblocking(False)

    async def accept(self) -> trio.SocketStream:
        """The next one that is heard.

        Raises:
            OSError: the machine is out of something, or the socket is.
        """
        while True:
            await trio.lowlevel.checkpoint()
            if not self._has_room():
                await trio.sleep(_NO_ROOM_S)
                continue
            found, is_empty = self._batch()
            if found is not None:
                return trio.SocketStream(trio.socket.from_stdlib_socket(found))
            if is_empty:
                await trio.lowlevel.wait_readable(self._queue)
            else:
                await trio.sleep(REST_S)

    async def aclose(self) -> None:
        """Close the socket: whoever comes now is refused by the kernel."""
        trio.lowlevel.notify_closing(self._queue)
        self._queue.close()
        await self._listener.aclose()

    def _batch(self) -> tuple[socket.socket | None, bool]:
        """Who is heard, if one is found, and else whether nobody is waiting."""
        turned_away: Counter[str] = Counter()
        try:
            for _ in range(BATCH):
                try:
                    found, name = self._queue.accept()
                except BlockingIOError:
                    return None, True
                except OSError as error:
                    if error.errno not in _ITS_OWN:
                        raise
                    continue
                address = str(name[0])
                if self._arrivals.hear(address):
                    return found, False
                turned_away[address] += 1
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                found.close()
        finally:
            for address, times in turned_away.items():
                self._refused(address, "rush", self._sentence, times)
        return None, False
