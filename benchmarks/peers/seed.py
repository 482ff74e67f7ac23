"""The seed document's own design: a WebSocket server and SQLite, one commit for each message.

With what SQLite's documentation recommends for it: write-ahead log, ``synchronous=FULL`` so that
every commit is synced, an integer key.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from benchmarks.peers.peer import Peer, Put

FILE = "records.db"


def open_store(folder: Path) -> Put:
    """A database that syncs each commit; what puts a message there."""
    database = sqlite3.connect(folder / FILE, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, record BLOB NOT NULL)")

    def put(number: int, message: bytes) -> None:
        # Without BEGIN every statement is a transaction, committed and synced when it returns.
        database.execute("INSERT INTO records VALUES (?, ?)", (number, message))

    return put


class Seed(Peer):
    """trio-websocket in front, SQLite behind."""

    title = "the seed document's design: trio-websocket + SQLite, one commit per message"
    promise = "the message is synced (WAL, synchronous=FULL); a sync of its own for each"
    messages = 1_000

    def command(self, folder: Path, port: int) -> list[str]:
        """Ours, as nobody sells it."""
        return [sys.executable, "-m", "benchmarks.peers.one_by_one", "seed", str(folder), str(port)]

    def stored(self, folder: Path, port: int) -> int:
        """Rows, read from beside."""
        database = sqlite3.connect(folder / FILE)
        try:
            return int(database.execute("SELECT count(*) FROM records").fetchone()[0])
        finally:
            database.close()

    def version(self) -> str:
        """The library's."""
        return f"SQLite {sqlite3.sqlite_version}"
