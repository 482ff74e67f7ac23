"""A kind of upstream of its own, as small as one can be: it appends records to an SQLite database.

The example of docs/own-sink.md, and in the tests a package that pip might have installed.
"""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from urllib.parse import unquote, urlsplit

import trio

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, SinkParts
from edge_agent.values.stream_names import compile_patterns

#: SQLite waits for the disk: never in the event loop. What is cancelled is left behind there; it
#: can do no harm, as the same rows twice are the same rows.
_in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
_TABLE = "CREATE TABLE IF NOT EXISTS records (id TEXT PRIMARY KEY, stream TEXT, fields TEXT)"


class SpoolSink:
    """``spool:///FILE``: exactly once, as the database knows each id."""

    #: A batch is planned durably before its first send: sent again, it is the same.
    keyed = True
    #: Nothing is under way between two sends.
    drained = True

    def __init__(self, parts: SinkParts) -> None:
        self._path = unquote(urlsplit(parts.upstream.url).path)
        self._source = parts.upstream.options.get("source", "")
        self._matches = compile_patterns(parts.upstream.streams)
        self._identity = parts.identity

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        self._identity = resume.identity or self._identity
        await _in_thread(self._write, [])
        return Resumed(resume.floor + 1)

    async def send(self, batch: Batch) -> Acknowledged:
        epoch = self._identity.epoch
        rows = [
            (f"{epoch}/{batch.log}/{one.seq}", one.stream, json.dumps(one.fields, default=repr))
            for one in batch.records(self._matches)
            if one.source.startswith(self._source)
        ]
        await _in_thread(self._write, rows)
        return Acknowledged(batch.last, len(rows))

    async def settle(self, floor: int) -> Acknowledged:
        await trio.sleep_forever()
        raise AssertionError("sleep_forever ends by cancellation only")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def _write(self, rows: list[tuple[str, str, str]]) -> None:
        try:
            database = sqlite3.connect(self._path)
            try:
                with database:
                    database.execute("PRAGMA synchronous = FULL")
                    database.execute(_TABLE)
                    database.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?)", rows)
            finally:
                database.close()
        except sqlite3.Error as error:
            raise SinkUnavailable(f"{self._path}: {error}", obstacle="there") from error


def make(parts: SinkParts) -> SpoolSink:
    """What the entry point names."""
    return SpoolSink(parts)


def make_broken(parts: SinkParts) -> SpoolSink:
    """One that fails, for the tests."""
    raise RuntimeError("no such luck")
