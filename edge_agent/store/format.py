"""A block as it lies in the store: header, origin, payload, all under one checksum.

Big-endian header of 66 bytes, then ``extra_len`` bytes of msgpack (the origin of a foreign
block), then the payload as stored:

===== ============ ================================================================
u8    format       1
u8    codec        0 raw, 1 zstd
u8    flags        bit 0: our clock was synced; bit 1: has an origin
u8    reserved     0
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

The key is under the checksum, so that a block found in another's place fails too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.record import Origin, Record, resolve_time
from edge_agent.store.codec import decompress
from edge_agent.store.payload import RAW_BYTES_MAX, RunView, join_runs, raw_runs, read_runs
from edge_agent.store.settings import Moment

BLOCK_FORMAT = 1
FLAG_SYNCED = 1
FLAG_ORIGIN = 2

_HEADER = struct.Struct(">BBBBII16sQqqqHI")
HEADER_BYTES = _HEADER.size
_CRC_AT = HEADER_BYTES - 4
_NO_CRC = bytes(4)

_MAPS = msgspec.msgpack.Decoder(list[dict[str, Any]])
_MAP = msgspec.msgpack.Decoder(dict[str, Any])
_RAWS = msgspec.msgpack.Decoder(list[msgspec.Raw])
_ORIGIN = msgspec.msgpack.Decoder(tuple[str, str, str, int, bytes, int, int, bool, tuple[str, ...]])
_ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Block:
    """One stored block whose checksum was right: the seqs ``first`` to ``last`` of ``log``.

    ``payload`` is as stored; ``boot_id`` to ``synced`` are this agent's clocks at the commit.
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

    @property
    def last(self) -> int:
        """Seq of the last record."""
        return self.first + self.count - 1

    def raw(self) -> bytes:
        """The payload decompressed. Raises StoreDamaged."""
        return decompress(self.codec, self.payload, self.raw_len)

    def runs(self) -> list[RunView]:
        """The runs, streams named as seen here. Raises StoreDamaged."""
        views = read_runs(self.raw())
        if self.origin is None:
            return views
        return [
            replace(view, stream=foreign_stream(view.stream, self.origin.agent))
            if view.stream.startswith("$")
            else view
            for view in views
        ]

    def records(self, matches: Callable[[str], bool] | None = None) -> Iterator[Record]:
        """Every record of the streams that match, in order of seq.

        A record that cannot be decoded (a peer's, bad UTF-8 in it) comes with empty ``fields``
        and its arrival time rather than hiding those behind it. Raises StoreDamaged.
        """
        for view in self.runs():
            if matches is None or matches(view.stream):
                yield from self._records(view)

    def _records(self, view: RunView) -> Iterator[Record]:
        origin = self.origin
        place = ("", "", "") if origin is None else (origin.agent, origin.epoch, origin.log)
        origin_first = None if origin is None else origin.first + view.offset
        for i, fields in enumerate(decode_maps(view.records)):
            time_ns, quality = _time(fields.pop("time", None), view.arrival_ns)
            fields.pop("stream", None)
            yield Record(
                self.log,
                self.first + view.index + i,
                view.stream,
                time_ns,
                quality,
                self.stored_ns,
                view.synced,
                view.source,
                view.source_seq + i if view.source_seq else 0,
                fields,
                *place,
                0 if origin_first is None else origin_first + i,
            )


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing to read from ``first`` to ``last`` inclusive, and why."""

    log: str
    first: int
    last: int
    reason: Literal["trimmed", "damaged"]


@dataclass(frozen=True, slots=True)
class BlockHead:
    """What a block's header says, its checksum not looked at: for retention, never for readers."""

    count: int
    stored_ns: int
    synced: bool
    time_max_ns: int


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


def foreign_stream(stream: str, agent: str) -> str:
    """What another agent's own stream ``$x`` is called here."""
    if not stream.startswith("$") or stream.startswith("$agents/"):
        return stream
    return f"$agents/{agent}/{stream[1:]}"


