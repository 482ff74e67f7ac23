"""SQLite in the two layouts that one would choose for sensor data, asked the same as history."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.history_data import FIELDS, Reading

_COLUMNS = "stream integer not null, time integer not null, " + ", ".join(
    f"{field} real" for field in FIELDS
)
LAYOUTS = {
    "SQLite, WITHOUT ROWID (stream, time)": (
        f"create table records ({_COLUMNS}, primary key (stream, time)) without rowid",
    ),
    "SQLite, rowid and index": (
        f"create table records ({_COLUMNS})",
        "create index by_stream on records (stream, time)",
    ),
}
#: Seconds of data that one transaction has; its sync is not what is compared here.
COMMIT_S = 900


class SqlitePeer:
    """One database; ``cpu_s`` of filling it."""

    def __init__(self, path: Path, layout: Sequence[str]) -> None:
        self._path = path
        self._db = sqlite3.connect(path)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        for statement in layout:
            self._db.execute(statement)
        self._waiting: list[tuple[float, ...]] = []
        self._seconds = 0
        self.cpu_s = 0.0

    def add(self, readings: Iterable[Reading]) -> None:
        """One second's readings."""
        self._waiting += [(stream, time_ns, *values) for stream, time_ns, values in readings]
        self._seconds += 1
        if self._seconds >= COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Write what waits."""
        began = time.process_time()
        places = ", ".join("?" * (2 + len(FIELDS)))
        with self._db:
            self._db.executemany(f"insert or replace into records values ({places})", self._waiting)
        self._waiting, self._seconds = [], 0
        self.cpu_s += time.process_time() - began

    def bytes(self) -> int:
        """Of the file, everything in it."""
        self._db.execute("pragma wal_checkpoint(truncate)")
        return self._path.stat().st_size

    def raw(self, stream: int, from_ns: int, to_ns: int) -> list[tuple[float, ...]]:
        """Every record of one stream in a range."""
        return self._db.execute(
            "select time, t, h, p, v from records where stream = ? and time >= ? and time < ?"
            " order by time",
            (stream, from_ns, to_ns),
        ).fetchall()

    def means(self, stream: int | None, from_ns: int, to_ns: int) -> list[tuple[float, ...]]:
        """Means of t by minute, of one stream or of each."""
        only = "stream = ? and" if stream is not None else ""
        return self._db.execute(
            f"select stream, time / 60000000000, avg(t) from records where {only} time >= ?"
            " and time < ? group by 1, 2 order by 1, 2",
            ((stream, from_ns, to_ns) if stream is not None else (from_ns, to_ns)),
        ).fetchall()
