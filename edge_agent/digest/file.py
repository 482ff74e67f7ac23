"""History's file: an LMDB environment of its own beside the store, opened by one agent.

It is a file of its own so that no ack ever waits for it, and so that what it deletes leaves the
store's free pages as they are, which are a ring. Where it is damaged it is set aside, and what can
be read back of it goes on (`salvage.py`), with what the logs still hold.

Each flush is one synced transaction: segments, roll-ups, names of new series and the position in
each log commit together or not at all. Values are followed by the CRC-32 of key and value.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import lmdb
import msgspec

from edge_agent.digest.new_file import write_new
from edge_agent.digest.owner import HistoryOwner
from edge_agent.digest.salvage import salvage_history
from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.history import (
    FOLDER,
    HISTORY_FORMAT,
    HistoryHeader,
    checked,
    keys,
    read_header,
    read_value,
    scan,
    to_store,
)
from edge_agent.history.keys import LEVELS, META, PartKey
from edge_agent.seal import OPEN, SEAL_BYTES, KeyRing
from edge_agent.store import DATA, open_environment, preflight_pages, rename, writing

BUILDING = "history.new"
#: Complete, and about to take the place of the one that it was made of.
REBUILT = "history.rebuilt"
DAMAGED = "history.damaged"
#: `HistoryHeader.hours_until` before any day has hours of its own.
NEVER = -(2**31)
#: What LMDB gets beyond what history may hold: deleting needs free pages, too.
HEADROOM = 1.25
#: What history leaves free on the disk: so much, or a twentieth of a small one.
FREE_BYTES = 256 * 1024 * 1024
_HEADROOM_BYTES = 8 * 1024 * 1024
#: LMDB's head of a page, and what a part takes in one beside its value: head and key.
_PAGE_HEAD, _NODE_BYTES = 16, 8 + keys.KEY_BYTES
_CRC_BYTES = 4
_ENCODER = msgspec.msgpack.Encoder()


class Puts(dict[bytes, bytes]):
    """Parts by key, which knows those of each bucket: a flush may have parts in thousands of hours,
    and looks for those of each.
    """

    def __init__(self, parts: Mapping[bytes, bytes] | None = None) -> None:
        super().__init__()
        self._of: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for key, value in (parts or {}).items():
            self[key] = value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Add a part, or put it in the place of another."""
        super().__setitem__(key, value)
        self._of[keys.bucket_of(key)].add(key)

    def take_out(self, key: bytes) -> None:
        """Without this part, if it is there."""
        if super().pop(key, None) is not None:
            self._of[keys.bucket_of(key)].discard(key)

    def of_bucket(self, level: int, bucket: int) -> list[bytes]:
        """The keys of a bucket, in order."""
        return sorted(self._of.get(keys.bucket_of(keys.bucket_key(level, bucket)), ()))


@dataclass(slots=True)
class Flush:
    """What one transaction writes: parts by key, keys to delete, and what history says then."""

    header: HistoryHeader
    puts: Puts = field(default_factory=Puts)
    deletes: list[bytes] = field(default_factory=list)
    series: dict[int, str] = field(default_factory=dict)

    def put_instead(
        self,
        gone: Iterable[bytes],
        place: tuple[int, int, int],
        values: Sequence[bytes],
        *,
        first: int = 0,
    ) -> None:
        """These values become the parts ``first`` and on in the place of those under the keys in
        ``gone``.
        """
        for key in gone:
            self.puts.take_out(key)
            self.deletes.append(key)
        for part, value in enumerate(values, first):
            self.puts[keys.part_key(*place, part)] = value


@dataclass(frozen=True, slots=True)
class HistoryUsage:
    """Bytes in use and allowed now; the oldest bucket of each level, None where there is none."""

    used_bytes: int
    limit_bytes: int
    oldest: Mapping[int, int | None]