def decode_maps(records: msgspec.Raw) -> list[dict[str, Any]]:
    """A run's records; {} for one that cannot be decoded."""
    try:
        return _MAPS.decode(records)
    except (ValueError, RecursionError, OverflowError):
        return [_decode_map(raw) for raw in _RAWS.decode(records)]


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


def encode_block(key: bytes, packed: Packed, moment: Moment) -> bytes:
    """The value to store under ``key``."""
    origin = packed.origin
    extra = b"" if origin is None else _encode_origin(origin)
    flags = (FLAG_SYNCED if moment.synced else 0) | (FLAG_ORIGIN if origin is not None else 0)
    header = _HEADER.pack(
        BLOCK_FORMAT,
        packed.codec,
        flags,
        0,
        packed.count,
        packed.raw_len,
        moment.boot_id,
        moment.boot_ns,
        moment.wall_ns,
        packed.time_min_ns,
        packed.time_max_ns,
        len(extra),
        0,
    )
    crc = zlib.crc32(packed.payload, zlib.crc32(extra, zlib.crc32(header, zlib.crc32(key))))
    return header[:_CRC_AT] + crc.to_bytes(4, "big") + extra + packed.payload


def decode_block(log: str, first: int, key: bytes, value: memoryview) -> Block:
    """The block stored under ``key``; its payload is copied out of ``value``.

    Raises:
        StoreDamaged: the checksum is wrong, or what it covers was not written by us.
    """
    if len(value) < HEADER_BYTES:
        raise StoreDamaged(f"block {first} of log {log} is cut short")
    version, codec, flags, _, count, raw_len, *clocks, extra_len, crc = _HEADER.unpack_from(value)
    boot_id, boot_ns, stored_ns, low, high = clocks
    found = zlib.crc32(value[:_CRC_AT], zlib.crc32(key))
    found = zlib.crc32(value[HEADER_BYTES:], zlib.crc32(_NO_CRC, found))
    if found != crc:
        raise StoreDamaged(f"block {first} of log {log} fails its checksum")
    start = HEADER_BYTES + extra_len
    if version != BLOCK_FORMAT or count < 1 or raw_len > RAW_BYTES_MAX or start > len(value):
        raise StoreDamaged(f"block {first} of log {log} has an impossible header")
    origin = _decode_origin(value[HEADER_BYTES:start]) if flags & FLAG_ORIGIN else None
    payload = bytes(value[start:])
    synced = bool(flags & FLAG_SYNCED)
    stored = (boot_id, boot_ns, stored_ns, synced)
    return Block(log, first, count, codec, raw_len, payload, *stored, low, high, origin)


def peek(value: memoryview) -> BlockHead | None:
    """A block's header without its checksum, so that only its first page is read; None where
    it is too short to have one.
    """
    if len(value) < HEADER_BYTES:
        return None
    fields = _HEADER.unpack_from(value)
    return BlockHead(fields[4], fields[8], bool(fields[2] & FLAG_SYNCED), fields[10])


def _time(value: object, arrival_ns: int) -> tuple[int, Any]:
    try:
        return resolve_time(value, arrival_ns)
    except (ProtocolError, OverflowError):
        return arrival_ns, "arrival"


def _decode_map(raw: msgspec.Raw) -> dict[str, Any]:
    try:
        return _MAP.decode(raw)
    except (ValueError, RecursionError, OverflowError):
        return {}


def _encode_origin(origin: Origin) -> bytes:
    return _ENCODER.encode(
        (
            origin.agent,
            origin.epoch,
            origin.log,
            origin.first,
            origin.boot_id,
            origin.boot_ns,
            origin.stored_ns,
            origin.synced,
            origin.path,
        )
    )


def _decode_origin(raw: memoryview) -> Origin:
    try:
        return Origin(*_ORIGIN.decode(raw))
    except ValueError as error:
        raise StoreDamaged(f"a block's origin cannot be read: {error}") from error
