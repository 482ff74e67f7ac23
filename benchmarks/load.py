"""The load: a process of its own that sends pre-encoded bytes and counts acks.

Run as ``python -m benchmarks.load '{"port": …}'``; prints one JSON object. It speaks the agent's
session subprotocol with raw sockets; `benchmarks.peer_load` sends the very same payloads in the
protocols of others. All frames are encoded and masked, each with a random key of its
own as RFC 6455 asks, before the clock starts, so that what is measured is the server and not this
client; `benchmarks.pump` sends them.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from benchmarks.pump import Flow, pump, slices
from benchmarks.records import checksum, messages

#: Records in a chunk, at most.
CHUNK_RECORDS = 10_000
#: Each connection begins elsewhere in the cycle of records (a multiple of every batch size).
STRIDE = 1_700


@dataclass(slots=True)
class Session:
    """An open session: what its welcome said, and bytes that came behind it."""

    socket: socket.socket
    next: int
    window: int
    window_bytes: int
    rest: bytes


@cache
def frame_head(size: int, text: bool) -> bytes:
    """The head of a whole, final, masked client frame (RFC 6455 section 5.2), without its key."""
    first = 0x81 if text else 0x82
    if size < 126:
        return bytes([first, 0x80 | size])
    if size < 65536:
        return bytes([first, 0x80 | 126]) + struct.pack(">H", size)
    return bytes([first, 0x80 | 127]) + struct.pack(">Q", size)


def frames(payloads: Sequence[bytes], *, text: bool = False) -> bytes:
    """Masked frames, joined.

    The bytes under the mask and the bytes that mask them are laid out whole and combined as two
    large numbers: a key masks itself where the layout has zeros.
    """
    keys = os.urandom(4 * len(payloads))
    plain, masks = [], []
    for index, payload in enumerate(payloads):
        size = len(payload)
        head = frame_head(size, text)
        plain.append(head + b"\0\0\0\0" + payload)
        repeated = keys[4 * index : 4 * index + 4] * (size // 4 + 2)
        masks.append(bytes(len(head)) + repeated[: size + 4])
    joined, mask = b"".join(plain), b"".join(masks)
    return (int.from_bytes(joined, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(mask), "big")


def frame(payload: bytes, *, text: bool = False) -> bytes:
    """One masked frame."""
    return frames([payload], text=text)


def connected(host: str, port: int, ca_file: str = "") -> socket.socket:
    """A connection; by TLS where an authority is named."""
    connection = socket.create_connection((host, port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not ca_file:
        return connection
    from benchmarks.tls_socket import pumped_context

    return pumped_context(ca_file).wrap_socket(connection, server_hostname=host)


def open_socket(
    host: str, port: int, path: str, subprotocol: str, ca_file: str = ""
) -> tuple[socket.socket, bytes]:
    """Connect and upgrade; the socket and what came behind the answer's head."""
    connection = connected(host, port, ca_file)
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


def payloads(incoming: bytes) -> tuple[list[bytes], bytes]:
    """The data messages in whole server frames (unmasked, below 64 KiB), and what is left over."""
    found = []
    at = 0
    while len(incoming) - at >= 2:
        size, start = incoming[at + 1] & 0x7F, at + 2
        if size == 126:
            if len(incoming) - at < 4:
                break
            size, start = int.from_bytes(incoming[at + 2 : at + 4], "big"), at + 4
        if len(incoming) < start + size:
            break
        if incoming[at] & 0x0F == 8:
            raise ConnectionError(f"closed by the agent: {incoming[start : start + size]!r}")
        if incoming[at] & 0x0F in (1, 2):
            found.append(incoming[start : start + size])
        at = start + size
    return found, incoming[at:]


def open_session(host: str, port: int, path: str, source: str, ca_file: str = "") -> Session:
    """Upgrade, say hello, take the welcome."""
    sock, rest = open_socket(host, port, path, "edge-agent.v1+json", ca_file)
    sock.sendall(frame(json.dumps({"type": "hello", "source": source}).encode(), text=True))
    while True:
        answers, rest = payloads(rest)
        if answers:
            break
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError("closed before a welcome")
        rest += piece
    welcome = json.loads(answers[0])
    if welcome.get("type") != "welcome":
        raise ConnectionError(f"expected a welcome, got {welcome}")
    window = welcome["window"]
    return Session(sock, welcome["next"], window["records"], window["bytes"], rest)


def receiver(base: int) -> Callable[[Flow, bytes], None]:
    """What takes a session's answers: acks move `Flow.acked`, anything else is a failure."""

    def receive(flow: Flow, data: bytes) -> None:
        answers, flow.rest = payloads(flow.rest + data)
        for answer in answers:
            message = json.loads(answer)
            if message["type"] != "ack":
                raise ConnectionError(f"unexpected: {message}")
            flow.acked = message["next"] - base
            if window := message.get("window"):
                flow.window, flow.window_bytes = window["records"], window["bytes"]

    return receive


@dataclass(frozen=True, slots=True)
class Task:
    """What to send: ``records`` in all, ``batch`` in a message, over ``connections``."""

    port: int
    records: int
    connections: int = 1
    batch: int = 1
    text: bool = False
    source: str = "bench"
    peer: str = ""  # for `benchmarks.peer_load`, a name of `benchmarks.peers.PEERS`
    host: str = "127.0.0.1"
    ca_file: str = ""  # of the agent's certificate; by itself: without TLS

    def count(self, index: int) -> int:
        """Records of connection ``index``."""
        return self.records // self.connections + (index < self.records % self.connections)

    def start(self, index: int) -> int:
        """Where in the cycle connection ``index`` begins."""
        return index * STRIDE

    def bodies(self, index: int) -> list[bytes]:
        """The payloads of connection ``index``."""
        return messages(self.count(index), self.batch, text=self.text, start=self.start(index))


def session_flow(task: Task, index: int, *, chunk_records: int = CHUNK_RECORDS) -> Flow:
    """Encode first, then connect, so that no session waits for its load."""
    bodies = task.bodies(index)
    cuts = list(slices([len(body) + 8 for body in bodies], max(1, chunk_records // task.batch)))
    chunks = [frames(bodies[cut], text=task.text) for cut in cuts]
    upto = [min(cut.stop * task.batch, task.count(index)) for cut in cuts]
    source = f"{task.source}/{index}"
    session = open_session(task.host, task.port, f"/ingest/bench/{index}", source, task.ca_file)
    return Flow(
        session.socket, chunks, upto, session.window, receiver(session.next),
        window_bytes=session.window_bytes, source=source, rest=session.rest,
    )  # fmt: skip


def open_flows(task: Task) -> list[Flow]:
    """All connections of a task."""
    return [session_flow(task, index) for index in range(task.connections)]


def main(open_all: Callable[[Task], list[Flow]] = open_flows) -> None:
    """Send what the JSON argument asks for; print what was acked and how long it took."""
    task = Task(**json.loads(sys.argv[1]))
    flows = open_all(task)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # who started this has gone
    began = time.process_time()
    seconds = pump(flows)
    cpu = time.process_time() - began
    acked = sum(flow.acked for flow in flows)
    checksums = {
        flow.source: [flow.acked, checksum(flow.acked, start=task.start(index))]
        for index, flow in enumerate(flows)
    }
    print(json.dumps({"seconds": seconds, "acked": acked, "cpu": cpu, "checksums": checksums}))
    for flow in flows:
        flow.socket.close()


if __name__ == "__main__":
    main()
