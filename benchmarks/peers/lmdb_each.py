"""trio-websocket and LMDB: each message is put in a transaction of its own, synced, then acked.

The same libraries and the same promise as the agent's, so that a ratio against it compares designs
alone. Speaks just enough of the session protocol for `benchmarks.load`.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import lmdb

from benchmarks.peers.peer import Peer, Put

MAP_BYTES = 1 << 30


def open_store(folder: Path) -> Put:
    """A store with LMDB's defaults, where every commit is synced; what puts a message there."""
    env = lmdb.open(str(folder), map_size=MAP_BYTES, lib_version=0)

    def put(number: int, message: bytes) -> None:
        with env.begin(write=True) as transaction:
            transaction.put(number.to_bytes(8, "big"), message, append=True)

    return put


class LmdbEach(Peer):
    """The obvious design."""

    title = "trio-websocket + LMDB, one transaction per message"
    promise = "the message is synced; a sync of its own for each"
    messages = 1_000

    def command(self, folder: Path, port: int) -> list[str]:
        """Ours, as nobody sells it."""
        return [sys.executable, "-m", "benchmarks.peers.one_by_one", "lmdb", str(folder), str(port)]

    def stored(self, folder: Path, port: int) -> int:
        """Keys in the database, read from beside."""
        env = lmdb.open(str(folder), map_size=MAP_BYTES, lib_version=0, readonly=True)
        try:
            return int(env.stat()["entries"])
        finally:
            env.close()

    def version(self) -> str:
        """The binding's."""
        return f"lmdb {version('lmdb')}"
