"""This module runs trio-websocket's reader so that its errors end nothing but one connection.

`trio_websocket.wrap_server_stream` starts its reader in the nursery that it is given. A nursery of
its own for each connection, with a task that waits in it, would keep the reader's exceptions from
the rest just as well, for 4 KB of memory each. A `Guarded` is given in place of the nursery.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class Guarded:
    """Starts tasks in ``nursery``; when one ends, ``ended`` is called with what it raised."""

    def __init__(self, nursery: trio.Nursery, ended: Callable[[Exception | None], None]) -> None:
        self._nursery = nursery
        self._ended = ended

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """As a nursery does; this is all that the library asks for."""
        self._nursery.start_soon(self._run, function)

    async def _run(self, function: Callable[[], Awaitable[None]]) -> None:
        error: Exception | None = None
        try:
            await function()
        except Exception as raised:  # noqa: BLE001 - told to the owner of the connection
            error = raised
        self._ended(error)
