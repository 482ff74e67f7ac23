"""Tools for a whole history file: check, rewrite, back up, restore.

The agent must not be writing to it, but for a backup, which reads as of one flush.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import lmdb
import msgspec

from edge_agent.digest.file import BUILDING, REBUILT, map_size_of, put_in_place
from edge_agent.digest.new_file import write_new
from edge_agent.errors import StoreDamaged, StoreFailed, StoreSealed
from edge_agent.history import (
    FOLDER,
    all_cells_of,
    checked,
    decode_rollup,
    decode_segment,
    keys,
    read_header,
    read_value,
    records_in,
    rows_of,
    scan,
    to_store,
)
from edge_agent.history.keys import (
    DAY_NS,
    HOURS,
    LEVELS,
    MINUTES,
    MONTH_NS,
    MONTHS,
    RAW,
    SERIES,
)
from edge_agent.seal import OPEN, KeyRing, is_sealed, key_id
from edge_agent.store import (
    DATA,
    open_to_read,
    preflight_pages,
    rename,
    sync_folder,
)
from edge_agent.system.files import acting_as_owner, give_to_owner

BACKUP = "history.mdb"
_PART = "history.part"


@dataclass(slots=True)
class HistoryReport:
    """What was found: counts by level, records, streams, and problems in words. ``sealed`` parts
    need a key that was not given: their checksums are right, and nobody looked inside.
    """

    records: int = 0
    series: int = 0
    sealed: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def check_history(path: Path, *, deep: bool = False, seals: KeyRing = OPEN) -> HistoryReport | None:
    """Whether the history of the agent's folder ``path`` is sound; None where there is none.

    Every value is read under its checksum, and what is kept of an hour by minute has to count as
    many records as the hour holds. ``deep`` decodes every column, too.
    """
    if not _is_there(path):
        return None
    report = HistoryReport()
    try:
        with _opened(path / FOLDER, beside=False) as env, env.begin(buffers=True) as txn:
            read_header(txn)
            _Check(txn, report, deep, seals).run()
    except (StoreDamaged, lmdb.Error) as error:
        report.problems.append(f"history: {error}")
    return report


class _Check:
    def __init__(
        self, txn: lmdb.Transaction[memoryview], report: HistoryReport, deep: bool, seals: KeyRing
    ) -> None:
        self._txn, self._report, self._deep, self._seals = txn, report, deep, seals
        self._counts: dict[int, Counter[tuple[int, int]]] = {level: Counter() for level in LEVELS}

    def run(self) -> None:
        names = {int.from_bytes(key[1:], "big") for key, _ in scan(self._txn, SERIES)}
        self._report.series = len(names)
        for level in LEVELS:
            parts = 0
            for key, raw in scan(self._txn, bytes((level,))):
                parts += 1
                place = keys.split_key(key)
                try:
                    if place.series not in names:
                        raise StoreDamaged("its stream has no name")
                    value = checked(key, raw)
                    if is_sealed(value) and key_id(value) not in self._seals.ids:
                        self._report.sealed += 1
                        continue
                    self._look(place, read_value(key, raw, self._seals))
                except StoreDamaged as error:
                    self._report.problems.append(f"history: {_where(place)}: {error}")
            self._report.parts[_LEVELS[level]] = parts
        if not self._report.sealed:
            self._compare()

    def _look(self, place: keys.PartKey, value: bytes) -> None:
        """Read a part, and count its records by bucket; those of a month by its days."""
        level, bucket, series, _ = place
        if level == RAW:
            segment = decode_segment(value)
            if self._deep:
                rows_of(segment)
            self._counts[RAW][bucket, series] += segment.count
            return
        rollup = decode_rollup(value)
        if self._deep:
            for _ in all_cells_of(rollup):
                pass
        records = records_in(rollup)
        if level != MONTHS:
            self._counts[level][bucket, series] += sum(records.counts)
            return
        for start, count in zip(records.starts, records.counts, strict=True):
            if start // MONTH_NS != bucket:
                raise StoreDamaged("it has hours of another month")
            self._counts[HOURS][start // DAY_NS, series] += count

    def _compare(self) -> None:
        self._report.records = sum(self._counts[RAW].values())
        for (hour, series), count in self._counts[RAW].items():
            found = self._counts[MINUTES][hour, series]
            if found != count:
                self._report.problems.append(
                    f"history: hour {hour} of series {series} has {count} records,"
                    f" its minutes count {found}"
                )
        days: Counter[tuple[int, int]] = Counter()
        first = min((hour for hour, _ in self._counts[MINUTES]), default=0)
        for (hour, series), count in self._counts[MINUTES].items():
            days[hour // 24, series] += count
        for (day, series), count in self._counts[HOURS].items():
            # Of the day at which forgetting stands there are minutes of a part.
            if day * 24 >= first and days[day, series] not in (0, count):
                self._report.problems.append(
                    f"history: day {day} of series {series} has {days[day, series]} records by"
                    f" minute, its hours count {count}"
                )


_LEVELS = {
    RAW: "hours of records", MINUTES: "hours by minute", HOURS: "days by hour",
    MONTHS: "months by hour",
}  # fmt: skip


def _where(place: keys.PartKey) -> str:
    return f"{_LEVELS[place.level]}, bucket {place.bucket}, series {place.series}"


def rewrite_history(
    path: Path, erased: Callable[[str], bool] | None = None, seals: KeyRing = OPEN
) -> list[str]:
    """Write history anew, without what was deleted and without streams that are ``erased``; their
    names. It is sealed by the key of ``seals`` that seals, and open where none does. Nothing
    happens where there is none.

    Raises StoreFailed, StoreDamaged; StoreSealed where a key is missing.
    """
    put_in_place(path)
    if not _is_there(path):
        return []
    building = path / BUILDING
    shutil.rmtree(building, ignore_errors=True)
    try:
        with _opened(path / FOLDER, beside=False) as env:
            gone = _copy_of(env, building, erased=erased, seals=seals)
        rename(building, path / REBUILT)
        put_in_place(path)
    except (OSError, lmdb.Error, StoreDamaged) as error:
        raise StoreFailed(f"{path / FOLDER}: history cannot be written anew: {error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return gone


def back_up_history(path: Path, target: Path) -> dict[str, str]:
    """A copy as of the last flush as ``target / BACKUP``; its SHA-256 by its name, {} without one.

    Raises StoreFailed, StoreDamaged.
    """
    if not _is_there(path):
        return {}
    part = target / _PART
    try:
        with ExitStack() as held:
            with acting_as_owner(path):
                env = held.enter_context(_opened(path / FOLDER, beside=True))
            _copy_of(env, part)
        (part / DATA).rename(target / BACKUP)
        sync_folder(target)
        with (target / BACKUP).open("rb") as file:
            return {BACKUP: hashlib.file_digest(file, "sha256").hexdigest()}
    except (OSError, lmdb.Error) as error:
        raise StoreFailed(f"history cannot be backed up: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def restore_history(backup: Path, path: Path, store_id: str, epoch: str) -> bool:
    """Put the history of a backup into the agent's folder, as that of the store ``store_id``; False
    where the backup has none. One that is there is replaced.

    Raises StoreFailed, StoreDamaged.
    """
    if not (backup / BACKUP).exists():
        shutil.rmtree(path / FOLDER, ignore_errors=True)
        return False
    building, unpacked = path / BUILDING, path / _PART
    for folder in (building, unpacked):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        unpacked.mkdir(mode=0o700)
        shutil.copyfile(backup / BACKUP, unpacked / DATA)
        with _opened(unpacked, beside=False) as env:
            _copy_of(env, building, owner=(store_id, epoch))
        # Root restores, and the agent's user goes on with it.
        give_to_owner(path, building)
        rename(building, path / REBUILT)
        put_in_place(path)
    except (OSError, lmdb.Error) as error:
        raise StoreFailed(f"{path / FOLDER}: history cannot be restored: {error}") from error
    finally:
        for folder in (building, unpacked):
            shutil.rmtree(folder, ignore_errors=True)
    return True


def _is_there(path: Path) -> bool:
    """Whether there is a history below the agent's folder. Raises StoreFailed if nobody can say."""
    try:
        return (path / FOLDER / DATA).exists()
    except OSError as error:
        raise StoreFailed(f"{path / FOLDER}: {error.strerror}") from error


