"""A cable to cut: a TCP relay on loopback between the agent and the hub."""

from __future__ import annotations

import socket
import struct

import trio

#: SO_LINGER on, 0 seconds: closing sends a reset, as a broken path does sooner or later.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Relay:
    """Passes bytes both ways until it is cut.

    Attributes:
        port: where it listens, once `run` has started.
        is_cut: whether connections are reset instead.
        cuts: how often it was cut.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._open: set[trio.SocketStream] = set()
        self.port = 0
        self.is_cut = False
        self.cuts = 0

    def cut(self) -> None:
        """Reset every connection, now, and every one that comes until `restore`."""
        if not self.is_cut:
            self.is_cut = True
            self.cuts += 1
        for stream in self._open:
            _reset(stream)
        self._open.clear()

    def restore(self) -> None:
        """Let connections through again."""
        self.is_cut = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._pass_on, listeners)

    async def _pass_on(self, near: trio.SocketStream) -> None:
        if self.is_cut:
            _reset(near)
            return
        self._open.add(near)
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self._target_port)
        except OSError:
            # The hub is not there (yet): to the agent it is the same as a cut cable.
            if near in self._open:
                self._open.remove(near)
                _reset(near)
            return
        if near not in self._open:
            # It was cut while the hub was being called.
            _reset(far)
            return
        self._open.add(far)
        try:
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(_copy, near, far, nursery.cancel_scope)
                nursery.start_soon(_copy, far, near, nursery.cancel_scope)
        finally:
            self._open -= {near, far}


async def _copy(
    source: trio.SocketStream, target: trio.SocketStream, both: trio.CancelScope
) -> None:
    try:
        async for data in source:
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        # Cut, or one side went away; the other one is told by being closed.
        pass
    both.cancel()


def _reset(stream: trio.SocketStream) -> None:
    if stream.socket.fileno() < 0:
        return  # closed already: of a pair one is, for a moment, before the other
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    stream.socket.close()
