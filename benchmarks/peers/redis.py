"""Redis streams with an append-only file that is synced before a reply leaves.

Redis reads what its clients have sent, executes all of it, writes and syncs the file once, then
answers: the pipelined commands of one turn share a sync. Nothing else is switched on: no snapshots
and no rewriting of the file during the run.
"""

from __future__ import annotations

import socket
from pathlib import Path

from benchmarks.load import Task
from benchmarks.peers.peer import Peer, program, version_of
from benchmarks.pump import Flow, chunked

WINDOW = 100_000
CHUNK_MESSAGES = 1_000
STREAM = b"bench"


def command(*parts: bytes) -> bytes:
    """A command as RESP, an array of bulk strings."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def count_replies(flow: Flow, data: bytes) -> None:
    """A reply to XADD is ``$LENGTH``, then the entry's id: two lines, and no line is an error."""
    if (data[:1] == b"-" and not flow.rest) or b"\r\n-" in data:
        raise ConnectionError(f"redis: {data[:200]!r}")
    lines = len(flow.rest) + data.count(b"\n")
    flow.acked += lines // 2
    flow.rest = b"\n" * (lines % 2)


class Redis(Peer):
    """``appendfsync always``."""

    title = "Redis XADD, appendfsync always"
    promise = "the message is written and synced; one sync is shared by all that was pipelined"
    messages = 50_000

    def missing(self) -> str:
        """Debian's package."""
        return "" if program("redis-server") else "apt install redis-server"

    def command(self, folder: Path, port: int) -> list[str]:
        """All settings on the command line."""
        return [
            program("redis-server"), "--port", str(port), "--bind", "127.0.0.1",
            "--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always",
            "--save", "", "--auto-aof-rewrite-percentage", "0", "--maxmemory", "1gb",
        ]  # fmt: skip

    def connect(self, task: Task, index: int) -> Flow:
        """One connection of the load."""
        bodies = task.bodies(index)
        chunks, upto = chunked(
            [command(b"XADD", STREAM, b"*", b"r", body) for body in bodies], CHUNK_MESSAGES
        )
        sock = socket.create_connection((task.host, task.port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Flow(
            sock, chunks, upto, WINDOW // task.connections, count_replies, source=f"{index}"
        )

    def stored(self, folder: Path, port: int) -> int:
        """Entries in the stream."""
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(command(b"XLEN", STREAM))
            answer = sock.recv(4096)
        return int(answer.removeprefix(b":"))

    def version(self) -> str:
        """As it says itself."""
        return f"Redis {version_of(program('redis-server'), '--version')}"
