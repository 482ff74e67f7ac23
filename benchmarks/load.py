"""The load: a process of its own that sends pre-encoded frames and counts acks.

Run as ``python -m benchmarks.load '{"host": …}'``; prints one JSON object. It speaks the session
subprotocol with raw sockets and masks its frames before the clock starts, so that what is measured
is the agent and not this client. One selector serves all connections; each keeps to the window
that its welcome granted.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import struct
import sys
import time
import zlib
from dataclasses import dataclass, field

from benchmarks.records import messages

SEND_CHUNK_BYTES = 256 * 1024
STALLED_AFTER_S = 60.0


@dataclass(slots=True)
class Connection:
    """One session: what is still to send, what is out, what is acked."""

    socket: socket.socket
    source: str
    frames: list[bytes]
    sizes: list[int]  # records in each frame
    next_frame: int = 0
    sent: int = 0  # records
    base: int = 0
    acked: int = 0
    window: int = 0
    window_bytes: int = 0
    unacked: list[tuple[int, int]] = field(default_factory=list)
    out_bytes: int = 0
    outgoing: bytes = b""
    incoming: bytearray = field(default_factory=bytearray)

    @property
    def total(self) -> int:
        """Records that it sends in all."""
        return sum(self.sizes)


def frame(payload: bytes, *, text: bool = False) -> bytes:
    """A masked client frame (RFC 6455 section 5.2), whole and final."""
    size = len(payload)
    head = bytes([0x81 if text else 0x82])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    mask = os.urandom(4)
    long_mask = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(long_mask, "big")
    return head + mask + masked.to_bytes(size, "big")


def open_socket(host: str, port: int, path: str, subprotocol: str) -> tuple[socket.socket, bytes]:
    """Connect and upgrade; the socket and what came behind the answer's head."""
    connection = socket.create_connection((host, port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"upgrade refused: {answer!r}")
        answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise ConnectionError(f"upgrade refused: {answer!r}")
    return connection, rest


def payloads(incoming: bytearray) -> list[bytes]:
    """Take whole server frames (unmasked, below 64 KiB) out of ``incoming``."""
    found = []
    while len(incoming) >= 2:
        size, start = incoming[1] & 0x7F, 2
        if size == 126:
            if len(incoming) < 4:
                break
            size, start = int.from_bytes(incoming[2:4], "big"), 4
        if len(incoming) < start + size:
            break
        if incoming[0] & 0x0F == 8:
            raise ConnectionError(f"closed by the agent: {bytes(incoming[start : start + size])!r}")
        if incoming[0] & 0x0F in (1, 2):
            found.append(bytes(incoming[start : start + size]))
        del incoming[: start + size]
    return found


def start_connection(options: dict[str, object], index: int) -> Connection:
    """Open a session and take its welcome."""
    batch, text = int(str(options["batch"])), bool(options.get("text"))
    count = int(str(options["records"])) // int(str(options["connections"]))
    bodies = messages(count, batch, seed=index % 4 + 1, text=text)
    sizes = [min(batch, count - start) for start in range(0, count, batch)]
    source = f"{options['source']}/{index}"
    sock, rest = open_socket(
        str(options["host"]), int(str(options["port"])), f"/ingest/bench/{index}",
        "edge-agent.v1+json",
    )  # fmt: skip
    found = Connection(sock, source, [frame(body, text=text) for body in bodies], sizes)
    found.incoming += rest
    sock.sendall(frame(json.dumps({"type": "hello", "source": source}).encode(), text=True))
    while not (answers := payloads(found.incoming)):
        found.incoming += sock.recv(65536)
    welcome = json.loads(answers[0])
    if welcome.get("type") != "welcome":
        raise ConnectionError(f"expected a welcome, got {welcome}")
    found.base = welcome["next"]
    found.window = welcome["window"]["records"]
    found.window_bytes = welcome["window"]["bytes"]
    sock.setblocking(False)
    return found


def fill(connection: Connection) -> None:
    """Join as many frames as the window allows into what goes out next, a chunk at most."""
    parts: list[bytes] = []
    size = len(connection.outgoing)
    while connection.next_frame < len(connection.frames) and size < SEND_CHUNK_BYTES:
        data = connection.frames[connection.next_frame]
        count = connection.sizes[connection.next_frame]
        in_flight = connection.sent - connection.acked
        fits = (
            in_flight + count <= connection.window
            and connection.out_bytes + len(data) <= connection.window_bytes
        )
        if not fits and in_flight:
            break
        parts.append(data)
        size += len(data)
        connection.sent += count
        connection.out_bytes += len(data)
        connection.unacked.append((connection.sent, len(data)))
        connection.next_frame += 1
    connection.outgoing += b"".join(parts)


def take(connection: Connection) -> None:
    """Read what has come and apply the acks in it."""
    piece = connection.socket.recv(262144)
    if not piece:
        raise ConnectionError("the agent went away")
    connection.incoming += piece
    for payload in payloads(connection.incoming):
        message = json.loads(payload)
        if message["type"] != "ack":
            raise ConnectionError(f"unexpected: {message}")
        connection.acked = message["next"] - connection.base
        if window := message.get("window"):
            connection.window, connection.window_bytes = window["records"], window["bytes"]
        done = 0
        for upto, size in connection.unacked:
            if upto > connection.acked:
                break
            connection.out_bytes -= size
            done += 1
        del connection.unacked[:done]


def pump(connections: list[Connection]) -> None:
    """Send and receive on all of them until everything is acked."""
    poller = select.poll()
    by_descriptor = {connection.socket.fileno(): connection for connection in connections}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    busy = set(by_descriptor)
    while busy:
        for descriptor in busy:
            connection = by_descriptor[descriptor]
            if len(connection.outgoing) < SEND_CHUNK_BYTES // 2:
                fill(connection)
            if connection.outgoing:
                try:
                    count = connection.socket.send(connection.outgoing)
                    connection.outgoing = connection.outgoing[count:]
                except BlockingIOError:
                    pass
                # What the window still allows goes out with the next round, not the next ack.
                fill(connection)
            wanted = select.POLLIN | (select.POLLOUT if connection.outgoing else 0)
            poller.modify(descriptor, wanted)
        events = poller.poll(STALLED_AFTER_S * 1000)
        if not events:
            raise TimeoutError("no ack came for a minute")
        for descriptor, event in events:
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                take(by_descriptor[descriptor])
        busy = {fd for fd in busy if by_descriptor[fd].acked < by_descriptor[fd].total}


def main() -> None:
    """Send what the JSON argument asks for; print what was acked and how long it took."""
    options = json.loads(sys.argv[1])
    connections = [start_connection(options, index) for index in range(options["connections"])]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    pump(connections)
    seconds = time.perf_counter() - began
    checksums = {}
    if not options.get("text"):
        for index, connection in enumerate(connections):
            crc = 0
            for record in messages(connection.total, 1, seed=index % 4 + 1):
                crc = zlib.crc32(record, crc)
            checksums[connection.source] = [connection.acked, crc]
    acked = sum(connection.acked for connection in connections)
    print(json.dumps({"seconds": seconds, "acked": acked, "checksums": checksums}))
    for connection in connections:
        connection.socket.close()


if __name__ == "__main__":
    main()
