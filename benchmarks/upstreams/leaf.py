"""A NATS leaf node as a peer: messages kept at the edge in a stream, which a hub's stream sources.

It does the same job as an agent with a hub: it stores while there is no link, and forwards after.
What it promises is less: files are synced every two minutes at both ends, and nothing is said of
what one of them lost.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench_drain import POLL_S, TIMEOUT_S
from benchmarks.peers.nats import ask
from benchmarks.peers.peer import program
from benchmarks.ports import free_port
from benchmarks.processes import Server
from benchmarks.upstreams.nats import published

_MESSAGE_BYTES = 100


def run(folder: Path, *, records: int) -> dict[str, float]:
    """Messages a second from a leaf node's stream into the hub's, which comes later."""
    folder.mkdir(parents=True, exist_ok=True)
    edge_port, hub_port, leaf_port = free_port(), free_port(), free_port()
    command = program("nats-server")
    (folder / "edge.conf").write_text(
        f'listen: "127.0.0.1:{edge_port}"\nserver_name: edge\n'
        f'jetstream {{ store_dir: "{folder / "edge"}", domain: edge }}\n'
        f'leafnodes {{ reconnect: 1, remotes: [{{ url: "nats://127.0.0.1:{leaf_port}" }}] }}\n'
    )
    (folder / "hub.conf").write_text(
        f'listen: "127.0.0.1:{hub_port}"\nserver_name: hub\n'
        f'jetstream {{ store_dir: "{folder / "hub"}", domain: hub }}\n'
        f'leafnodes {{ listen: "127.0.0.1:{leaf_port}" }}\n'
    )
    servers = [Server([command, "--config", str(folder / "edge.conf")], edge_port, folder / "e")]
    try:
        ask(edge_port, "$JS.API.STREAM.CREATE.EDGE", {"name": "EDGE", "subjects": ["edge"]})
        # Acknowledged: a server that is hurried drops what nobody asks after.
        published(edge_port, b"edge", _MESSAGE_BYTES, records)
        servers.append(
            Server([command, "--config", str(folder / "hub.conf")], hub_port, folder / "h")
        )
        source = {"name": "EDGE", "external": {"api": "$JS.edge.API"}}
        ask(hub_port, "$JS.API.STREAM.CREATE.HUB", {"name": "HUB", "sources": [source]})
        cpu = sum(server.cpu_seconds() for server in servers)
        seconds = _sourced(hub_port, records)
        cpu = sum(server.cpu_seconds() for server in servers) - cpu
    finally:
        for server in servers:
            server.stop()
    return {"messages_per_second": records / seconds, "cpu_us": cpu / records * 1e6}


def _sourced(port: int, records: int) -> float:
    """Seconds from the last look that found nothing."""
    began = time.perf_counter()
    while not _messages(port, "HUB"):
        began = time.perf_counter()
        time.sleep(POLL_S)
    _wait(port, "HUB", records)
    return time.perf_counter() - began


def _wait(port: int, stream: str, records: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while _messages(port, stream) < records:
        if time.monotonic() > deadline:
            raise SystemExit(f"{stream} has {_messages(port, stream)} of {records} messages")
        time.sleep(POLL_S)


def _messages(port: int, stream: str) -> int:
    state = ask(port, f"$JS.API.STREAM.INFO.{stream}", {})["state"]
    assert isinstance(state, dict)
    return int(state["messages"])
