"""The checker is a second opinion: it walks the store's file by itself and trusts nobody.

It shares no code with what wrote the store but the reader of LMDB's pages: keys, headers and
checksums are taken apart here once more, from the specification in ``store/__init__.py``. So a
mistake in the format cannot hide in the reading of it. The store must not be open. What is sealed
is opened where its key is given; checksums are over what lies there, and need none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from edge_agent.errors import StoreDamaged
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.lmdb_file.pages import PageFile
from edge_agent.store.tools.check_payload import occupied, payload_problem, thinned_problem

_BLOCK = struct.Struct(">BBBBII16sQqqqHI")
_PROBLEMS_MAX = 1000


@dataclass(slots=True)
class LogReport:
    """One log as found: blocks, records and the seqs that they cover; ``damaged`` of the blocks
    fail their checksum, and their records are not counted.
    """

    blocks: int = 0
    records: int = 0
    first: int = 0
    last: int = 0
    bytes: int = 0
    damaged: int = 0


@dataclass(slots=True)
class Report:
    """``problems`` is empty where all is well; ``gaps`` are seqs lost in an earlier salvage, which
    ``salvaged`` tells of. ``miscounted`` of the problems are about how many bytes something has,
    and no more: whoever writes the store anew counts them anew. ``sealed`` blocks and entries need
    a key that was not given: their checksums are right, and nobody looked inside.
    """

    problems: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    logs: dict[str, LogReport] = field(default_factory=dict)
    positions: int = 0
    sources: int = 0
    quarantined: int = 0
    clocks: int = 0
    salvaged: list[str] = field(default_factory=list)
    miscounted: int = 0
    sealed: int = 0

    def problem(self, text: str) -> None:
        """Note one; a thousand are enough to know."""
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(text)


def check_store(path: Path, seals: KeyRing = OPEN) -> Report:
    """Check the store of the agent's folder ``path`` whole: every page, block and counter; what is
    sealed as far as ``seals`` open it.

    Raises OSError where there is nothing to read.
    """
    return check_file(path / "store" / "data.mdb", seals)


def check_file(data: Path, seals: KeyRing = OPEN) -> Report:
    """As `check_store`, of the file itself."""
    report = Report()
    try:
        with PageFile(data) as pages:
            if None in pages.metas:
                report.problem("one of the file's two roots cannot be read")
            _Walk(report, pages, seals).run()
    except StoreDamaged as error:
        report.problem(str(error))
    return report


class _Walk:
    def __init__(self, report: Report, pages: PageFile, seals: KeyRing) -> None:
        self._report = report
        self._pages = pages
        self._seals = seals
        self._keys_named: list[bytes] = []
        self._names: dict[int, str] = {}
        self._headers: dict[int, list[Any]] = {}
        self._looked_bytes: dict[int, int] = {}
        self._positions: list[tuple[str, int]] = []
        self._quarantine: list[int] = []
        self._quarantine_bytes = 0

    def run(self) -> None:
        pages, report = self._pages, self._report
        previous = b""
        entries = 0
        for node in pages.nodes(pages.meta.main.root, report.problem):
            entries += 1
            if node.key <= previous:
                report.problem(f"key {node.key.hex()} is out of order")
            previous = node.key
            try:
                self._value(node.key, pages.value(node))
            except (StoreDamaged, ValueError, TypeError, msgpack.UnpackException) as error:
                report.problem(f"key {node.key[:30].hex()}: {error}")
        if entries != pages.meta.main.entries:
            report.problem(f"the root counts {pages.meta.main.entries} keys, {entries} are there")
        self._close_logs()
        self._close_quarantine()

    def _value(self, key: bytes, value: bytes) -> None:
        kind, rest = key[0], key[1:]
        if kind == 0xF0:
            self._block(key, value)
            return
        size = occupied(len(value), self._pages.page_bytes)
        crc, value = value[-4:], value[:-4]
        if zlib.crc32(key + value).to_bytes(4, "big") != crc:
            self._report.problem(f"key {key[:30].hex()} fails its checksum")
            if kind == 4 and len(rest) == 8:
                self._quarantine.append(int.from_bytes(rest, "big"))
                self._quarantine_bytes += size
        elif kind == 0:
            self._about_store(rest, msgpack.unpackb(value))
        elif kind == 1:
            self._log(rest.decode(), msgpack.unpackb(value))
        elif kind == 2:
            self._position(key, *msgpack.unpackb(value))
        elif kind == 3:
            expected, seen_ns, synced = msgpack.unpackb(value)[:3]
            self._report.sources += 1
            if expected < 1 or seen_ns < 0 or not isinstance(synced, bool):
                self._report.problem(f"source {rest.decode()!r} expects {expected}")
        elif kind == 4:
            self._quarantined(rest, value, size)
        elif kind == 5:
            self._clock(rest, *msgpack.unpackb(value)[:6])
        else:
            self._report.problem(f"key {key.hex()} is none of ours")

    def _position(self, key: bytes, floor: int, state: bytes | None, *more: Any) -> None:
        consumer, _, log = key[1:].decode().rpartition("\x00")
        self._report.positions += 1
        self._positions.append((log, floor))
        if not consumer or floor < 0:
            self._report.problem(f"position of {consumer!r} in {log!r} is {floor}")
        # Behind what was there before sealing: paused, skipped, span.
        if state is not None and more[3:] == (True,):
            self._opened(key, state)

    def _clock(
        self, rest: bytes, number: int, offset: int, boot: int, hops: int, need: bool, _: int
    ) -> None:
        self._report.clocks += 1
        agent = rest[16:].decode()
        sound = -(2**63) <= offset < 2**63 and 0 <= boot < 2**63 and isinstance(need, bool)
        if len(rest) < 16 or number < 1 or not sound or not 1 <= hops <= 8:
            self._report.problem(f"the clock note about {agent!r} is {number}, {offset}, {hops}")

    def _about_store(self, rest: bytes, value: list[Any]) -> None:
        if rest == b"\x01":
            if value[0] != self._pages.meta.txn:
                told = self._pages.meta.txn
                self._report.problem(f"the root is of commit {told}, its tree of {value[0]}")
        elif rest == b"\x02":
            self._report.salvaged = [str(part) for part in value]
        elif rest:
            self._report.problem(f"key 00{rest.hex()} is none of ours")
        else:
            self._store(value)

    def _store(self, header: list[Any]) -> None:
        version, store_id, epoch, agent_id = header[:4]
        self._keys_named = header[14] if len(header) > 14 else []
        lengths = (len(bytes.fromhex(text)) for text in (store_id, epoch, agent_id))
        if version != (2 if self._keys_named else 1) or tuple(lengths) != (16, 8, 6):
            self._report.problem(f"the store's header is {header}")

    def _log(self, name: str, header: list[Any]) -> None:
        log_id, first, last = header[:3]
        if log_id in self._names or not 0 < log_id < 256 or not 1 <= first <= last + 1:
            self._report.problem(f"log {name!r} has the header {header}")
        self._names[log_id] = name
        # Headers from before there was thinning are shorter.
        self._headers[log_id] = header + [0] * (11 - len(header))
        self._looked_bytes[log_id] = 0
        self._report.logs[name] = LogReport()

    def _block(self, key: bytes, value: bytes) -> None:
        log_id, first = key[1], int.from_bytes(key[2:], "big")
        if len(key) != 10 or log_id not in self._names:
            self._report.problem(f"block {key.hex()} belongs to no log")
            return
        name = self._names[log_id]
        log = self._report.logs[name]
        log.bytes += occupied(len(value), self._pages.page_bytes)
        version, _, flags, sealed, count, _ = _BLOCK.unpack_from(value)[:6]
        low, high, extra, crc = _BLOCK.unpack_from(value)[9:]
        if log.blocks == 0:
            log.first = first
        elif first <= log.last:
            self._report.problem(f"log {name}: block {first} overlaps what ends at {log.last}")
        elif first > log.last + 1:
            self._report.gaps.append(f"log {name}: {log.last + 1} to {first - 1}")
        # A thinned block stands for more records than it holds.
        covers = int.from_bytes(value[66:70], "big") if flags & 4 else count
        log.blocks += 1
        if first <= self._headers[log_id][7]:
            self._looked_bytes[log_id] += occupied(len(value), self._pages.page_bytes)
        if zlib.crc32(key + value[:62] + b"\0\0\0\0" + value[66:]) != crc:
            # How many records it had cannot be known: that shows as a gap.
            self._report.problem(f"log {name}: block {first} fails its checksum")
            log.damaged, log.last = log.damaged + 1, first
            return
        log.records, log.last = log.records + count, first + covers - 1
        begin = 70 if flags & 4 else 66
        origin = msgpack.unpackb(value[begin : 66 + extra]) if 66 + extra > begin else None
        known = version == 1 and sealed <= 1 and flags >> 4 == 0
        if not known or low > high or not 1 <= count <= covers:
            self._report.problem(f"log {name}: block {first} has an impossible header")
        if bool(flags & 2) != (origin is not None) or (origin and len(origin) != 9):
            self._report.problem(f"log {name}: block {first} has the origin {origin}")
        if problem := self._payload_problem(key, value, value[66 : 66 + extra]):
            self._report.problem(f"log {name}: block {first}: {problem}")

    def _payload_problem(self, key: bytes, value: bytes, extra: bytes) -> str | None:
        _, codec, flags, sealed, count, raw_len = _BLOCK.unpack_from(value)[:6]
        payload: bytes | None = value[66 + len(extra) :]
        if sealed:
            payload = self._opened(b"block" + key + value[:62] + extra, value[66 + len(extra) :])
        if payload is None:
            return None
        problem = payload_problem(payload, codec, raw_len, count)
        if problem is None and flags & 4:
            covers = int.from_bytes(value[66:70], "big")
            problem = thinned_problem(payload, codec, covers, own=not flags & 2)
        return problem

    def _quarantined(self, rest: bytes, value: bytes, size: int) -> None:
        if not rest:
            first, last, total, _, *more = msgpack.unpackb(value)
            self._headers[0] = [0, first, last, last - first + 1 - sum(more[:1]), total]
            return
        self._quarantine.append(int.from_bytes(rest, "big"))
        self._quarantine_bytes += size
        self._report.quarantined += 1
        opened = self._opened(b"quarantine", value) if value[:1] == b"\xc1" else value
        if opened is None:
            return
        code, _, _, _, number, _, body, *_ = msgpack.unpackb(opened)
        if not code or number < 0 or len(body) > 4096:
            self._report.problem(f"quarantine {rest.hex()} holds {code!r}, {len(body)} bytes")

    def _opened(self, place: bytes, value: bytes) -> bytes | None:
        """What is sealed in a value; None where its key was not given. Raises StoreDamaged."""
        key = value[2:10]
        if value[:2] != b"\xc1\x01" or key not in self._keys_named:
            raise StoreDamaged(f"it is sealed with a key {key.hex()} that the header does not name")
        if key not in self._seals.ids:
            self._report.sealed += 1
            return None
        return self._seals.opened(place, value)

    def _close_logs(self) -> None:
        report = self._report
        for log_id, name in self._names.items():
            _, first, last, records, size = self._headers[log_id][:5]
            looked, looked_bytes, thinned, aggregates = self._headers[log_id][7:11]
            found = report.logs[name]
            if looked > last or looked_bytes != self._looked_bytes[log_id] or thinned < aggregates:
                report.miscounted += looked <= last and thinned >= aggregates
                report.problem(
                    f"log {name}: thinning says {looked}, {looked_bytes} bytes, {thinned} records,"
                    f" {aggregates} aggregates; {self._looked_bytes[log_id]} bytes are there"
                )
            counted = records if found.damaged else found.records
            if (records, size) != (counted, found.bytes):
                report.miscounted += records == counted
                report.problem(
                    f"log {name} counts {records} records in {size} bytes,"
                    f" {found.records} in {found.bytes} are there"
                )
            if found.blocks and (first > found.first or last < found.last):
                report.problem(f"log {name} claims {first} to {last}, has {found}")
            begin, end = (found.first, found.last) if found.blocks else (last + 1, last)
            if first < begin:
                report.gaps.append(f"log {name}: {first} to {begin - 1}")
            if last > end:
                report.gaps.append(f"log {name}: {end + 1} to {last}")
        ends = {name: self._headers[log_id][2] for log_id, name in self._names.items()}
        for log, floor in self._positions:
            if floor > ends.get(log, 0):
                report.problem(f"a position in log {log} is {floor}, beyond {ends.get(log)}")

    def _close_quarantine(self) -> None:
        _, first, last, count, size = self._headers.get(0, [0, 1, 0, 0, 0])
        # Numbers in between may have been taken out by a person, and are counted.
        numbers = self._quarantine
        inside = not numbers or first == numbers[0] <= numbers[-1] <= last
        if not inside or (len(numbers), self._quarantine_bytes) != (count, size):
            self._report.miscounted += inside and len(numbers) == count
            self._report.problem(f"quarantine counts {first} to {last} in {size} bytes, is not so")


def problems(path: Path) -> Iterator[str]:
    """The lines that `edge-agent check` prints for what is wrong, gaps included."""
    report = check_store(path)
    yield from report.problems
    yield from (f"gap: {gap}" for gap in report.gaps)
