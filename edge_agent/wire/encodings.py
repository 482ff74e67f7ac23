"""The two encodings of data messages, behind one face: JSON in text, msgpack in binary messages.

Everything here is a call into msgspec's decoders or a look at a header; what the decoded values
mean is decided in `messages` and `records`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

import msgspec

from edge_agent.values.record import array_header
from edge_agent.values.value_count import json_has_more_values, msgpack_has_more_values
from edge_agent.wire.long_text import LongText
from edge_agent.wire.reading_types import TooBigMessage, Undecodable

# The usual record: null, booleans, numbers and text, nested three levels deep at most. The type
# is written out, because msgspec then checks it while it decodes; what it does not take is looked
# at singly. Text keys at every level, no binary, no extension types.
_Leaf = bool | int | float | str | None
_Inner = _Leaf | list[_Leaf] | dict[str, _Leaf]
UsualValue = _Leaf | list[_Inner] | dict[str, _Inner]
Usual = dict[str, UsualValue]
#: Maps and arrays within one another in a usual record, its own map included.
USUAL_DEPTH = 3

# A ``time`` that is no number; a text, as NaN within one is a word, unended or not, so that none is
# looked through twice; any other value that is no number; and whatever begins none of these, which
# is stepped over at once.
_NO_NUMBER = re.compile(
    r"""(?P<time>"time"\s*+:\s*+-?(?:NaN|Infinity)\b)"""
    r"""|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)"""
    r"""|(?P<number>-?\b(?:NaN|Infinity)\b)"""
    r"""|[^"NI-]++""",
    re.DOTALL,
)
_OPENING = re.compile(rb"[ \t\r\n]*\[")
#: What `nulls_for_nan` finds in one step: less than a millisecond.
_FINDS = 2_000

#: What a decoder raises on input that it cannot take: msgspec's own errors and bad UTF-8 are
#: ValueErrors, nesting as deep as Python's stack is a RecursionError, a whole number beyond what
#: msgpack holds an OverflowError.
DECODE_ERRORS = (ValueError, RecursionError, OverflowError)

#: What a record's values are, at the innermost; extension types other than timestamps are not.
LEAF_TYPES = frozenset((str, int, float, bool, bytes, datetime, type(None)))
_HELD_TYPES = LEAF_TYPES | {dict, list}

#: What a msgpack map begins with.
MAP_HEADS = frozenset(bytes((head,)) for head in (*range(0x80, 0x90), 0xDE, 0xDF))

to_msgpack = msgspec.msgpack.Encoder().encode
_raws_from_msgpack = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_raw_from_json = msgspec.json.Decoder(msgspec.Raw).decode
_raws_from_json = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Encoding:
    """How messages of one encoding are taken apart.

    Attributes:
        name: as a person knows it.
        is_json: whether records must be encoded anew to be kept.
        one, many: decode one usual record; an array of them.
        raw, raws: skip over one value, over an array's elements, and give their bytes. Checks
            the outer form of everything inside, but not that text is UTF-8.
        held, helds: decode one map of text keys, an array of them, whatever their values are;
            `are_held` then says whether a record may hold those.
        any: decode anything.
        is_array: whether a message is an array; raises for a header that claims more elements
            than are allowed or than can be there.
        body: the msgpack maps of an array, joined, given the array and its decoded records.
        join: the array of elements that `raws` gave.
        has_more_values: whether one value, which `raw` gave, is more than so many.
    """

    name: str
    is_json: bool
    one: Callable[[Any], Usual]
    many: Callable[[Any], list[Usual]]
    raw: Callable[[Any], msgspec.Raw]
    raws: Callable[[Any], list[msgspec.Raw]]
    held: Callable[[Any], dict[str, Any]]
    helds: Callable[[Any], list[dict[str, Any]]]
    any: Callable[[Any], Any]
    is_array: Callable[[Any, int], bool]
    body: Callable[[Any, list[Usual]], bytes]
    join: Callable[[Sequence[msgspec.Raw]], bytes]
    has_more_values: Callable[[bytes, int], bool]


