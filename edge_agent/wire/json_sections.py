"""A long array of JSON in sections, so that nobody makes an object of each of its elements at once.

In a mebibyte there may be half a million elements, 56 bytes each before anybody can count them. So
sections are cut off where an element is likely to end, and each is asked of the decoder whether it
is an array: then it is one of whole elements, because nothing else is complete behind the last of
them. Senders repeat themselves, so that where a record begins as the first one does, there is a
cut, as a rule. Where there is none, brackets are counted, some at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from edge_agent.wire.encodings import (
    DECODE_ERRORS,
    JSON,
    check_count,
    has_no_number,
    nulls_for_nan,
    shown,
)
from edge_agent.wire.long_text import LongText
from edge_agent.wire.reading_types import Undecodable

#: Bytes of a first record in which its first key ends.
_LEAD_BYTES = 200
_SPACE = re.compile(rb"[ \t\r\n]*")
# Texts, ended or not; what nests; what parts elements; and all else, stepped over at once.
_STEP = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]|[^"\[\]{},]++', re.DOTALL)
_DEPTH = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
#: Steps between two pauses: less than a millisecond.
_STEPS = 2_000


class Section(NamedTuple):
    """Neighbouring elements of an array, as an array; mended where nulls stand in it instead of
    what is no JSON.
    """

    array: bytes
    elements: int
    is_mended: bool = False


class _Nothing(msgspec.Struct, array_like=True):
    """An array whose elements are skipped over."""


_skip_over: Callable[[bytes], object] = msgspec.json.Decoder(_Nothing).decode


def sections_of(
    text: str | LongText, most_bytes: int, records_max: int
) -> Iterator[Section | None]:
    """The sections of an array, each of at most ``most_bytes``, unless it is one element; None
    between them are places to pause at. What is no JSON, as NaN, is null (`nulls_for_nan`).

    Raises:
        Undecodable: it is not JSON.
        TooBigMessage: it has more than ``records_max`` elements.
    """
    data = text if isinstance(text, LongText) else text.encode("utf-8", "surrogatepass")
    begin, end = _past_space(data, data.index(b"[") + 1), len(data.rstrip(b" \t\r\n")) - 1
    total = 0
    if data[end:][:1] != b"]" or end < begin:
        raise _not_json(data)
    while begin < end:
        section, cut = _likely(data, begin, end, most_bytes)
        if section is None:
            if not total and not has_no_number(data):
                _check(data)
            cut = yield from _counted(data, begin, end, most_bytes)
            section = yield from _readable(data, begin, cut)
        total += section.elements
        check_count(total, records_max)
        begin = _past_space(data, cut + 1)
        if not section.elements or (cut < end and begin >= end):
            raise _not_json(data)
        yield section


def _likely(data: bytes, begin: int, end: int, most: int) -> tuple[Section | None, int]:
    """A section that ends where one may be expected to, and where."""
    for cut in _likely_cuts(data, begin, end, most):
        if cut <= begin:
            continue
        try:
            return _section(memoryview(data)[begin:cut]), cut
        except DECODE_ERRORS:
            continue
    return None, 0


def _likely_cuts(data: bytes, begin: int, end: int, most: int) -> Iterator[int]:
    if end - begin <= most:
        yield end
        return
    lead, colon, _ = data[begin : begin + _LEAD_BYTES].partition(b":")
    if not (lead[:1] == b"{" and colon):
        yield data.rfind(b",", begin, begin + most)
        return
    again = data.rfind(lead + colon, begin + 1, begin + most)
    comma = data.rfind(b",", begin, again)
    if again > 0 and comma > 0 and _past_space(data, comma + 1) == again:
        yield comma
    yield data.rfind(b"},", begin, begin + most) + 1


def _counted(data: bytes, begin: int, end: int, most: int) -> Generator[None, None, int]:
    """Where to cut, by counting brackets."""
    depth = cut = 0
    steps = _STEP.finditer(data, begin, end)
    while some := tuple(islice(steps, _STEPS)):
        for step in some:
            token = step[0]
            depth += _DEPTH.get(token, 0)
            if token == b"," and depth == 0:
                if step.start() - begin > most:
                    return cut or step.start()
                cut = step.start()
        yield
    return cut if cut and end - begin > most else end


def _readable(data: bytes, begin: int, end: int) -> Generator[None, None, Section]:
    """The section of these elements, with null for what is no number."""
    elements = data[begin:end]
    try:
        return _section(elements)
    except DECODE_ERRORS as error:
        if not has_no_number(elements):
            raise _not_json(data, error) from error
    pieces = []
    for piece in nulls_for_nan(elements.decode("utf-8", "surrogateescape")):
        pieces.append(piece)
        yield
    try:
        found = _section("".join(pieces).encode("utf-8", "surrogateescape"))
    except DECODE_ERRORS as error:
        raise _not_json(data, error) from error
    return found._replace(is_mended=True)


def _section(elements: bytes | memoryview) -> Section:
    array = b"".join((b"[", elements, b"]"))
    return Section(array, len(JSON.raws(array)))


def _past_space(data: bytes, at: int) -> int:
    found = _SPACE.match(data, at)
    return at if found is None else found.end()


def _check(data: bytes) -> None:
    """Raises Undecodable where it is no JSON, as a whole, half characters aside."""
    try:
        _skip_over(data.replace(rb"\ud", rb"\u0").replace(rb"\uD", rb"\u0"))
    except DECODE_ERRORS as error:
        raise Undecodable(f"not JSON: {shown(error)}") from error


def _not_json(data: bytes, why: Exception | None = None) -> Undecodable:
    try:
        _check(data)
    except Undecodable as error:
        return error
    return Undecodable(f"not JSON: {'an element is missing' if why is None else shown(why)}")
