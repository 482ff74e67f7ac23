"""A block lies in the store as header, origin and payload, all under one checksum.

Big-endian header of 66 bytes, then ``extra_len`` bytes (of a thinned block the u32 ``covers``; of
a foreign block its origin in msgpack), then the payload as stored:

===== ============ ================================================================
u8    format       1
u8    codec        0 raw, 1 zstd
u8    flags        bit 0: our clock was synced; 1: has an origin; 2: thinned; 3: historical
u8    sealed       1: the payload is sealed (`edge_agent.seal`), for its place: see `_place`
u32   count        records
u32   raw_len      bytes of the payload once decompressed
16s   boot_id      ┐
u64   boot_ns      │ our clocks when the block was committed
i64   stored_ns    ┘
i64   time_min_ns  ┐ no record's own time lies outside
i64   time_max_ns  ┘
u16   extra_len
u32   crc          zlib.crc32 over key, header with crc = 0, extra and payload as stored
===== ============ ================================================================

The key is under the checksum, so that a block found in another's place fails too. The checksum is
that of what lies there, sealed or not: whether a block is sound can be told without its key.

A thinned block stands in the place of ``covers`` records, from its key's seq on, of which most
have given way to aggregates (`edge_agent.store.thinning`): it holds ``count`` of those numbers, and
the others belong to it, too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.seal import OPEN, SEAL_BYTES, KeyRing, key_id
from edge_agent.store.clock.correction import Boot, Correction, Offsets, correction_of
from edge_agent.store.format.codec import decompress
from edge_agent.store.format.foreign import foreign_stream
from edge_agent.store.format.keys import block_first
from edge_agent.store.format.payload import (
    PACKED_SLACK_BYTES,
    RAW_BYTES_MAX,
    RunView,
    join_runs,
    last_of,
    raw_runs,
    read_runs,
    slices_of,
)
from edge_agent.store.format.record_maps import decode_maps, lean_maps, time_of
from edge_agent.store.retention.policy import BlockHead
from edge_agent.store.settings import Moment
from edge_agent.values.record import Origin, Record

_ORIGIN = msgspec.msgpack.Decoder(tuple[str, str, str, int, bytes, int, int, bool, tuple[str, ...]])
_ENCODER = msgspec.msgpack.Encoder()


def encode_origin(origin: Origin) -> bytes:
    """An array of its fields."""
    return _ENCODER.encode(msgspec.structs.astuple(origin))


def decode_origin(raw: memoryview) -> Origin:
    """The origin. Raises StoreDamaged."""
    try:
        return Origin(*_ORIGIN.decode(raw))
    except ValueError as error:
        raise StoreDamaged(f"a block's origin cannot be read: {error}") from error


BLOCK_FORMAT = 1
FLAG_SYNCED = 1
FLAG_ORIGIN = 2
FLAG_THINNED = 4
FLAG_HISTORICAL = 8
#: What stands before a thinned block's origin: ``covers``.
_COVERS_BYTES = 4

_HEADER = struct.Struct(">BBBBII16sQqqqHI")
HEADER_BYTES = _HEADER.size
_CRC_AT = HEADER_BYTES - 4
_NO_CRC = bytes(4)
VALUE_BYTES_MAX = HEADER_BYTES + 65_535 + RAW_BYTES_MAX + PACKED_SLACK_BYTES + SEAL_BYTES


@dataclass(frozen=True, slots=True)
class Block:
    """One stored block whose checksum was right: the seqs ``first`` to ``last`` of ``log``.

    ``payload`` is as stored; ``boot_id`` to ``synced`` are this agent's clocks at the commit (of a
    thinned block: at the commit of the newest record that it stands for). ``thinned``: how many
    records a thinned block stands for, 0 for any other.
    ``historical``: it came from another agent's backlog, beside newer records.
    ``recalled``: it was made of what history keeps of its records (`edge_agent.questions.recall`).
    ``correction`` is what is known by now of clocks that were not set; it is no part of the block.
    ``sealed``: ``payload`` is, as whoever looked at it had no keys. Readers of a log never get one.
    """

    log: str
    first: int
    count: int
    codec: int
    raw_len: int
    payload: bytes = field(repr=False)
    boot_id: bytes
    boot_ns: int
    stored_ns: int
    synced: bool
    time_min_ns: int
    time_max_ns: int
    origin: Origin | None = None
    thinned: int = 0
    correction: Correction | None = None
    historical: bool = False
    sealed: bool = False
    recalled: bool = False

    @property
    def last(self) -> int:
        """Seq of the last record, or of the last one that the block stands for."""
        return self.first + (self.thinned or self.count) - 1

    @property
    def when_ns(self) -> int:
        """When it was committed here, as well as is known by now."""
        return self.stored_ns + (0 if self.correction is None else self.correction.stored_ns)

    @property
    def earliest_ns(self) -> int:
        """No record's time, as read now, lies before."""
        return self.time_min_ns if self.correction is None else -(2**63)

    @property
    def latest_ns(self) -> int:
        """No record's time, as read now, lies after."""
        fix = self.correction
        return self.time_max_ns if fix is None else fix.latest(self.time_max_ns)

    @property
    def unset_boot(self) -> Boot | None:
        """The boot whose clock was not set when the records came; None if it was."""
        if self.origin is None:
            return None if self.synced else ("", self.boot_id)
        return None if self.origin.synced else (self.origin.agent, self.origin.boot_id)

    def corrected(self, offsets: Offsets) -> Block:
        """As read where ``offsets`` are known and no others."""
        clocks = (self.boot_id, self.boot_ns, self.stored_ns, self.synced)
        found = correction_of(*clocks, self.origin, offsets)
        # As a rule nothing is known that was not before, and a copy costs what decoding one does.
        return self if found == self.correction else replace(self, correction=found)

    def raw(self) -> bytes:
        """The payload decompressed. Raises StoreDamaged."""
        if self.sealed:
            raise StoreDamaged(f"block {self.first} of log {self.log} is sealed")
        return decompress(self.codec, self.payload, self.raw_len)

    def runs(self) -> Iterator[RunView]:
        """The runs, streams named as seen here. Raises StoreDamaged.

        In a thinned block records keep their seqs where their offsets are numbers of this log.
        A foreign block's are not; there the records take the last of its seqs.
        """
        origin, skipped = self.origin, self.thinned - self.count
        for view in read_runs(self.raw()):
            if self.thinned:
                index = view.offset if origin is None else view.index + skipped
                view = replace(view, index=index)
            if origin is not None and view.stream.startswith("$"):
                view = replace(view, stream=foreign_stream(view.stream, origin.agent))
            yield view

    def records(
        self, matches: Callable[[str], bool] | None = None, *, lean: bool = False
    ) -> Iterator[Record]:
        """Every record of the streams that match, in order of seq; ``lean`` as in `lean_maps`.

        A record that cannot be decoded (a peer's, bad UTF-8 in it) comes with empty ``fields``
        and its arrival time rather than hiding those behind it. Raises StoreDamaged.
        """
        for view in self.runs():
            if matches is not None and not matches(view.stream):
                continue
            if view.count == 1:
                yield from self._records(view, lean=lean)
            else:
                for some in slices_of(view):
                    yield from self._records(some, lean=lean)

    def newest(self, view: RunView) -> Record:
        """The last record of one of its runs, lean, without a look at those before it. Raises
        StoreDamaged.
        """
        return next(self._records(last_of(view), lean=True))

    def arrival_of(self, view: RunView) -> tuple[int, bool]:
        """When a run's records arrived, as well as is known by now, and whether our clock has been
        put right for that.
        """
        fix = self.correction
        if fix is None or view.synced or not fix.corrects_arrivals:
            return view.arrival_ns, False
        return fix.arrival(view.arrival_ns), True

    def timed_maps(
        self, view: RunView, *, lean: bool = False
    ) -> tuple[list[dict[str, Any]], list[object], int, bool]:
        """The fields of a run's records, and what each says of its time; and `arrival_of`. All at
        once, so it is for what `slices_of` gives.
        """
        arrival_ns, corrected = self.arrival_of(view)
        maps = lean_maps(view.records) if lean else decode_maps(view.records)
        times = [fields.pop("time", None) for fields in maps]
        for fields in maps:
            fields.pop("stream", None)
        return maps, times, arrival_ns, corrected

    def _records(self, view: RunView, *, lean: bool = False) -> Iterator[Record]:
        origin, stored_ns = self.origin, self.when_ns
        place = ("", "", "") if origin is None else (origin.agent, origin.epoch, origin.log)
        origin_first = None if origin is None else origin.first + view.offset
        maps, times, arrival_ns, corrected = self.timed_maps(view, lean=lean)
        for i, (fields, time) in enumerate(zip(maps, times, strict=True)):
            time_ns, quality = time_of(time, arrival_ns)
            yield Record(
                self.log,
                self.first + view.index + i,
                view.stream,
                time_ns,
                quality,
                stored_ns,
                view.synced,
                view.source,
                view.source_seq + i if view.source_seq else 0,
                fields,
                *place,
                0 if origin_first is None else origin_first + i,
                corrected,
            )


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing to read from ``first`` to ``last`` inclusive, and why. ``thinned`` is said to a
    consumer that had a part of it (`edge_agent.store.thinning`), ``expired`` to one for which it is
    too old (`edge_agent.forward.max_age`), ``filtered`` to one that asked for other times
    (`edge_agent.forward.lanes.resend`); no reading of a log finds these.
    """

    log: str
    first: int
    last: int
    reason: Literal["trimmed", "damaged", "thinned", "expired", "filtered"]


def filter_payload(block: Block, keep: Callable[[RunView], bool]) -> tuple[int, bytes]:
    """Only the runs that ``keep`` wants, offsets kept: ``(records, raw payload)``.

    ``keep`` sees streams as named here; the payload carries them as the origin named them.
    """
    count = 0
    pieces: list[bytes] = []
    for view, piece in zip(block.runs(), raw_runs(block.raw()), strict=True):
        if keep(view):
            count += view.count
            pieces.append(piece)
    return count, join_runs(pieces)


@dataclass(frozen=True, slots=True)
class Packed:
    """A payload ready to be stored."""

    count: int
    codec: int
    raw_len: int
    payload: bytes = field(repr=False)
    time_min_ns: int
    time_max_ns: int
    origin: Origin | None = None
    thinned: int = 0
    historical: bool = False


def encode_block(key: bytes, packed: Packed, moment: Moment, seals: KeyRing = OPEN) -> bytes:
    """The value to store under ``key``, sealed where ``seals`` do."""
    origin = packed.origin
    extra = b"" if origin is None else encode_origin(origin)
    flags = (FLAG_SYNCED if moment.synced else 0) | (FLAG_ORIGIN if origin is not None else 0)
    flags |= FLAG_HISTORICAL if packed.historical else 0
    if packed.thinned:
        flags |= FLAG_THINNED
        extra = packed.thinned.to_bytes(_COVERS_BYTES, "big") + extra
    sizes = (packed.count, packed.raw_len)
    clocks = (moment.boot_id, moment.boot_ns, moment.wall_ns)
    times = (packed.time_min_ns, packed.time_max_ns)
    common = (BLOCK_FORMAT, packed.codec, flags, 1 if seals.current else 0)
    header = _HEADER.pack(*common, *sizes, *clocks, *times, len(extra), 0)
    return _joined(key, header, extra, packed.payload, seals)


def with_payload(
    key: bytes, value: bytes, codec: int, raw_len: int, payload: bytes, seals: KeyRing
) -> bytes:
    """The block with another payload, sealed where ``seals`` do: all else stays."""
    header = bytearray(value[:_CRC_AT] + _NO_CRC)
    extra = value[HEADER_BYTES : HEADER_BYTES + int.from_bytes(header[60:62], "big")]
    header[1], header[3] = codec, 1 if seals.current else 0
    header[8:12] = raw_len.to_bytes(4, "big")
    return _joined(key, bytes(header), extra, payload, seals)


def resealed_block(key: bytes, value: bytes, seals: KeyRing) -> bytes:
    """The block as it would be stored now. Raises StoreDamaged where it cannot be opened."""
    place = (f"#{key[1]}", block_first(key), key, memoryview(value))
    block = decode_block(*place)
    if (key_id(block.payload) if block.sealed else b"") == seals.current:
        return value
    block = decode_block(*place, seals)
    return with_payload(key, value, block.codec, block.raw_len, block.payload, seals)


def _joined(key: bytes, header: bytes, extra: bytes, payload: bytes, seals: KeyRing) -> bytes:
    if seals.current:
        payload = seals.sealed(_place(key, header, extra), payload)
    crc = zlib.crc32(payload, zlib.crc32(extra, zlib.crc32(header, zlib.crc32(key))))
    return header[:_CRC_AT] + crc.to_bytes(4, "big") + extra + payload


def _place(key: bytes, header: bytes, extra: bytes) -> bytes:
    """What a payload is sealed for: its log and seq, and all that is said of it in the open."""
    return b"block" + key + header[:_CRC_AT] + extra


def decode_block(
    log: str, first: int, key: bytes, value: memoryview, seals: KeyRing | None = None
) -> Block:
    """The block stored under ``key``; its payload is copied out of ``value``, and opened with
    ``seals``; without them it stays as it is.

    Raises:
        StoreDamaged: the checksum is wrong, or what it covers was not written by us; or none of
            ``seals`` opens it.
    """
    if len(value) < HEADER_BYTES:
        raise StoreDamaged(f"block {first} of log {log} is cut short")
    version, codec, flags, sealed, count, raw_len, *clocks, extra_len, crc = _HEADER.unpack_from(
        value
    )
    boot_id, boot_ns, stored_ns, low, high = clocks
    longest = HEADER_BYTES + extra_len + raw_len + PACKED_SLACK_BYTES + SEAL_BYTES
    if raw_len > RAW_BYTES_MAX or len(value) > longest:
        # A wrong length may reach beyond what is mapped: not a byte of it is touched.
        raise StoreDamaged(f"block {first} of log {log} is longer than it can be")
    found = zlib.crc32(value[:_CRC_AT], zlib.crc32(key))
    found = zlib.crc32(value[HEADER_BYTES:], zlib.crc32(_NO_CRC, found))
    if found != crc:
        raise StoreDamaged(f"block {first} of log {log} fails its checksum")
    start = HEADER_BYTES + extra_len
    if version != BLOCK_FORMAT or sealed > 1 or count < 1 or start > len(value):
        raise StoreDamaged(f"block {first} of log {log} has an impossible header")
    covers = _covers(value, flags)
    if flags & FLAG_THINNED and covers < count:
        raise StoreDamaged(f"block {first} of log {log} covers less than it holds")
    begin = HEADER_BYTES + (_COVERS_BYTES if flags & FLAG_THINNED else 0)
    origin = decode_origin(value[begin:start]) if flags & FLAG_ORIGIN else None
    payload = bytes(value[start:])
    if sealed and seals is not None:
        place = _place(key, bytes(value[:_CRC_AT]), bytes(value[HEADER_BYTES:start]))
        payload, sealed = seals.opened(place, payload), 0
    stored = (boot_id, boot_ns, stored_ns, bool(flags & FLAG_SYNCED))
    is_historical = bool(flags & FLAG_HISTORICAL)
    facts = (*stored, low, high, origin, covers, None, is_historical, bool(sealed))
    return Block(log, first, count, codec, raw_len, payload, *facts)


def peek(value: memoryview) -> BlockHead | None:
    """A block's header without its checksum, so that only its first page is read; None where
    it is too short to have one.
    """
    if len(value) < HEADER_BYTES:
        return None
    _, _, flags, _, count, _, boot_id, boot_ns, stored_ns, _, high, _, _ = _HEADER.unpack_from(
        value
    )
    foreign = bool(flags & FLAG_ORIGIN)
    covers = _covers(value, flags) or count
    clocks = (stored_ns, bool(flags & FLAG_SYNCED), high, boot_id, boot_ns)
    return BlockHead(count, covers, *clocks, foreign)


def _covers(value: memoryview, flags: int) -> int:
    """A thinned block's ``covers``, 0 for any other."""
    if not flags & FLAG_THINNED:
        return 0
    return int.from_bytes(value[HEADER_BYTES : HEADER_BYTES + _COVERS_BYTES], "big")
