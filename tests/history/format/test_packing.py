"""Integers and floats in few bytes come back as they were, and damage is told."""

from __future__ import annotations

import math
from itertools import accumulate

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.errors import StoreDamaged
from edge_agent.history.format.packing import (
    LOOSE,
    STEPS,
    PackedNumbers,
    apart,
    is_packable,
    loose,
    pack,
    pack_floats,
    rises,
    spread,
    squeeze,
    together,
    unpack,
    unpack_floats,
)
from tests.history.damage import told_or_sound

LOW, HIGH = -(2**63), 2**63 - 1
whole = st.integers(LOW, HIGH)
lists = st.lists(
    whole | st.integers(-3, 3) | st.sampled_from([LOW, HIGH]), min_size=1, max_size=200
)


def stored(packed: PackedNumbers) -> PackedNumbers:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(packed), type=PackedNumbers)


@given(lists, st.booleans())
@example([HIGH, LOW], False)
@example([HIGH, -6, -7], True)
@example([LOW, HIGH, LOW], True)
def test_integers_of_64_bits_come_back(values: list[int], even: bool) -> None:
    assert is_packable(values)
    assert unpack(stored(pack(values, even=even)), len(values)) == values
    assert unpack(stored(loose(values)), len(values)) == values


@given(lists, st.booleans(), st.integers(0, 200), st.integers(0, 200))
@example([0, 3000, 4000, 9000], True, 1, 3)
@example([0, 3000, 4000, 9000], True, 2, 2)
def test_some_of_the_integers_are_what_they_are_among_all(
    values: list[int], even: bool, begin: int, end: int
) -> None:
    begin, end = sorted((min(begin, len(values)), min(end, len(values))))
    for packed in (pack(values, even=even), loose(values)):
        assert unpack(packed, len(values), begin, end) == values[begin:end]


@given(lists)
def test_what_is_seen_to_rise_does(values: list[int]) -> None:
    for packed in (pack(values), pack(sorted(values), even=True)):
        found = unpack(packed, len(values))
        assert not rises(packed) or found == sorted(set(found))


@given(whole, whole, st.integers(1, 300), st.lists(st.integers(0, 3), max_size=20))
def test_steady_integers_come_back(base: int, step: int, count: int, noise: list[int]) -> None:
    values = [base + i * step for i in range(count)]
    for place, amount in enumerate(noise[:count]):
        values[place] += amount
    values = [value for value in values if LOW <= value <= HIGH] or [base]
    for even in (False, True):
        assert unpack(stored(pack(values, even=even)), len(values)) == values


@given(
    st.lists(st.sampled_from([-129, -128, -1, 0, 1, 127, 128, 255, 256]), min_size=1, max_size=99)
)
@example([-128, 127] * 40)
@example([0, 127, -1] * 40)
@example([0, 128, -1] * 40)
@example([0, -128, 0] * 40)
def test_steps_about_as_wide_as_a_byte_come_back(values: list[int]) -> None:
    for even in (False, True):
        packed = pack(values, even=even)
        assert unpack(stored(packed), len(values)) == values
        assert packed == pack(values, even=even, ends=(min(values), max(values)))


@pytest.mark.parametrize("step", [-129, -128, -127, -1, 0, 1, 126, 127, 128])
def test_steps_at_the_ends_of_a_byte_with_a_sign_come_back(step: int) -> None:
    ends = [0, 1, *range(126 - step, 130 - step), 254, 255]
    for rest in (one for one in ends if 0 <= one <= 255):
        raw = bytes([0, rest, 1])
        found = unpack(PackedNumbers(STEPS, 7, step, width=1, data=raw), 4)
        assert found == list(accumulate([7, step, step + rest, step + 1]))
        assert unpack(PackedNumbers(STEPS, 7, step, width=1, data=raw), 4, 1, 3) == found[1:3]


def test_what_is_steady_takes_next_to_nothing() -> None:
    assert len(msgspec.msgpack.encode(pack([7] * 4096))) < 20
    assert len(msgspec.msgpack.encode(pack(list(range(10**18, 10**18 + 4096))))) < 30
    jitter = [10**18 + i * 10**9 + i * 7 % 20 * 10**6 for i in range(4096)]
    assert len(msgspec.msgpack.encode(pack(jitter, even=True))) < 4096 + 60


@pytest.mark.parametrize("value", [LOW - 1, HIGH + 1])
def test_what_is_wider_than_64_bits_is_not_packable(value: int) -> None:
    assert not is_packable([0, value])


@given(st.lists(st.floats(), min_size=1, max_size=100))
def test_floats_come_back_with_their_bits(values: list[float]) -> None:
    back = unpack_floats(*pack_floats(values, "d"), "d", len(values))
    assert list(map(repr, back)) == list(map(repr, values))
    assert [math.copysign(1, one) for one in back if one == one] == [
        math.copysign(1, one) for one in values if one == one
    ]


@given(st.lists(st.floats(width=32), min_size=1, max_size=100))
def test_floats_of_32_bits_come_back(values: list[float]) -> None:
    back = unpack_floats(*pack_floats(values, "f"), "f", len(values))
    assert list(map(repr, back)) == list(map(repr, values))


@given(st.binary(max_size=400), st.sampled_from([1, 2, 4, 8]))
def test_bytes_put_apart_come_together(raw: bytes, width: int) -> None:
    raw = raw[: len(raw) // width * width]
    assert together(apart(raw, width), width) == raw
    assert spread(*squeeze(raw * 3)) == raw * 3


@pytest.mark.parametrize("values", [[7], list(range(9)), [1, 500, 3] * 50, [HIGH, LOW, 0] * 50])
def test_of_damaged_numbers_there_is_nothing_but_the_word_that_they_are(values: list[int]) -> None:
    decoder = msgspec.msgpack.Decoder(PackedNumbers)
    for packed in (pack(values), loose(values)):
        raw = msgspec.msgpack.encode(packed)
        told_or_sound(raw, lambda flipped: unpack(decoder.decode(flipped), len(values)))


@pytest.mark.parametrize(
    "packed",
    [
        PackedNumbers(9, 0, width=1, data=b"a"),
        PackedNumbers(LOOSE, 0, width=3, data=b"abc"),
        PackedNumbers(1, 0, width=2, data=b"a"),
        PackedNumbers(1, 0, width=2, data=b"abc"),
        PackedNumbers(1, 0, width=1, data=b"ab"),
        PackedNumbers(STEPS, 0, width=1, data=b"a"),
        PackedNumbers(1, 0, width=1, squeezed=True, data=b"no frame"),
    ],
)
def test_packed_numbers_that_cannot_be_are_told(packed: PackedNumbers) -> None:
    with pytest.raises(StoreDamaged):
        unpack(packed, 1)


def test_floats_that_are_too_many_or_cut_are_told() -> None:
    for data in (b"1234567", bytes(16)):
        with pytest.raises(StoreDamaged):
            unpack_floats(False, data, "d", 1)


def test_what_unpacks_to_more_than_it_can_be_is_told() -> None:
    squeezed, data = squeeze(bytes(17 * 1024 * 1024))
    with pytest.raises(StoreDamaged):
        spread(squeezed, data)