class HistoryFile:
    """The open file. Reads and writes are whole transactions in the thread that calls."""

    def __init__(
        self, env: lmdb.Environment, limit_bytes: int, header: HistoryHeader, seals: KeyRing = OPEN
    ) -> None:
        self._env = env
        self._seals = seals
        #: What a value has beside itself.
        self._beside_bytes = _CRC_BYTES + (SEAL_BYTES if seals.current else 0)
        self.limit_bytes = limit_bytes
        self.header = header
        #: Names of series by their numbers, which rise.
        self.names: dict[int, str] = {}
        self._page_bytes = env.stat()["psize"]
        #: A part that is larger has pages of its own: two nodes are to fit into a page.
        self.inline_bytes = (self._page_bytes - _PAGE_HEAD) // 2 - 2 - _NODE_BYTES
        self.inline_bytes -= self._beside_bytes
        with self._begin() as txn:
            for key, raw in scan(txn, keys.SERIES):
                self.names[int.from_bytes(key[1:], "big")] = self._read(key, raw).decode()
        self.numbers = {name: number for number, name in self.names.items()}
        #: Series whose names are in the file.
        self.written = set(self.names)

    @classmethod
    def open(cls, path: Path, limit_bytes: int, owner: HistoryOwner) -> tuple[HistoryFile, str]:
        """The file below the agent's folder ``path``, made where there is none; and a sentence
        about what was set aside, "" if nothing was.

        Raises:
            StoreFailed: the disk refuses.
            StoreSealed: a key is missing; nothing was changed.
        """
        told = ""
        try:
            put_in_place(path)
            # Where less is allowed than before, what is there goes, which needs room, too.
            data = path / FOLDER / DATA
            there = data.stat().st_size if data.exists() else 0
            map_size = max(map_size_of(limit_bytes), there + _HEADROOM_BYTES)
            if (path / FOLDER).exists():
                try:
                    return cls._open(path / FOLDER, map_size, limit_bytes, owner), ""
                except (StoreDamaged, lmdb.Error) as error:
                    told = _set_aside(path, map_size, owner, str(error))
            if not (path / FOLDER).exists():
                _create(path, map_size, owner)
            return cls._open(path / FOLDER, map_size, limit_bytes, owner), told
        except (OSError, lmdb.Error) as error:
            raise StoreFailed(f"{path / FOLDER}: history cannot be opened: {error}") from error

    @classmethod
    def _open(
        cls, folder: Path, map_size: int, limit_bytes: int, owner: HistoryOwner
    ) -> HistoryFile:
        if (folder / DATA).exists():
            # What we may not open is not damaged.
            (folder / DATA).open("r+b").close()
        preflight_pages(folder)
        seals = owner.seals
        env = open_environment(folder, map_size, clean=seals.current != b"")
        try:
            with env.begin(buffers=True) as txn:
                meta = read_header(txn)
            owner.check(meta)
            # Written with whatever is sealed first.
            meta = msgspec.structs.replace(meta, seals=seals.also(meta.seals))
            if (meta.store_id, meta.epoch) != (owner.store_id, owner.epoch):
                # Before the store changes again: only its last name is known.
                meta = msgspec.structs.replace(meta, store_id=owner.store_id, epoch=owner.epoch)
                with writing(env) as txn:
                    txn.put(META, to_store(META, _ENCODER.encode(meta)))
            return cls(env, limit_bytes, meta, seals)
        except BaseException:
            env.close()
            raise

    def write(self, flush: Flush) -> None:
        """Commit and sync. Raises StoreFailed; nothing was written then."""
        try:
            with writing(self._env) as txn:
                for key in flush.deletes:
                    txn.delete(key)
                # In the order of keys, which fills pages one behind the other.
                for key, value in sorted(flush.puts.items()):
                    txn.put(key, to_store(key, value, self._seals))
                for number, name in flush.series.items():
                    key = keys.series_key(number)
                    txn.put(key, to_store(key, name.encode(), self._seals))
                txn.put(META, to_store(META, _ENCODER.encode(flush.header)))
        except lmdb.Error as error:
            raise StoreFailed(f"history: {error}") from error
        self.header = flush.header
        self.written |= flush.series.keys()

    def bucket_from(self, level: int, bucket: int) -> int | None:
        """The first bucket that has parts, from ``bucket`` on."""
        with self._begin() as txn:
            return _first_bucket(txn, level, bucket)

    def parts(self, level: int, first: int, last: int) -> Iterator[tuple[PartKey, bytes]]:
        """Every sound part of the buckets ``first`` to ``last``, in the order of their keys."""
        with self._begin() as txn:
            for key, raw in scan(
                txn, keys.bucket_key(level, first), keys.bucket_key(level, last + 1)
            ):
                try:
                    yield keys.split_key(key), self._read(key, raw)
                except StoreDamaged:
                    continue

    def part(self, key: bytes) -> bytes | None:
        """One part; None where it is damaged or not there."""
        with self._begin() as txn:
            raw = txn.get(key)
            try:
                return None if raw is None else self._read(key, raw)
            except StoreDamaged:
                return None

    def part_keys(self, level: int, first: int, last: int) -> list[bytes]:
        """The keys of these buckets."""
        begin, end = keys.bucket_key(level, first), keys.bucket_key(level, last + 1)
        with self._begin() as txn:
            return [key for key, _ in scan(txn, begin, end)]

    def keys_from(
        self, level: int, bucket: int, series: int, limit: int, *, upto: int = keys.SERIES_LAST
    ) -> list[bytes]:
        """The first keys of a bucket from one series to another."""
        begin = keys.part_key(level, bucket, series, 0)
        end = keys.part_key(level, bucket, upto, keys.PARTS_MAX) + b"\x00"
        with self._begin() as txn:
            return [key for key, _ in islice(scan(txn, begin, end), limit)]

    def buckets(self, level: int, first: int, last: int) -> Iterator[tuple[int, int, list[bytes]]]:
        """Each bucket that has parts, oldest first: its number, their bytes, their keys."""
        bucket: int | None = first
        while bucket is not None and bucket <= last:
            size, found = 0, []
            with self._begin() as txn:
                begin, end = keys.bucket_key(level, bucket), keys.bucket_key(level, bucket + 1)
                for key, raw in scan(txn, begin, end):
                    size += self.room(len(raw))
                    found.append(key)
                behind = _first_bucket(txn, level, bucket + 1)
            if found:
                yield bucket, size, found
            bucket = behind

    def scrub(self, after: bytes, limit_bytes: int) -> tuple[bytes, list[bytes]]:
        """Check what lies behind the key ``after``, about so many bytes of it: the last key looked
        at, b"" at the end; and the keys of parts that fail their checksum.
        """
        size, last, damaged = 0, b"", list[bytes]()
        begin = max(after + b"\x00", bytes((LEVELS[0],)))
        with self._begin() as txn:
            for key, raw in scan(txn, begin, bytes((LEVELS[-1] + 1,))):
                if size > limit_bytes:
                    return last, damaged
                try:
                    checked(key, raw)
                except StoreDamaged:
                    damaged.append(key)
                size, last = size + len(raw), key
        return b"", damaged

    def usage(self) -> HistoryUsage:
        """How much is used, and how far back each level goes."""
        with self._begin() as txn:
            stat = txn.stat()
            pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            oldest = {level: _first_bucket(txn, level, -(2**31)) for level in LEVELS}
        return HistoryUsage(pages * stat["psize"], self._allowed_bytes(), oldest)

    def _allowed_bytes(self) -> int:
        """What history may hold now: its share, or less where the disk is nearly full. It comes
        last on a card that the store and others need.
        """
        data = Path(self._env.path()) / DATA
        disk = shutil.disk_usage(data)
        spare = max(disk.free - min(FREE_BYTES, disk.total // 20), 0)
        return min(self.limit_bytes, int((data.stat().st_size + spare) / HEADROOM))

    def room(self, size: int) -> int:
        """What a part of ``size`` bytes takes, about: whole pages, once it is half as large as one,
        and else its part of a page that is full of such.
        """
        if size > self.inline_bytes:
            whole = size + self._beside_bytes + _PAGE_HEAD
            return -(-whole // self._page_bytes) * self._page_bytes
        node = size + self._beside_bytes + _NODE_BYTES + 2
        return self._page_bytes // ((self._page_bytes - _PAGE_HEAD) // node)

    def forget_readers(self) -> None:
        """Give back what a killed worker held."""
        self._env.reader_check()

    def close(self) -> None:
        """Nothing is written any more."""
        self._env.close()

    def _read(self, key: bytes, raw: memoryview) -> bytes:
        return read_value(key, raw, self._seals)

    def _begin(self) -> lmdb.Transaction[memoryview]:
        return self._env.begin(buffers=True)


def map_size_of(limit_bytes: int) -> int:
    """What LMDB gets where history may hold so much."""
    size = int(limit_bytes * HEADROOM) + _HEADROOM_BYTES
    return -(-size // 65_536) * 65_536


def put_in_place(path: Path) -> None:
    """Finish, or take back, what an interrupted creation or rewriting left behind."""
    shutil.rmtree(path / BUILDING, ignore_errors=True)
    if (path / REBUILT).exists():
        shutil.rmtree(path / FOLDER, ignore_errors=True)
        rename(path / REBUILT, path / FOLDER)


def _set_aside(path: Path, map_size: int, owner: HistoryOwner, why: str) -> str:
    """Move a damaged file away, and put what can be read back of it in its place; a sentence about
    that. A power cut at any moment leaves the damaged file, or what was read back of it. Raises
    StoreSealed where a key is missing, before anything is moved.
    """
    told = f"history is damaged ({why})"
    try:
        back = salvage_history(path / FOLDER, path / BUILDING, owner, map_size)
        if back.lost and owner.all_logged:
            raise StoreDamaged("the logs still hold all of it")
        rename(path / BUILDING, path / REBUILT)
        told += f"; {back.parts} parts of it were read back, {back.lost} could not be"
    except (StoreDamaged, OSError, lmdb.Error) as error:
        shutil.rmtree(path / BUILDING, ignore_errors=True)
        told += f" and begins anew ({error})"
    shutil.rmtree(path / DAMAGED, ignore_errors=True)
    rename(path / FOLDER, path / DAMAGED)
    put_in_place(path)
    return f"{told}; the old file is {DAMAGED}"


def _first_bucket(txn: lmdb.Transaction[memoryview], level: int, bucket: int) -> int | None:
    for key, _ in scan(txn, keys.bucket_key(level, bucket), bytes((level + 1,))):
        return keys.split_key(key).bucket
    return None


def _create(path: Path, map_size: int, owner: HistoryOwner) -> None:
    """A new file; a power cut at any moment leaves none or a good one."""
    building = path / BUILDING
    header = HistoryHeader(HISTORY_FORMAT, owner.store_id, owner.epoch, {}, 0, 0, 0, NEVER)
    write_new(building, map_size, header, clean=owner.seals.current != b"")
    rename(building, path / FOLDER)
