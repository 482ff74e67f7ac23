"""This module packs integers and floats into few bytes: steady ones need least.

Integers are written as the difference from something that is told once, in the fewest whole bytes:

====== =====================================================================================
mode   value ``i`` is
====== =====================================================================================
0      ``base``
1      ``base + unit * r[i]``
2      the one before ``+ step + unit * r[i]``, and ``base`` for the first
3      ``r[i]``, with a sign, of 4 or 8 bytes and nothing done to them: while it is in memory
====== =====================================================================================

``r`` are otherwise unsigned integers of 1, 2, 4 or 8 bytes, none where all are 0. Wider ones lie
byte by byte, all first bytes, then all second ones, because zstd finds the sameness of high bytes
that way; so do floats.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from math import gcd
from operator import add, floordiv, mul, sub

from msgspec import Struct

from edge_agent.errors import StoreDamaged
from edge_agent.output.weaving import taken
from edge_agent.zstd import zstd

CONSTANT, OFFSETS, STEPS, LOOSE = range(4)

#: Shorter bytes gain too little for what they take to be read.
_SQUEEZE_FROM_BYTES = 100
#: What a piece of packed bytes may be once unpacked; more is damage.
UNPACKED_BYTES_MAX = 16 * 1024 * 1024
_INT64 = 1 << 63
#: Unsigned integers as `struct` names them, by their width in bytes.
_CODES = {2: "H", 4: "I", 8: "Q"}
_LOOSE_CODES = {4: "i", 8: "q"}
#: From any place on: 256 bytes, each one more than that before it.
_AROUND = bytes(range(256)) * 2
#: Unsigned array types by their width in bytes.
_UNSIGNED = {array(code).itemsize: code for code in "BHILQ"}
_SIGNED = {4: "i", 8: "q"}
#: So many values show whether steps are smaller than what they lead through.
_FEW = 64
_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}

# One thread digests and one answers, each in a process of its own.
_COMPRESSOR = zstd.ZstdCompressor(level=3)


class PackedNumbers(Struct, array_like=True, frozen=True, gc=False):
    """PackedNumbers integers; see the module's docstring. ``squeezed``: ``data`` is compressed."""

    mode: int
    base: int
    step: int = 0
    unit: int = 1
    width: int = 0
    squeezed: bool = False
    data: bytes = b""


def is_packable(values: Sequence[int]) -> bool:
    """Whether all fit into 64 bits with a sign."""
    return min(values) >= -_INT64 and max(values) < _INT64


def pack(
    values: Sequence[int], *, even: bool = False, ends: tuple[int, int] | None = None
) -> PackedNumbers:
    """``values``, at least one, each of 64 bits. ``even``: they rise by multiples of something, as
    times do, which is worth looking for. ``ends``: the least and the greatest, if they are known.
    """
    first, last = values[0], values[-1]
    step, rest = divmod(last - first, max(len(values) - 1, 1))
    # A rise of one number, as seqs have it, is seen at once; msgpack has no steps below 2**63.
    rising = range(first, last + (1 if step > 0 else -1), step or 1)
    if step >= -_INT64 and step and not rest and list(values) == list(rising):
        return PackedNumbers(STEPS, first, step)
    low, high = ends or (min(values), max(values))
    if low == high:
        return PackedNumbers(CONSTANT, low)
    # Where single steps are nearly as wide as all together, all need not be looked at.
    if len(values) > _FEW and not even and _span(_steps(values[:_FEW])) * 2 > high - low:
        return _packed(OFFSETS, low, 0, 1, values, low, high)
    steps = _steps(values)
    # Steady values have few different ones.
    different = set(steps)
    least, greatest = min(different), max(different)
    if least < -_INT64:
        # Such a fall is wider than what msgpack has for it.
        return _packed(OFFSETS, low, 0, 1, values, low, high)
    unit = gcd(*different) if even else 1
    if greatest - least < high - low:
        # Every step is a multiple of the unit, and so is the difference of two.
        return _packed(STEPS, first, least, unit, steps, least, greatest)
    return _packed(OFFSETS, low, 0, unit, values, low, high)


