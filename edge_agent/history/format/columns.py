"""This module keeps one field of many records as a column, exactly, in the smallest of these kinds:

========= ==================================================================================
INTEGER   integers of 64 bits
DECIMAL   floats that are ``n / 10**scale``, as sensors send them: kept as ``n``, so that sums
          of them are exact; the two zeros of floats become one
SINGLE    floats of 32 bits in disguise
DOUBLE    any float, infinities and NaN included
TRUTH     true and false
TEXT      text that repeats: a list of the different ones, and which of them
ANY       everything else, as msgpack: other text, bytes, lists, nulls, maps, dates
========= ==================================================================================

A column of numbers may hold a few values that are none (a null where a sensor failed): they are
told beside it, and the number before stands in their places.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import repeat
from math import isfinite
from operator import mul, truediv
from typing import Any, cast

import msgspec
from msgspec import Struct

from edge_agent.errors import StoreDamaged
from edge_agent.history.format.packing import (
    CONSTANT,
    LOOSE,
    PackedNumbers,
    is_packable,
    join_loose,
    loose,
    pack,
    pack_floats,
    repack,
    spread,
    squeeze,
    unpack,
    unpack_floats,
)

INTEGER, DECIMAL, SINGLE, DOUBLE, TRUTH, TEXT, ANY = range(7)
NUMBERS = frozenset({INTEGER, DECIMAL, SINGLE, DOUBLE})
_SCALED = frozenset({INTEGER, DECIMAL})

#: More decimals than this has no sensor; what needs more is a float.
SCALE_MAX = 9
#: Integers up to it are floats, too.
_EXACT_MAX = 2**53
#: Values on which a scale is tried before all are looked at.
_SAMPLE = 2
#: At most so large a part of a column of numbers may be something else.
_OTHERS_PART = 4
#: 2**52, and half as much so that negative numbers are above 2**52, too.
_ROUNDS = 1.5 * 2**52
_POWERS = [10**scale for scale in range(SCALE_MAX + 1)]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder()
_OTHERS = msgspec.msgpack.Decoder(dict[int, Any])


class Column(Struct, array_like=True, frozen=True, gc=False):
    """One column; see the module's docstring.

    ``packed`` are integers, ``data`` everything else, ``squeezed`` if it is compressed. ``whole``
    are the places of integers in a DECIMAL, one bit each. ``others`` maps places to values that are
    no numbers.
    """

    kind: int
    packed: PackedNumbers | None = None
    scale: int = 0
    squeezed: bool = False
    data: bytes = b""
    texts: list[str] = []
    whole: bytes = b""
    others: bytes = b""


class Numbers(Struct, frozen=True, gc=False):
    """The numbers of a column: ``values[i] / 10**scale``; places in ``missing`` hold none."""

    values: list[int] | list[float]
    scale: int
    missing: frozenset[int] = frozenset()

    def floats(self) -> list[float]:
        """As they were sent, the missing ones included."""
        if self.scale == 0:
            return self.values  # type: ignore[return-value] # an int is a float, too
        return list(map(truediv, self.values, repeat(_POWERS[self.scale])))


def encode_column(values: list[Any], kinds: set[type]) -> Column:
    """``values``, at least one and of these types, as a loose column: to be packed."""
    if kinds <= {int, float}:
        return _numbers(values, kinds)
    if kinds == {bool}:
        return Column(TRUTH, loose(values))
    if kinds == {str}:
        return _text(values)
    if kinds & {int, float}:
        return _mixed(values)
    return _any(values)


def join_columns(columns: Sequence[Column], counts: Sequence[int]) -> Column:
    """Loose columns of the same field, one behind the other, loose.

    Raises StoreDamaged, and OverflowError where damage made numbers too large.
    """
    kinds = {column.kind for column in columns}
    if kinds <= _SCALED and not any(column.others for column in columns):
        scale = max(column.scale for column in columns)
        parts = [_needed(column) for column in columns]
        if all(column.scale == scale for column in columns) and len(kinds) == 1:
            whole = _join_bits(columns, counts) if kinds == {DECIMAL} else b""
            return Column(kinds.pop(), join_loose(parts, counts), scale, whole=whole)
        values: list[int] = []
        for column, part, count in zip(columns, parts, counts, strict=True):
            factor = repeat(_POWERS[scale - column.scale])
            values += map(mul, unpack(part, count), factor)
        whole = _join_bits(columns, counts)
        if min(values) > -_EXACT_MAX and max(values) < _EXACT_MAX:
            return Column(DECIMAL, loose(values), scale, whole=whole)
    everything = [
        value
        for column, count in zip(columns, counts, strict=True)
        for value in decode_column(column, count)
    ]
    return encode_column(everything, set(map(type, everything)))


def pack_column(
    column: Column,
    count: int,
    numbers: Numbers | None = None,
    ends: tuple[int, int] | None = None,
) -> Column:
    """A loose column packed. What is known of it by now is not looked for again: its numbers, and
    the least and the greatest of all of its values. Raises StoreDamaged.
    """
    loose_ones = column.packed
    if loose_ones is None:
        return column
    if numbers is not None and loose_ones.mode != CONSTANT:
        packed = pack(cast(list[int], numbers.values), ends=ends)
    else:
        packed = repack(loose_ones, count)
    return msgspec.structs.replace(column, packed=packed)


def _join_bits(columns: Sequence[Column], counts: Sequence[int]) -> bytes:
    if not any(column.whole or column.kind == INTEGER for column in columns):
        return b""
    bits = begin = 0
    for column, count in zip(columns, counts, strict=True):
        ones = (
            (1 << count) - 1 if column.kind == INTEGER else int.from_bytes(column.whole, "little")
        )
        bits |= ones << begin
        begin += count
    return bits.to_bytes(-(-begin // 8), "little") if bits else b""


def decode_column(column: Column, count: int) -> list[Any]:
    """The values. Raises StoreDamaged."""
    kind = column.kind
    if kind in NUMBERS:
        return _decode_numbers(column, count)
    if kind == ANY:
        try:
            values = _DECODER.decode(spread(column.squeezed, column.data))
        except (ValueError, RecursionError) as error:
            raise StoreDamaged(f"a column cannot be read: {error}") from error
        if not isinstance(values, list) or len(values) != count:
            raise StoreDamaged("a column has another length than its records")
        return values
    indexes = unpack(_needed(column), count)
    if kind == TRUTH:
        return list(map(bool, indexes))
    if kind == TEXT and min(indexes) >= 0 and max(indexes) < len(column.texts):
        return list(map(column.texts.__getitem__, indexes))
    raise StoreDamaged(f"a column of the kind {kind} cannot be read")


def scaled_in(column: Column, count: int, begin: int, end: int) -> list[int]:
    """Of a DECIMAL without others: the values ``begin`` to ``end``, times ``10**scale``. Raises
    StoreDamaged.
    """
    return unpack(_needed(column), count, begin, end)


def numbers_of(column: Column, count: int) -> Numbers | None:
    """The finite numbers of a column; None where it has none. Raises StoreDamaged."""
    kind = column.kind
    if kind in NUMBERS:
        missing = frozenset(_others(column, count)) if column.others else frozenset[int]()
        if kind in (INTEGER, DECIMAL):
            return Numbers(unpack(_needed(column), count), column.scale, missing)
        floats = _floats(column, count)
        # A sum over all is finite only where each of them is.
        if not isfinite(sum(floats)):
            missing |= {place for place, value in enumerate(floats) if not isfinite(value)}
        return None if len(missing) == count else Numbers(floats, 0, missing)
    if kind != ANY:
        return None
    values = decode_column(column, count)
    numbers = [value if type(value) in (int, float) else None for value in values]
    missing = frozenset(
        place for place, value in enumerate(numbers) if value is None or not isfinite(value)
    )
    if len(missing) == count:
        return None
    return Numbers(
        [0 if i in missing else float(v or 0) for i, v in enumerate(numbers)], 0, missing
    )


def _numbers(values: list[Any], kinds: set[type]) -> Column:
    if float not in kinds:
        return Column(INTEGER, loose(values)) if is_packable(values) else _any(values)
    decimals = _decimals(values)
    if decimals is not None:
        scale, scaled = decimals
        return Column(DECIMAL, scaled, scale, whole=_places_of_integers(values, kinds))
    if int in kinds:
        return _any(values)
    single = array("d", array("f", values)).tolist() if _fits_single(values) else None
    code, kind = ("f", SINGLE) if single == values else ("d", DOUBLE)
    squeezed, data = pack_floats(values, code)
    return Column(kind, squeezed=squeezed, data=data)


def _decimals(values: list[Any]) -> tuple[int, PackedNumbers] | None:
    """The fewest decimals with which all values can be told, and the values times a power of ten;
    None where they are no decimals.
    """
    scale = 0
    for value in (*values[:_SAMPLE], *values[-_SAMPLE:]):
        if not -_EXACT_MAX < value < _EXACT_MAX:
            return None
        while round(value * _POWERS[scale]) / _POWERS[scale] != value:
            scale += 1
            if scale > SCALE_MAX:
                return None
    small = _small(values, scale)
    if small is not None:
        return scale, small
    largest = max(abs(min(values)), abs(max(values)))
    # A NaN, which compares with nothing, spoils the sum.
    if not (largest < _EXACT_MAX and isfinite(sum(values))):
        return None
    while scale <= SCALE_MAX and largest * _POWERS[scale] < _EXACT_MAX:
        power = repeat(_POWERS[scale])
        scaled = list(map(round, map(mul, values, power)))
        if list(map(truediv, scaled, power)) == values:
            return scale, loose(scaled)
        scale += 1
    return None


def _small(values: list[Any], scale: int) -> PackedNumbers | None:
    """The values times a power of ten, loose, where all of these are integers of 32 bits; else
    None.

    A float between 2**52 and 2**53 has no place for a fraction: to add such a one rounds, and the
    low half of the sum's bytes is the integer. What became of each value is looked at afterwards.
    """
    power, rounds = float(_POWERS[scale]), _ROUNDS
    try:
        raw = struct.pack(f"<{len(values)}d", *[value * power + rounds for value in values])
    except OverflowError:
        return None  # An integer that is no float.
    data = memoryview(raw).cast("i")[::2].tobytes()
    low = struct.unpack(f"<{len(values)}i", data)
    whole = _POWERS[scale]
    if [value / whole for value in low] != values:
        return None
    return PackedNumbers(LOOSE, 0, width=4, data=data)


def _fits_single(values: Sequence[float]) -> bool:
    return all(abs(value) < 3.4e38 or not isfinite(value) for value in values)


def _places_of_integers(values: Sequence[Any], kinds: set[type]) -> bytes:
    if int not in kinds:
        return b""
    bits = 0
    for place, value in enumerate(values):
        if type(value) is int:
            bits |= 1 << place
    return bits.to_bytes(-(-len(values) // 8), "little")


def _text(values: list[str]) -> Column:
    texts = list(dict.fromkeys(values))
    if len(texts) > max(1, len(values) // 2):
        return _any(values)
    index = {text: number for number, text in enumerate(texts)}
    return Column(TEXT, loose(list(map(index.__getitem__, values))), texts=texts)


def _mixed(values: list[Any]) -> Column:
    others = {p: v for p, v in enumerate(values) if type(v) is not int and type(v) is not float}
    if len(others) * _OTHERS_PART > len(values):
        return _any(values)
    filled: list[Any] = []
    number: float = next(value for place, value in enumerate(values) if place not in others)
    for place, value in enumerate(values):
        if place not in others:
            number = value
        filled.append(number)
    column = _numbers(filled, set(map(type, filled)))
    if column.kind == ANY:
        return _any(values)
    return msgspec.structs.replace(column, others=_ENCODER.encode(others))


def _any(values: list[Any]) -> Column:
    squeezed, data = squeeze(_ENCODER.encode(values))
    return Column(ANY, squeezed=squeezed, data=data)


def _decode_numbers(column: Column, count: int) -> list[Any]:
    values: list[Any]
    if column.kind == INTEGER:
        values = unpack(_needed(column), count)
    elif column.kind == DECIMAL:
        scaled = unpack(_needed(column), count)
        values = list(map(truediv, scaled, repeat(_POWERS[column.scale])))
        bits = int.from_bytes(column.whole, "little")
        while bits:
            place = (bits & -bits).bit_length() - 1
            if place < count:
                values[place] = int(values[place])
            bits &= bits - 1
    else:
        values = _floats(column, count)
    if column.others:
        for place, value in _others(column, count).items():
            values[place] = value
    return values


def _floats(column: Column, count: int) -> list[float]:
    code = "f" if column.kind == SINGLE else "d"
    return unpack_floats(column.squeezed, column.data, code, count)


def _others(column: Column, count: int) -> dict[int, Any]:
    try:
        others = _OTHERS.decode(column.others)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a column's other values cannot be read: {error}") from error
    if not 0 < len(others) < count or min(others) < 0 or max(others) >= count:
        raise StoreDamaged("a column's other values have places that it does not have")
    return others


def _needed(column: Column) -> PackedNumbers:
    if column.packed is None or not 0 <= column.scale <= SCALE_MAX:
        raise StoreDamaged(f"a column of the kind {column.kind} has no numbers of its own")
    return column.packed
