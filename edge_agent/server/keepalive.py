"""One task closes connections that were silent for ``listen.idle_timeout``, after a ping.

Half the idle timeout without a byte: a ping. The whole of it: gone. A task for each connection
would do the same for 3 KB of memory each, and a thousand sensors may rest on one port.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

#: Connections become due one by one, and looking at a thousand takes a millisecond: it is done at
#: most so many times per idle timeout.
_LOOKS_PER_TIMEOUT = 100
#: A peer that sends but never answers a ping is not a WebSocket; the library remembers each ping.
UNANSWERED_PINGS = 16


class WatchedConnection(Protocol):
    """A connection."""

    def silence(self) -> float:
        """Seconds that its peer has left us waiting; 0 while we ourselves are not reading."""
        ...

    async def ping(self) -> bool:
        """Send a ping and wait for its pong; False where the connection is over."""
        ...

    def fell_silent(self) -> None:
        """It is taken for gone."""
        ...


@dataclass(slots=True)
class _Pings:
    """What one connection was asked."""

    unanswered: int = 0
    is_waiting: bool = False


class SilenceWatch:
    """See the module. `run` may be called again after it has failed; meanwhile nobody is pinged.

    Args:
        idle_timeout: seconds.
    """

    def __init__(self, idle_timeout: float) -> None:
        self._timeout = idle_timeout
        self._watched: dict[WatchedConnection, _Pings] = {}
        self._sleep: trio.CancelScope | None = None

    def add(self, connection: WatchedConnection) -> None:
        """Watch ``connection`` from now on."""
        self._watched[connection] = _Pings()
        if self._sleep is not None:
            due = trio.current_time() + self._timeout / 2
            self._sleep.deadline = min(self._sleep.deadline, due)

    def discard(self, connection: WatchedConnection) -> None:
        """Not any more."""
        self._watched.pop(connection, None)

    async def run(self) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as pings:
            while True:
                looks = (self._look(each, pings) for each in tuple(self._watched))
                wait = max(min(looks, default=float("inf")), self._timeout / _LOOKS_PER_TIMEOUT)
                with trio.CancelScope(deadline=trio.current_time() + wait) as self._sleep:
                    await trio.sleep_forever()

    def _look(self, connection: WatchedConnection, pings: trio.Nursery) -> float:
        """Do what is due; in how many seconds to look again."""
        try:
            return self._do_what_is_due(connection, pings)
        except Exception:
            # Else it would end every look before those behind it. It merely stays, unwatched.
            self.discard(connection)
            raise

    def _do_what_is_due(self, connection: WatchedConnection, pings: trio.Nursery) -> float:
        silence, asked = connection.silence(), self._watched[connection]
        if silence < self._timeout / 2:
            return self._timeout / 2 - silence
        if silence >= self._timeout or asked.unanswered >= UNANSWERED_PINGS:
            connection.fell_silent()
            return self._timeout
        if not asked.is_waiting:
            asked.is_waiting = True
            asked.unanswered += 1
            pings.start_soon(self._ping, connection, asked, self._timeout - silence)
        return self._timeout - silence

    async def _ping(self, connection: WatchedConnection, asked: _Pings, patience: float) -> None:
        try:
            with trio.move_on_after(patience):
                if await connection.ping():
                    asked.unanswered = 0
        except Exception:
            self.discard(connection)
            raise
        finally:
            asked.is_waiting = False
