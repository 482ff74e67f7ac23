"""A connect storm: thousands of connections a second from one address, which say nothing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.patience import PATIENCE_S

#: Where it comes from: another address of this machine's own.
STORMING = "127.0.0.2"
#: Connections that it leaves open; each more closes the oldest.
_OPEN = 100


class Storm:
    """Runs in a thread until `stop`. ``connected`` counts."""

    def __init__(self, port: int) -> None:
        self.connected = 0
        self._port = port
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        there: list[socket.socket] = []
        while not self._stopped.is_set():
            try:
                one = socket.create_connection(("127.0.0.1", self._port), PATIENCE_S, (STORMING, 0))
            except OSError:
                continue  # Its own ports are used up for now, or it was reset at once.
            # Closed with a reset: a port in TIME_WAIT would be none for a minute.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connected += 1
            there.append(one)
            if len(there) > _OPEN:
                there.pop(0).close()
        for one in there:
            one.close()


@asynccontextmanager
async def storm(port: int, first: int = 1000) -> AsyncIterator[Storm]:
    """A storm on a port of this machine, from its ``first`` connections on."""
    blowing = Storm(port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, blowing.run)
        try:
            with trio.fail_after(PATIENCE_S):
                while blowing.connected < first:
                    await trio.sleep(0.01)
            yield blowing
        finally:
            blowing.stop()
