"""How fast a backlog reaches JetStream, packed, once; beside a publisher that keeps no promise.

The backlog is made before the server starts. Time and the agent's CPU run from the last look at it
that found all of the backlog to the first that found none; the peer then publishes as many messages
of the same size to a stream of its own, pipelined by the window that NATS' own clients keep to,
without ids and without a position.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench_drain import DIGESTED, TIMEOUT_S, fill
from benchmarks.peers.nats import ask, open_client, until
from benchmarks.peers.peer import program, version_of
from benchmarks.ports import free_port
from benchmarks.processes import Agent, Server

RECORDS = 2_000_000
#: Looking costs an agent some milliseconds: every 40 ms that was a twentieth of its time.
LOOK_S = 0.1
#: Messages that the peer has under way.
WINDOW = 4_000


def run(folder: Path, *, records: int = RECORDS, body: str = "ndjson") -> dict[str, object]:
    """Drain a backlog into JetStream, then publish the same messages plainly.

    Args:
        folder: for the store and the server's files; empty.
        records: how many.
        body: what the messages are written in.
    """
    port = free_port()
    fill(folder / "agent" / "data", records, 100)
    config = (
        f'{DIGESTED}[[upstream]]\nname = "jetstream"\nurl = "nats://127.0.0.1:{port}"\n'
        f'format = "{body}"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n'
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder / "data"}" }}\n'
    )
    agent = Agent(folder / "agent", config)
    server: Server | None = None
    try:
        command = [program("nats-server"), "--config", str(folder / "nats.conf")]
        server = Server(command, port, folder / "server")
        seconds, cpu = drained(agent, records)
        memory = agent.memory_mb()
        agent.stop()
        state = ask(port, "$JS.API.STREAM.INFO.EDGE", {})["state"]
        assert isinstance(state, dict)
        messages = int(state["messages"])
        peer_seconds = _plain(port, messages)
    finally:
        agent.stop()
        if server is not None:
            server.stop()
    return {
        "records": records,
        "messages": messages,
        "records_per_second": records / seconds,
        "cpu_seconds": cpu,
        "memory_mb": memory,
        "peer": "the same messages, published plainly and pipelined",
        "peer_records_per_second": records / peer_seconds,
        "version": version_of(program("nats-server"), "--version"),
    }


def drained(agent: Agent, records: int) -> tuple[float, float]:
    """Seconds until an agent has got rid of its backlog, and its CPU's meanwhile."""
    began, deadline = time.perf_counter(), time.monotonic() + TIMEOUT_S
    cpu = agent.cpu_seconds()
    while time.monotonic() < deadline:
        now, now_cpu = time.perf_counter(), agent.cpu_seconds()
        left = agent.get("/api/status")["upstreams"][0]["backlog_records"]
        if left >= records:
            began, cpu = now, now_cpu
        elif not left:
            return time.perf_counter() - began, agent.cpu_seconds() - cpu
        time.sleep(LOOK_S)
    raise SystemExit(f"the backlog did not reach its upstream within {TIMEOUT_S} s")


def _plain(port: int, messages: int) -> float:
    ask(port, "$JS.API.STREAM.CREATE.PLAIN", {"name": "PLAIN", "subjects": ["plain"]})
    stored = ask(port, "$JS.API.STREAM.MSG.GET.EDGE", {"seq": 1})["message"]
    assert isinstance(stored, dict)
    return published(port, b"plain", len(str(stored["data"])) * 3 // 4, messages)


def published(port: int, subject: bytes, size: int, messages: int) -> float:
    """Seconds until so many messages of ``size`` bytes are acknowledged."""
    message = b"PUB %s _INBOX.plain %d\r\n%s\r\n" % (subject, size, b"x" * size)
    with open_client("127.0.0.1", port) as sock:
        sock.sendall(b"SUB _INBOX.plain 1\r\nPING\r\n")
        until(sock, b"PONG\r\n")
        sent = acked = lines = 0
        began = time.perf_counter()
        while acked < messages:
            count = min(100, WINDOW - (sent - acked), messages - sent)
            sock.sendall(message * count)
            sent += count
            while sent - acked >= (WINDOW if sent < messages else 1):
                lines += sock.recv(1 << 16).count(b"\n")
                acked = lines // 2
        return time.perf_counter() - began
