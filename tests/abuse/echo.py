"""The sensors' port with an echo behind it: the real listener, handshake, frames and closes.

The public cases need somebody who sends back what he was sent, which an agent does not. So a test
puts `echo` in the place of ``serve_plain``; what is before and below it (``connection``,
``handshake``, ``transport`` and ``websocket`` of `edge_agent.server`, `edge_agent.wire.frames`) is
the product's.
"""

from __future__ import annotations

from edge_agent.server.closing import close_of
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.websocket import WebSocket


async def echo(socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
    """Send everything back, in order, until the end."""
    while messages := await socket.take():
        socket.send_soon(*messages)
    await socket.close(*close_of(socket.end, None), parts.listen.close_timeout)