def _copy_of(
    env: lmdb.Environment,
    target: Path,
    *,
    erased: Callable[[str], bool] | None = None,
    owner: tuple[str, str] | None = None,
    seals: KeyRing | None = None,
) -> list[str]:
    """Every sound value into a new file in ``target``; values that fail their checksum stay behind,
    as nobody could read them, and parts of streams whose names did. With ``seals`` all is stored as
    it would be now; without, sealed or not as it is.
    """
    with env.begin(buffers=True) as txn:
        used = txn.stat()
        pages = used["branch_pages"] + used["leaf_pages"] + used["overflow_pages"]
        header = read_header(txn)
        if seals is not None:
            if lacking := seals.lacks(header.seals):
                raise StoreSealed(f"history: {lacking}")
            header = msgspec.structs.replace(header, seals=seals.also(()))
        if owner is not None:
            header = msgspec.structs.replace(header, store_id=owner[0], epoch=owner[1])
        gone = {} if erased is None or seals is None else _gone(txn, erased, seals)
        values = (one for one in _values(txn, seals) if keys.series_of(one[0]) not in gone)
        write_new(target, map_size_of(2 * pages * used["psize"]), header, values)
    (target / "lock.mdb").unlink(missing_ok=True)
    return sorted(gone.values())


def _gone(
    txn: lmdb.Transaction[memoryview], erased: Callable[[str], bool], seals: KeyRing
) -> dict[int, str]:
    """Names of the streams that are erased, by their numbers."""
    names = {key: read_value(key, raw, seals).decode() for key, raw in scan(txn, SERIES)}
    return {int.from_bytes(key[1:], "big"): name for key, name in names.items() if erased(name)}


def _values(
    txn: lmdb.Transaction[memoryview], seals: KeyRing | None
) -> Iterator[tuple[bytes, bytes]]:
    for begin in (SERIES, *(bytes((level,)) for level in LEVELS)):
        for key, raw in scan(txn, begin):
            try:
                value = checked(key, raw)
                if seals is not None and (key_id(value) if is_sealed(value) else b"") != (
                    seals.current
                ):
                    yield key, to_store(key, read_value(key, raw, seals), seals)
                    continue
            except StoreDamaged:
                continue
            yield key, bytes(raw)


@contextmanager
def _opened(folder: Path, *, beside: bool) -> Iterator[lmdb.Environment]:
    """``beside`` an agent that writes, or where nobody does."""
    size = (folder / DATA).stat().st_size
    if beside:
        env = lmdb.open(
            str(folder), map_size=size, readonly=True, readahead=False, max_dbs=0, lib_version=0
        )
    else:
        # LMDB would take the whole process with it where a page is not there.
        preflight_pages(folder)
        env = open_to_read(folder, size)
    try:
        yield env
    finally:
        env.close()