def are_held(records: list[dict[str, Any]], depth: int) -> bool:
    """Whether records may hold what these hold: level by level, so that each is a few calls into C
    for all of them together.
    """
    level: list[Any] = list(chain.from_iterable(map(dict.values, records)))
    for _ in range(depth - 1):
        kinds = set(map(type, level))
        if kinds <= LEAF_TYPES:
            return True
        if not kinds <= _HELD_TYPES:
            return False
        maps = [value for value in level if type(value) is dict]
        if not set(map(type, chain.from_iterable(maps))) <= {str}:
            return False
        level = [
            *chain.from_iterable(map(dict.values, maps)),
            *chain.from_iterable(value for value in level if type(value) is list),
        ]
    return set(map(type, level)) <= LEAF_TYPES


def encoding_of(data: str | bytes) -> Encoding:
    """Text is JSON, bytes are msgpack."""
    return JSON if isinstance(data, (str, LongText)) else MSGPACK


def joined_maps(records: list[Usual]) -> bytes:
    """The msgpack maps of ``records``, one behind the other."""
    return _without_header(to_msgpack(records), records)


def map_sizes(body: bytes, count: int) -> list[int]:
    """Bytes of each of the ``count`` maps joined in ``body``."""
    return list(map(len, _raws_from_msgpack(array_header(count) + body)))


def size_of(data: str | bytes) -> int:
    """Bytes of a message as sent."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode("utf-8", "surrogatepass"))


def str_of(data: str | bytes) -> str:
    """Text as it is to be looked through. Raises Undecodable where it is no UTF-8."""
    try:
        return data if isinstance(data, str) else data.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(f"not JSON: {shown(error)}") from error


def has_no_number(data: str | bytes) -> bool:
    """Whether there may be something for `nulls_for_nan`."""
    if isinstance(data, str):
        return "NaN" in data or "Infinity" in data
    return b"NaN" in data or b"Infinity" in data


def nulls_for_nan(text: str) -> Iterator[str]:
    """JSON with null wherever a value is NaN, Infinity or -Infinity, which are no JSON although
    Python's own encoder writes them; null is what JavaScript's writes there. Piece by piece, each
    of which takes a bounded time, as a mebibyte of them takes a quarter of a second.

    A ``time`` that is one becomes text that is no time, so that its record is not dated on arrival.
    """
    at = 0
    finds = _NO_NUMBER.finditer(text)
    while some := tuple(islice(finds, _FINDS)):
        pieces: list[str] = []
        for found in some:
            if found.lastgroup:
                null = '"time":"NaN"' if found.lastgroup == "time" else "null"
                pieces += (text[at : found.start()], null)
                at = found.end()
        yield "".join(pieces)
    yield text[at:]


def json_fault(text: bytes) -> str | None:
    """Why ``text`` is not one whole value of JSON; None where it is. What is no JSON but is read
    here (`nulls_for_nan`, half a character) is no fault. No value is made, which would take 20
    times the memory.
    """
    try:
        JSON.raw(text)
    except DECODE_ERRORS as error:
        if not has_no_number(text):
            return shown(error)
        # In texts as well: they are other texts then, and end where they did.
        for word in (b"-Infinity", b"-NaN", b"Infinity", b"NaN"):
            text = text.replace(word, b"null")
        try:
            JSON.raw(text)
        except DECODE_ERRORS:
            return shown(error)
    return None


def check_count(count: int, batch_records: int) -> None:
    """Raises TooBigMessage for an array of too many elements."""
    if count > batch_records:
        raise TooBigMessage(f"an array has at most {batch_records} records, got {count}")


def shown(error: Exception) -> str:
    """A decoder's complaint, short enough to be sent back."""
    if isinstance(error, RecursionError):
        return "maps and arrays are nested too deep to read"
    if isinstance(error, UnicodeError):
        return "text is not UTF-8"
    # Where in our own reading it was, says nothing to who sent it.
    told = str(error).partition(" - at `")[0].strip()
    return ("it ends early" if told == "Input data was truncated" else told)[:200]