def loose(values: Sequence[int]) -> PackedNumbers:
    """``values`` as they are, at least one, each of 64 bits, or OverflowError."""
    for width, code in _LOOSE_CODES.items():
        try:
            raw = struct.pack(f"<{len(values)}{code}", *values)
        except struct.error:
            continue
        return PackedNumbers(LOOSE, 0, width=width, data=raw)
    raise OverflowError("integers of more than 64 bits")


def constant(value: int) -> PackedNumbers:
    """As many numbers as wanted, all of them ``value``."""
    return PackedNumbers(CONSTANT, value)


def join_loose(parts: Sequence[PackedNumbers], counts: Sequence[int]) -> PackedNumbers:
    """Packed numbers one behind the other, loose. Raises StoreDamaged."""
    first = parts[0]
    if first.mode == CONSTANT and all(part == first for part in parts):
        return first
    if all(part.mode == LOOSE and part.width == first.width for part in parts):
        for part, count in zip(parts, counts, strict=True):
            if len(part.data) != part.width * count:
                raise StoreDamaged("packed numbers have another length than their records")
        return PackedNumbers(
            LOOSE, 0, width=first.width, data=b"".join(part.data for part in parts)
        )
    values: list[int] = []
    for part, count in zip(parts, counts, strict=True):
        values += unpack(part, count)
    return loose(values)


def repack(packed: PackedNumbers, count: int, *, even: bool = False) -> PackedNumbers:
    """Loose numbers packed. Raises StoreDamaged."""
    return packed if packed.mode == CONSTANT else pack(unpack(packed, count), even=even)


def _steps(values: Sequence[int]) -> list[int]:
    return list(map(sub, values[1:], values))


def _span(values: Sequence[int]) -> int:
    return max(values) - min(values)


def _less(values: Sequence[int], amount: int) -> Sequence[int]:
    return values if amount == 0 else list(map(sub, values, repeat(amount)))


def _packed(
    mode: int, base: int, step: int, unit: int, values: Sequence[int], low: int, high: int
) -> PackedNumbers:
    """Values of which ``low`` is the least and ``high`` the greatest, less ``low``."""
    if unit == 1 and low >= -128 and high < 128:
        # Each as a byte with a sign, and these bytes turned so far that the least is 0.
        small = struct.pack(f"{len(values)}b", *values).translate(_AROUND[-low & 255 :][:256])
        return PackedNumbers(mode, base, step, 1, 1, *squeeze(small))
    rest, top = _less(values, low), high - low
    if unit > 1:
        rest, top = list(map(floordiv, rest, repeat(unit))), top // unit
    if top < 1 << 8:
        return PackedNumbers(mode, base, step, unit, 1, *squeeze(bytes(rest)))
    width = 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
    raw = struct.pack(f"<{len(rest)}{_CODES[width]}", *rest)
    return PackedNumbers(mode, base, step, unit, width, *squeeze(apart(raw, width)))


def unpack(packed: PackedNumbers, count: int, begin: int = 0, end: int | None = None) -> list[int]:
    """The ``count`` integers, or those from ``begin`` to ``end``. Raises StoreDamaged."""
    mode, base, step, unit = packed.mode, packed.base, packed.step, packed.unit
    end = count if end is None else end
    if mode == CONSTANT:
        return [base] * (end - begin)
    if mode == STEPS and packed.width == 0:
        first = base + step * begin
        last = base + step * end
        return list(range(first, last, step)) if step else [base] * (end - begin)
    rest = _unpack_rest(packed, count)
    if mode == STEPS:
        first = base + step * begin + unit * sum(rest[:begin]) if begin else base
        some = rest if end - begin == count else rest[begin : end - 1]
        steps = _signed(some, step) if unit == 1 else None
        if steps is None:
            steps = _line(some, step, unit)
        return list(accumulate(steps, initial=first)) if begin < end else []
    if end - begin < count:
        rest = rest[begin:end]
    if mode == LOOSE:
        return list(rest)
    if mode == OFFSETS:
        return list(_line(rest, base, unit))
    raise StoreDamaged(f"packed numbers in the unknown mode {mode}")


