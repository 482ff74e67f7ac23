"""This module decodes a run's records; a peer's bad record hides no other.

An empty record is one byte in a block, and 64 as a map in memory; with its time and its place some
150. A block may have a million of them, so whoever makes objects of what an array holds does that
for some of its elements at a time (`array_slices`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.values.record import TimeQuality, array_header, resolve_time

#: Elements of an array that become objects together, at most. What one of our own sensors sends in
#: one run has fewer, unless its records are tiny: those are not looked at for this.
SLICE_ELEMENTS = 4096

#: Of larger records `lean_maps` leaves arrays as they are: as objects they take up to 64 times as
#: many bytes.
LEAN_RECORD_BYTES = 8 * 1024
#: Who holds records of several runs together has no more bytes of them as objects.
LEAN_FROM_BYTES = 32 * 1024
#: Arrays of fewer bytes are not worth it.
_ARRAY_BYTES = 1024

_MAPS = msgspec.msgpack.Decoder(list[dict[str, Any]])
_MAP = msgspec.msgpack.Decoder(dict[str, Any])
_RAWS = msgspec.msgpack.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.msgpack.Decoder()


def decode_maps(records: msgspec.Raw) -> list[dict[str, Any]]:
    """A run's records; {} for one that cannot be decoded."""
    try:
        return _MAPS.decode(records)
    except (ValueError, RecursionError, OverflowError):
        return [_decode_map(raw) for raw in _RAWS.decode(records)]


def lean_maps(records: msgspec.Raw) -> list[dict[str, Any]]:
    """As `decode_maps`, for who looks at no array's elements: in a record that is large, large
    arrays stay as they are encoded, as each byte of them may be an array of 64 bytes.
    """
    if len(memoryview(records)) <= LEAN_RECORD_BYTES:
        return decode_maps(records)
    raws = _RAWS.decode(records)
    sizes = [len(memoryview(raw)) for raw in raws]
    if max(sizes, default=0) <= LEAN_RECORD_BYTES:
        # All together they take half as long.
        return decode_maps(records)
    return [
        _decode_map(raw) if size <= LEAN_RECORD_BYTES else _lean_map(raw)
        for raw, size in zip(raws, sizes, strict=True)
    ]


def raw_maps(array: bytes | msgspec.Raw) -> list[bytes]:
    """A run's records, or what else an array holds, each as its own bytes. Raises StoreDamaged."""
    try:
        return [bytes(raw) for raw in _RAWS.decode(array)]
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a run's records cannot be read: {error}") from error


def last_map(array: msgspec.Raw) -> bytes:
    """The last of a run's records as its own bytes. Raises StoreDamaged."""
    last = b""
    for _, part in array_slices(array):
        last = part
    try:
        return bytes(_RAWS.decode(last)[-1])
    except (ValueError, RecursionError, IndexError) as error:
        raise StoreDamaged(f"a run's records cannot be read: {error}") from error


def array_count(raw: bytes | msgspec.Raw) -> int:
    """How many elements a msgpack array has, from its header. Raises StoreDamaged."""
    view = memoryview(raw)
    first = view[0]
    return first & 0x0F if 0x90 <= first <= 0x9F else _header_of(view)[0]


def array_head(raw: bytes | msgspec.Raw) -> int:
    """How many bytes a msgpack array has before its first element. Raises StoreDamaged."""
    return _header_of(memoryview(raw))[1]


def array_slices(
    array: bytes | msgspec.Raw, most: int = SLICE_ELEMENTS, bytes_max: int = 0
) -> Iterator[tuple[int, bytes | msgspec.Raw]]:
    """A msgpack array as arrays of at most ``most`` elements, each with the place of its first one;
    itself where it has no more. ``bytes_max``: of several elements in one, unless 0.

    Raises StoreDamaged.
    """
    view = memoryview(array)
    count, at = _header_of(view)
    if count <= most and (count <= 1 or not bytes_max or len(view) <= bytes_max):
        yield 0, array
        return
    begun, begin, end = 0, at, at
    for index, found in enumerate(element_ends(view[at:], count)):
        is_full = index - begun == most or (bytes_max and at + found - begin > bytes_max)
        if is_full and index > begun:
            yield begun, array_header(index - begun) + view[begin:end]
            begun, begin = index, end
        end = at + found
    if end != len(view):
        raise StoreDamaged("there is something behind an array")
    yield begun, array_header(count - begun) + view[begin:end]


def array_part(array: bytes | msgspec.Raw, low: int, high: int) -> bytes:
    """The elements with ``low <= place < high`` of a msgpack array, joined. Raises StoreDamaged."""
    view = memoryview(array)
    _, at = _header_of(view)
    begin = end = 0
    for place, found in enumerate(element_ends(view[at:], high), 1):
        begin, end = found if place == low else begin, found
    return bytes(view[at + begin : at + end])


def element_ends(body: bytes | memoryview, count: int) -> Iterator[int]:
    """Where each of the first ``count`` values ends that are joined in ``body``.

    Raises StoreDamaged: there are fewer.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(body), 1))
    unpacker.feed(body)
    skip, tell = unpacker.skip, unpacker.tell
    try:
        for _ in range(count):
            skip()
            yield tell()
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise StoreDamaged(f"an array cannot be read: {error!r}") from error


def _header_of(view: memoryview) -> tuple[int, int]:
    """How many elements an array has, and where the first one begins."""
    first = view[0] if len(view) else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F, 1
    if first == 0xDC:
        return int.from_bytes(view[1:3], "big"), 3
    if first == 0xDD:
        return int.from_bytes(view[1:5], "big"), 5
    raise StoreDamaged("where an array should be there is none")


def time_of(value: object, arrival_ns: int) -> tuple[int, TimeQuality]:
    """`resolve_time`, and the arrival for a ``time`` that is none."""
    try:
        return resolve_time(value, arrival_ns)
    except (ProtocolError, OverflowError):
        return arrival_ns, "arrival"


def _lean_map(raw: msgspec.Raw) -> dict[str, Any]:
    try:
        return {key: _lean(value) for key, value in _FIELDS.decode(raw).items()}
    except (ValueError, RecursionError, OverflowError, msgpack.UnpackException, StoreDamaged):
        return {}


def _lean(raw: msgspec.Raw) -> object:
    view = memoryview(raw)
    if len(view) <= _ARRAY_BYTES:
        return _ANY.decode(raw)
    if 0x80 <= view[0] <= 0x8F or view[0] in (0xDE, 0xDF):
        try:
            return {key: _lean(value) for key, value in _FIELDS.decode(raw).items()}
        except msgspec.ValidationError:
            # Its keys are no text, so nobody opens it.
            _look_through(raw)
            return raw
    if not (0x90 <= view[0] <= 0x9F or view[0] in (0xDC, 0xDD)):
        return _ANY.decode(raw)
    # Whoever reads it later shall not find out then that it cannot be read.
    for _, part in array_slices(raw):
        _look_through(part)
    return raw


def _look_through(raw: bytes | msgspec.Raw) -> None:
    """Raises where it cannot be read; keeps nothing that nests in it."""
    msgpack.unpackb(
        raw, list_hook=_nothing, object_hook=_nothing, strict_map_key=False, timestamp=3
    )


def _nothing(_: object) -> None:
    """In the place of what nests, as soon as it is read."""


def _decode_map(raw: msgspec.Raw) -> dict[str, Any]:
    try:
        return _MAP.decode(raw)
    except (ValueError, RecursionError, OverflowError):
        return {}
