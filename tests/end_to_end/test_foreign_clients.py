"""Clients that nobody here wrote send plain JSON and msgpack, and what they sent can be queried."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import trio
import websocket
from websockets.sync.client import connect

from tests.end_to_end.support import AgentProcess, agents
from tests.patience import PATIENCE_S

CONFIG = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'
COUNT = 50


def send_with_websockets(url: str) -> int:
    """The package ``websockets``: JSON text and msgpack in turn; the last ack."""
    with connect(f"{url}/ingest/foreign/websockets?ack=1") as connection:
        for number in range(COUNT):
            record = {"n": number, "from": "websockets"}
            connection.send(json.dumps(record) if number % 2 else msgpack.packb(record))
        acked = 0
        while acked < COUNT:
            acked = json.loads(connection.recv(timeout=PATIENCE_S))["ack"]
        return acked


def send_with_websocket_client(url: str) -> int:
    """The package ``websocket-client``: the same, a batch at the end."""
    connection = websocket.create_connection(
        f"{url}/ingest/foreign/client?ack=1", timeout=PATIENCE_S
    )
    try:
        for number in range(COUNT - 10):
            record = {"n": number, "from": "client"}
            if number % 2:
                connection.send(json.dumps(record))
            else:
                connection.send_binary(msgpack.packb(record))
        batch = [{"n": number, "from": "client"} for number in range(COUNT - 10, COUNT)]
        connection.send_binary(msgpack.packb(batch))
        acked = 0
        # A batch is one message: acks of plain mode count messages.
        while acked < COUNT - 9:
            acked = json.loads(connection.recv())["ack"]
        return acked
    finally:
        connection.close()


async def test_two_foreign_clients_are_understood_at_the_same_time(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path, "agent", CONFIG)
    async with agents(agent):
        acked: dict[str, int] = {}

        async def run(name: str, send: object) -> None:
            acked[name] = await trio.to_thread.run_sync(send, agent.url)  # type: ignore[arg-type]

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, "websockets", send_with_websockets)
                nursery.start_soon(run, "client", send_with_websocket_client)
        records = await agent.records("foreign/*")
    found = {
        name: sorted(r["fields"]["n"] for r in records if r["stream"] == f"foreign/{name}")
        for name in ("websockets", "client")
    }
    assert acked == {"websockets": COUNT, "client": COUNT - 9}
    assert found == {"websockets": list(range(COUNT)), "client": list(range(COUNT))}
