"""A buffer in one SQLite file: what `send` returned for survives a power cut.

Every append is one transaction, synced (``synchronous=FULL``), and only what is synced may be
sent: were a number sent, lost with the power and given again to another record, the agent would
take the second record for a repeat and drop it.

Acknowledged records are deleted lazily, with the next append or at close: after a power cut they
are still there, the hello says from where on we hold records, and the welcome says which of them
the agent has. Deleting them at once would double the syncs for nothing.

The file, version 1 (``PRAGMA user_version``)::

    record (number INTEGER PRIMARY KEY, body BLOB)   encoded as `meta.form` says
    meta   (name TEXT PRIMARY KEY, value)            source, form, epoch, shift, next;
                                                     opening, before (JSON)

A file that is copied, or set back to an older copy, gives numbers a second time. Each opening
therefore draws a random ``opening``, and ``before`` has the earlier ones and where they ended, so
that the agent can tell a copy (`edge_agent.session.History`). Both are absent in files of older
versions, and begin with the next opening.

SQLite is entered through ``run_blocking`` alone, one call at a time.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from edge_agent.client.buffer import new_opening
from edge_agent.client.encoding import Format
from edge_agent.errors import ConfigError, StoreFailed, StoreTooNew

logger = logging.getLogger(__name__)
#: Openings that are remembered; see `edge_agent.session.has_forked`.
OPENINGS_MAX = 32
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

VERSION = 1

_SCHEMA = f"""
CREATE TABLE record (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


class RunInThread(Protocol):
    """Calls a function that may block, elsewhere than in the event loop's thread; a plain call in
    simulations. Does not abandon it when cancelled.
    """

    def __call__(self, sync_fn: Callable[[*Ts], T], /, *args: *Ts) -> Awaitable[T]:
        """``sync_fn(*args)``, its result or its exception."""
        ...


class DiskBuffer:
    """See `Buffer`. Use `open`; the file is locked until `aclose`."""

    durable = True

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._run_blocking: RunInThread = trio.to_thread.run_sync
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._deleted_below = 0
        self.damaged: Path | None = None
        self.first, self.next, self.size, self.epoch, self.shift = _load(connection)
        self.opening = str(_get(connection, "opening"))
        self.before = _before(connection)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        source: str,
        form: Format,
        run_blocking: RunInThread = trio.to_thread.run_sync,
    ) -> DiskBuffer:
        """Open or create the file.

        A file that is damaged is set aside as ``NAME.damaged-N`` (``damaged`` says where) and a
        new one is begun: a sensor always starts.

        Raises:
            ConfigError: another producer has the file open, or it holds the records of
                another source or in another format.
            StoreTooNew: a newer version wrote it.
            StoreFailed: the file cannot be made or read.
        """
        buffer = await run_blocking(_open, cls, path, source, form)
        buffer._run_blocking = run_blocking
        return buffer

    async def append(self, records: Sequence[bytes]) -> int:
        """See `Buffer`.

        Raises:
            StoreFailed: the disk refused; nothing of these records was kept.
        """
        first, done = self.next, self.first

        def insert(db: sqlite3.Connection) -> None:
            if done > self._deleted_below:
                db.execute("DELETE FROM record WHERE number < ?", (done,))
            db.executemany("INSERT INTO record VALUES (?, ?)", enumerate(records, first))
            _put(db, "next", first + len(records))

        await self._transact(insert)
        # From here on without a checkpoint: what is in the file and what is here agree.
        self._deleted_below = done
        self.next = first + len(records)
        self.size += sum(map(len, records))
        return self.next - 1

    async def read(self, number: int, most_records: int, most_bytes: int) -> list[bytes]:
        """See `Buffer`."""
        stop = min(number + most_records, self.next)
        return await self._in_thread(_read, number, stop, most_bytes)

    async def acknowledge(self, next_number: int) -> None:
        """See `Buffer`. Touches the file only to learn how many bytes are left."""
        done = min(next_number, self.next)
        if done > self.first:
            self.size -= await self._in_thread(_size_between, self.first, done)
            self.first = done

    async def remember(self, epoch: str, shift: int) -> None:
        """See `Buffer`."""
        if (epoch, shift) == (self.epoch, self.shift):
            return

        def note(db: sqlite3.Connection) -> None:
            _put(db, "epoch", epoch)
            _put(db, "shift", shift)
            # Where earlier openings ended says nothing in another numbering.
            _put(db, "before", "[]")

        await self._transact(note)
        self.epoch, self.shift, self.before = epoch, shift, ()

    async def aclose(self) -> None:
        """See `Buffer`. Happens even when cancelled: it is short, and it frees the lock."""
        first = self.first

        def close(db: sqlite3.Connection) -> None:
            try:
                db.execute("BEGIN")
                db.execute("DELETE FROM record WHERE number < ?", (first,))
                db.execute("COMMIT")
            except sqlite3.Error as error:
                # The next open learns from the welcome what this would have deleted.
                logger.warning("buffer: could not tidy up at close: %s", error)
            db.close()

        with trio.CancelScope(shield=True):
            await self._in_thread(close)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            async with self._one_at_a_time:
                return await self._run_blocking(work, self._connection, *arguments)
        except sqlite3.Error as error:
            raise StoreFailed(f"the buffer on disk refused: {error}") from error

    async def _transact(self, work: Callable[[sqlite3.Connection], None]) -> None:
        def transaction(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

        await self._in_thread(transaction)


def _open(cls: type[DiskBuffer], path: Path, source: str, form: Format) -> DiskBuffer:
    try:
        return _checked(cls, path, source, form)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise ConfigError(
                str(path), "a buffer that no other producer has open", "one in use"
            ) from error
        raise StoreFailed(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        aside = _set_aside(path)
        logger.error("buffer %s is damaged (%s), set aside as %s", path, error, aside.name)
        buffer = _checked(cls, path, source, form)
        buffer.damaged = aside
        return buffer


def _checked(cls: type[DiskBuffer], path: Path, source: str, form: Format) -> DiskBuffer:
    # isolation_level=None: transactions begin and end where this module says.
    connection = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive locking keeps a second producer out and needs no shared-memory file.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreTooNew(f"{path}: version {version}; this program knows {VERSION}")
        connection.execute("BEGIN EXCLUSIVE")
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
        _agree(connection, path, source, form)
        _begin_opening(connection)
        connection.execute("COMMIT")
        return cls(connection)
    except BaseException:
        connection.close()
        raise


def _agree(db: sqlite3.Connection, path: Path, source: str, form: Format) -> None:
    """Check, or note in an empty file, whose records these are and how they are encoded."""
    empty = db.execute("SELECT 1 FROM record LIMIT 1").fetchone() is None
    for name, mine in (("source", source), ("form", form)):
        theirs = _get(db, name)
        if theirs is not None and theirs != mine and not (name == "form" and empty):
            raise ConfigError(f"{path}: {name}", f"a buffer of {mine!r}", f"one of {theirs!r}")
        _put(db, name, mine)


def _begin_opening(db: sqlite3.Connection) -> None:
    opening, before = _get(db, "opening"), _before(db)
    if opening is not None:
        before = (*before, (str(opening), int(str(_get(db, "next") or 1))))
    _put(db, "opening", new_opening())
    _put(db, "before", json.dumps(before[-OPENINGS_MAX:]))


def _before(db: sqlite3.Connection) -> tuple[tuple[str, int], ...]:
    try:
        pairs = json.loads(str(_get(db, "before") or "[]"))
        return tuple((str(opening), int(following)) for opening, following in pairs)
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"its openings cannot be read: {error}") from error


def _load(db: sqlite3.Connection) -> tuple[int, int, int, str | None, int]:
    first, last, size = db.execute(
        "SELECT min(number), max(number), coalesce(sum(length(body)), 0) FROM record"
    ).fetchone()
    epoch = _get(db, "epoch")
    following = int(str(_get(db, "next") or 1))
    if first is None:
        first = following
    assert last is None or last == following - 1
    return (
        first, following, size, None if epoch is None else str(epoch),
        int(str(_get(db, "shift") or 0)),
    )  # fmt: skip


def _read(db: sqlite3.Connection, number: int, stop: int, most_bytes: int) -> list[bytes]:
    found: list[bytes] = []
    total = 0
    rows = db.execute(
        "SELECT body FROM record WHERE number >= ? AND number < ? ORDER BY number", (number, stop)
    )
    for (body,) in rows:
        total += len(body)
        if found and total > most_bytes:
            break
        found.append(body)
    return found


def _size_between(db: sqlite3.Connection, first: int, stop: int) -> int:
    row = db.execute(
        "SELECT coalesce(sum(length(body)), 0) FROM record WHERE number >= ? AND number < ?",
        (first, stop),
    ).fetchone()
    return int(row[0])


def _get(db: sqlite3.Connection, name: str) -> object:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def _put(db: sqlite3.Connection, name: str, value: object) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", "-journal", ""):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    return aside
