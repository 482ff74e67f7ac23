"""The number of values in a record, found without making an object of any of them.

A byte may be a value: an empty array of msgpack is one, and takes some 70 as an object. So a bound
on a record's bytes alone says little of what it costs those who decode it. Counted are the record
itself, each key, and each value however deep, ``{"a": [1, 2]}`` having five.
"""

from __future__ import annotations

import re

#: What a record may have by default: as many as one of 64 KiB, the default of its bytes, can have.
#: Arrays and maps of so many values take some 6 MB as objects.
RECORD_VALUES = 64 * 1024

# Nothing within a text parts values.
_JSON_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def _steps() -> bytes:
    """By the first byte of a msgpack value its bytes, where that byte alone says them; else 0."""
    steps = bytearray(256)
    for head in (*range(0x81), 0x90, 0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)):
        steps[head] = 1
    for head in range(0xA0, 0xC0):
        steps[head] = 1 + (head & 0x1F)
    # Floats, whole numbers by their size, and extensions of 1 to 16 bytes with their type.
    fixed = {0xCA: 5, 0xCB: 9} | {0xD4 + n: 2 + 2**n for n in range(5)}
    fixed |= {first + n: 1 + 2**n for first in (0xCC, 0xD0) for n in range(4)}
    for head, size in fixed.items():
        steps[head] = size
    return bytes(steps)


_STEPS = _steps()
#: Bytes of the length behind the first byte, and bytes beside: binary, extensions, text.
_LENGTHS = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip


def msgpack_has_more_values(raw: bytes | memoryview, most: int) -> bool:
    """Whether a value of msgpack, whose outer form is known to be sound, is more than ``most``.

    An array counts with all its elements once it begins, so that no more than ``most`` are looked
    at, and of one that has more none.
    """
    at, left, count, steps = 0, 1, 1, _STEPS
    while left:
        head = raw[at]
        left -= 1
        step = steps[head]
        if step:
            at += step
        elif head in _LENGTHS:
            wide, beside = _LENGTHS[head]
            at += 1 + wide
            at += beside + int.from_bytes(raw[at - wide : at], "big")
        else:
            held, at = _held(raw, head, at)
            left += held
            count += held
            if count > most:
                return True
    return count > most


def _held(raw: bytes | memoryview, head: int, at: int) -> tuple[int, int]:
    """What an array or a map holds, keys counted too, and where that begins."""
    if head < 0xA0:
        return (head & 0x0F) * (2 if head < 0x90 else 1), at + 1
    begin = at + (5 if head & 1 else 3)
    return int.from_bytes(raw[at + 1 : begin], "big") * (2 if head >= 0xDE else 1), begin


def too_many_values(most: int) -> str:
    """What is said of a record that has more."""
    return (
        f"a record has at most {most} values (limits.record_values), keys and what nests counted:"
        " send it as several records"
    )


def json_has_more_values(raw: bytes, most: int) -> bool:
    """The same of a value of JSON: there is one more behind each comma, colon and opening."""
    if 1 + sum(map(raw.count, (b",", b":", b"[", b"{"))) <= most:
        return False
    bare = _JSON_TEXT.sub(b"0", raw).translate(None, b" \t\r\n")
    count = 1 + sum(map(bare.count, (b",", b":", b"[", b"{")))
    return count - bare.count(b"[]") - bare.count(b"{}") > most
