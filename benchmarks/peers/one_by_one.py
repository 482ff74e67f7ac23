"""A trio-websocket server that stores and acks each message before it reads the next.

The storing is called straight from the event loop: a hop to a worker thread and back costs more
than the other connections gain while one writer syncs (1,700 messages a second instead of 2,100 on
one connection, of 2,500 on 50).

Run as ``python -m benchmarks.peers.one_by_one NAME FOLDER PORT``.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from benchmarks.peers import lmdb_each, seed
from benchmarks.peers.peer import Put

OPEN = {"lmdb": lmdb_each.open_store, "seed": seed.open_store}
WINDOW = {"records": 100_000, "bytes": 8_388_608}


async def handle(put: Put, numbers: list[int], request: WebSocketRequest) -> None:
    """One connection, in as much of the session protocol as the load needs."""
    connection = await request.accept(subprotocol="edge-agent.v1+json")
    done = 1
    try:
        await connection.get_message()
        hello = {"type": "welcome", "next": done, "window": WINDOW, "epoch": "-"}
        await connection.send_message(json.dumps(hello))
        while True:
            message = await connection.get_message()
            numbers[0] += 1
            put(numbers[0], message.encode() if isinstance(message, str) else message)
            done += 1
            await connection.send_message(json.dumps({"type": "ack", "next": done}))
    except ConnectionClosed:
        pass


def serve(name: str, folder: Path, port: int) -> None:
    """Serve until killed."""
    handler = partial(handle, OPEN[name](folder), [0])
    trio.run(partial(serve_websocket, handler, "127.0.0.1", port, ssl_context=None))


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