def _header_bytes(data: bytes) -> int:
    return 5 if data[0] == 0xDD else 3 if data[0] == 0xDC else 1


def without_headers(arrays: Sequence[bytes]) -> bytes:
    """The elements of msgpack arrays, joined."""
    return b"".join([data[_header_bytes(data) :] for data in arrays])


def _is_msgpack_array(data: bytes, batch_records: int) -> bool:
    # The header is read before anything is decoded: a mebibyte of empty maps would become 76 MB.
    head = data[0] if data else 0xC1
    if 0x90 <= head <= 0x9F:
        count = head & 0x0F
    elif head in (0xDC, 0xDD):
        count = int.from_bytes(data[1 : _header_bytes(data)], "big")
    else:
        return False
    if count > len(data):
        raise Undecodable(f"not msgpack: an array of {count} elements in {len(data)} bytes")
    check_count(count, batch_records)
    return True


def _is_json_array(data: str | LongText, _batch_records: int) -> bool:
    if isinstance(data, LongText):
        return _OPENING.match(data) is not None
    return data.lstrip(" \t\r\n")[:1] == "["


def _without_header(data: bytes, _records: list[Usual]) -> bytes:
    return data[_header_bytes(data) :]


def _join_msgpack(raws: Sequence[msgspec.Raw]) -> bytes:
    return array_header(len(raws)) + b"".join(raws)


def _join_json(raws: Sequence[msgspec.Raw]) -> bytes:
    return b"[" + b",".join(raws) + b"]"


def _one_from_json(data: str | bytes) -> list[msgspec.Raw]:
    return [_raw_from_json(data)]


def _skip_halves(
    read: Callable[[str | bytes], list[msgspec.Raw]], data: str | bytes
) -> list[msgspec.Raw]:
    """What ``read`` finds in JSON in which half a character may be escaped, as JavaScript's own
    encoder does it: that is no text, and the fault of its record.
    """
    try:
        return read(data)
    except msgspec.DecodeError:
        whole = data.encode() if isinstance(data, str) else data
        # Other characters of the same length, to see where each value begins and ends. Behind a
        # backslash that is escaped itself it is other text as well, which does no harm.
        readable = whole.replace(rb"\ud", rb"\u0").replace(rb"\uD", rb"\u0")
        if readable == whole:
            raise
        found, end = [], 0
        for raw in map(bytes, read(readable)):
            begin = readable.index(raw, end)
            end = begin + len(raw)
            found.append(msgspec.Raw(whole[begin:end]))
        return found


MSGPACK = Encoding(
    name="msgpack",
    is_json=False,
    one=msgspec.msgpack.Decoder(Usual).decode,
    many=msgspec.msgpack.Decoder(list[Usual]).decode,
    raw=msgspec.msgpack.Decoder(msgspec.Raw).decode,
    raws=_raws_from_msgpack,
    held=msgspec.msgpack.Decoder(dict[str, Any]).decode,
    helds=msgspec.msgpack.Decoder(list[dict[str, Any]]).decode,
    any=msgspec.msgpack.Decoder().decode,
    is_array=_is_msgpack_array,
    body=_without_header,
    join=_join_msgpack,
    has_more_values=msgpack_has_more_values,
)
JSON = Encoding(
    name="JSON",
    is_json=True,
    one=msgspec.json.Decoder(Usual).decode,
    many=msgspec.json.Decoder(list[Usual]).decode,
    raw=lambda data: _skip_halves(_one_from_json, data)[0],
    raws=lambda data: _skip_halves(_raws_from_json, data),
    held=msgspec.json.Decoder(dict[str, Any]).decode,
    helds=msgspec.json.Decoder(list[dict[str, Any]]).decode,
    any=msgspec.json.Decoder().decode,
    is_array=_is_json_array,
    body=lambda _data, records: joined_maps(records),
    join=_join_json,
    has_more_values=json_has_more_values,
)
