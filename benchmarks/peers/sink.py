"""No peer but a yardstick for the load itself: reads, counts and acks, keeps nothing.

Frames are not looked into: they must all have one size, which is given, so that the number of
messages is the number of bytes divided. What the load reaches here is the most that it could ever
show of a server, and must lie far above every figure in the results.

Run as ``python -m benchmarks.peers.sink PORT FRAME_BYTES``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import select
import socket
import struct
import sys
from dataclasses import dataclass

WINDOW = {"records": 100_000, "bytes": 8 << 20}
#: RFC 6455 section 1.3.
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(slots=True)
class Client:
    """One connection and the bytes of data that it has sent."""

    socket: socket.socket
    received: int = 0


def text_frame(message: dict[str, object]) -> bytes:
    """An unmasked text frame."""
    payload = json.dumps(message).encode()
    assert len(payload) < 126
    return bytes([0x81, len(payload)]) + payload


def welcome(connection: socket.socket) -> Client:
    """Upgrade, take the hello, send a welcome."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := connection.recv(4096)):
            raise ConnectionError("only looked whether we listen")
        head += piece
    key = next(
        line.split(b":", 1)[1].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: edge-agent.v1+json\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept
    )
    hello = connection.recv(4096)
    assert len(hello) == 6 + (hello[1] & 0x7F), "one short hello, whole"
    connection.sendall(text_frame({"type": "welcome", "next": 1, "window": WINDOW, "epoch": "-"}))
    return Client(connection)


def serve(port: int, frame_bytes: int) -> None:
    """Serve until killed."""
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    clients: dict[int, Client] = {}
    buffer = bytearray(1 << 18)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0)
                )
                try:
                    clients[connection.fileno()] = welcome(connection)
                except ConnectionError:
                    connection.close()
                    continue
                poller.register(connection, select.EPOLLIN)
                continue
            client = clients[descriptor]
            count = client.socket.recv_into(buffer)
            if not count:
                poller.unregister(descriptor)
                clients.pop(descriptor).socket.close()
                continue
            client.received += count
            done = 1 + client.received // frame_bytes
            client.socket.sendall(text_frame({"type": "ack", "next": done}))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