def rises(packed: PackedNumbers) -> bool:
    """Whether it is seen without a look at the numbers that each is larger than the one before."""
    return packed.mode == STEPS and packed.step > 0 and packed.unit > 0


def _line(rest: Sequence[int], base: int, unit: int) -> Iterable[int]:
    """Each of the rest times ``unit``, and ``base`` more."""
    if unit == 1:
        return map(add, rest, repeat(base)) if base else rest
    if isinstance(rest, bytes) and unit > 1:
        return taken(list(range(base, base + 256 * unit, unit)), rest)
    return map(add, map(mul, rest, repeat(unit)), repeat(base))


def _signed(rest: Sequence[int], step: int) -> Iterable[int] | None:
    """Each of these bytes and ``step`` more, a third of the time of `_line`; None where they are no
    bytes, or where that would be no byte with a sign.
    """
    if not isinstance(rest, bytes) or not -128 <= step < 128:
        return None
    if rest.translate(None, delete=_AROUND[: 128 - step]):
        return None
    return memoryview(rest.translate(_AROUND[step & 255 :][:256])).cast("b")


def _unpack_rest(packed: PackedNumbers, count: int) -> Sequence[int]:
    """As stored, not yet times the unit."""
    codes = _SIGNED if packed.mode == LOOSE else _UNSIGNED
    if packed.width not in codes:
        raise StoreDamaged(f"packed numbers of {packed.width} bytes")
    raw = spread(packed.squeezed, packed.data)
    if len(raw) != packed.width * (count - (packed.mode == STEPS)):
        raise StoreDamaged(f"{len(raw)} bytes of packed numbers where {count} were expected")
    if packed.width == 1:
        return raw
    numbers = array(codes[packed.width])
    numbers.frombytes(raw if packed.mode == LOOSE else together(raw, packed.width))
    return _little(numbers)


def pack_floats(values: Sequence[float], code: str) -> tuple[bool, bytes]:
    """Floats of 8 bytes (``d``) or 4 (``f``), as ``(squeezed, bytes)``."""
    numbers = array(code, values)
    return squeeze(apart(_little(numbers).tobytes(), numbers.itemsize))


def unpack_floats(squeezed: bool, data: bytes, code: str, count: int) -> list[float]:
    """What `pack_floats` packed. Raises StoreDamaged."""
    numbers = array(code)
    numbers.frombytes(together(spread(squeezed, data), numbers.itemsize))
    if len(numbers) != count:
        raise StoreDamaged(f"{len(numbers)} packed floats where {count} were expected")
    return _little(numbers).tolist()


def squeeze(raw: bytes) -> tuple[bool, bytes]:
    """Compressed where that gains something: ``(whether it was, bytes)``."""
    if len(raw) < _SQUEEZE_FROM_BYTES:
        return False, raw
    small = _COMPRESSOR.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME)
    return (True, small) if len(small) < len(raw) else (False, raw)


def spread(squeezed: bool, data: bytes) -> bytes:
    """What `squeeze` was given. Raises StoreDamaged."""
    if not squeezed:
        return data
    decompressor = zstd.ZstdDecompressor(options=_OPTIONS)
    try:
        raw = decompressor.decompress(data, max_length=UNPACKED_BYTES_MAX)
    except zstd.ZstdError as error:
        raise StoreDamaged(f"packed numbers do not decompress: {error}") from error
    if not decompressor.eof:
        raise StoreDamaged("packed numbers decompress to more than they can be")
    return raw


def apart(raw: bytes, width: int) -> bytes:
    """All first bytes of numbers of ``width`` bytes, then all second ones, and so on."""
    if width == 1:
        return raw
    return b"".join([raw[index::width] for index in range(width)])


def together(raw: bytes, width: int) -> bytes:
    """What `apart` was given. Raises StoreDamaged."""
    if width == 1:
        return raw
    count, rest = divmod(len(raw), width)
    if rest:
        raise StoreDamaged("packed numbers end in the middle of one")
    joined = bytearray(len(raw))
    for index in range(width):
        joined[index::width] = raw[index * count : (index + 1) * count]
    return bytes(joined)


def _little(numbers: array[int] | array[float]) -> array:  # type: ignore[type-arg] # one of both
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
