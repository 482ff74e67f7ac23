"""The baseline: the obvious design that everybody writes first.

A trio-websocket server that puts each message into LMDB in a transaction of its own, synced, and
acks it afterwards. It makes the same promise as the agent (an acked record is on the device), so
a ratio against it compares designs and not promises. Speaks just enough of the session protocol
for `benchmarks.load`.

Run as ``python -m benchmarks.baseline FOLDER PORT``.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import lmdb
import msgpack
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

MAP_BYTES = 1 << 30


def put(env: lmdb.Environment, first: int, records: list[bytes]) -> None:
    """One transaction, a record a key, in append mode."""
    with env.begin(write=True) as transaction:
        for index, record in enumerate(records):
            transaction.put((first + index).to_bytes(8, "big"), record, append=True)


async def handle(env: lmdb.Environment, numbers: list[int], request: WebSocketRequest) -> None:
    """One connection: every message is stored, synced and acked before the next is read."""
    connection = await request.accept(subprotocol="edge-agent.v1+json")
    done = 1
    try:
        await connection.get_message()
        window = {"records": 100_000, "bytes": 8_388_608}
        await connection.send_message(
            json.dumps({"type": "welcome", "next": done, "window": window, "epoch": "baseline"})
        )
        while True:
            message = await connection.get_message()
            assert isinstance(message, bytes), "the load sends msgpack to the baseline"
            value = msgpack.unpackb(message)
            batch = value if isinstance(value, list) else [value]
            records: list[bytes] = [msgpack.packb(item) for item in batch]
            first = numbers[0]
            numbers[0] += len(records)
            await trio.to_thread.run_sync(put, env, first, records)
            done += len(records)
            await connection.send_message(json.dumps({"type": "ack", "next": done}))
    except ConnectionClosed:
        pass


async def serve(folder: str, port: int) -> None:
    """Serve until killed."""
    env = lmdb.open(folder, map_size=MAP_BYTES, lib_version=0)
    handler = partial(handle, env, [1])
    await serve_websocket(handler, "127.0.0.1", port, ssl_context=None)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], int(sys.argv[2]))
