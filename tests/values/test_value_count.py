"""Values are counted as a decoder would make them, and no more is looked at than is allowed."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import msgpack
import pytest

from edge_agent.values.value_count import (
    RECORD_VALUES,
    json_has_more_values,
    msgpack_has_more_values,
    too_many_values,
)


def counted(value: object) -> int:
    """By the decoded value, keys and all."""
    if isinstance(value, dict):
        return 1 + sum(counted(key) + counted(inner) for key, inner in value.items())
    if isinstance(value, list):
        return 1 + sum(map(counted, value))
    return 1


def made(dice: random.Random, depth: int, *, is_json: bool) -> Any:
    """Some value, of every kind that the encoding has, with sizes at the edges of its forms."""
    size = dice.choice((0, 1, 2, 15, 16, 31, 32, 40))
    kind = dice.randrange(12 if depth else 9)
    if kind < 3:
        whole = dice.choice(
            (5, 200, 60_000, 2**31, 2**63 - 1, -5, -100, -30_000, -(2**31), -(2**63))
        )
        return dice.choice((None, True, False, 1.5, whole))
    if kind < 6:
        return dice.choice(("", "x" * size, "a,b:[{", '"\\"', "\\", "y" * 300, "z" * 70_000))
    if kind < 9:
        if is_json:
            return dice.choice(("[", "]}", '",', "\n"))
        long = dice.choice((b"", b"x" * size, bytes(300), bytes(70_000)))
        return dice.choice(
            (long, msgpack.ExtType(5, long), msgpack.ExtType(5, bytes(2 ** (size % 5))))
        )
    inner = [made(dice, depth - 1, is_json=is_json) for _ in range(size)]
    return inner if kind < 11 else {f"k{n}": each for n, each in enumerate(inner)}


@pytest.mark.parametrize("seed", range(60))
def test_the_count_is_what_decoding_gives(seed: int) -> None:
    dice = random.Random(seed)
    value = made(dice, 3, is_json=False)
    count = counted(value)
    for single in (False, True):
        raw = msgpack.packb(value, use_single_float=single)
        assert not msgpack_has_more_values(raw, count)
        assert msgpack_has_more_values(raw, count - 1)
        assert msgpack_has_more_values(memoryview(raw), count - 1)


@pytest.mark.parametrize("seed", range(60))
def test_the_count_of_json_is_what_decoding_gives(seed: int) -> None:
    dice = random.Random(seed)
    value = made(dice, 3, is_json=True)
    count = counted(value)
    for spaces in (None, 2):
        raw = json.dumps(value, indent=spaces).encode()
        assert not json_has_more_values(raw, count)
        assert json_has_more_values(raw, count - 1)
    assert not json_has_more_values(b"[ \t]", 1) and not json_has_more_values(b"{\n}", 1)


def test_arrays_and_maps_of_every_size_are_counted() -> None:
    for size in (0, 15, 16, 65_535, 65_536):
        assert not msgpack_has_more_values(msgpack.packb([1] * size), 1 + size)
        assert msgpack_has_more_values(msgpack.packb([1] * size), size)
        held = msgpack.packb({f"{n}": n for n in range(size)})
        assert not msgpack_has_more_values(held, 1 + 2 * size)
        assert msgpack_has_more_values(held, 2 * size)


def test_no_more_is_looked_at_than_is_allowed() -> None:
    class Bytes(bytes):
        looks = 0

        def __getitem__(self, at: Any) -> Any:
            Bytes.looks += 1
            return super().__getitem__(at)

    assert msgpack_has_more_values(Bytes(msgpack.packb([[]] * 1_000_000)), RECORD_VALUES)
    assert Bytes.looks < 5
    nested = Bytes(msgpack.packb([[[]] * 50] * 20_000))
    assert msgpack_has_more_values(nested, RECORD_VALUES)
    assert Bytes.looks < 3 * RECORD_VALUES


def test_arrays_of_as_many_values_as_a_record_may_have_take_about_6_mb() -> None:
    some = sys.getsizeof([]) + 16, sys.getsizeof({}) + 16, sys.getsizeof({"": 1}) / 3
    assert max(some) * RECORD_VALUES + 8 * RECORD_VALUES < 6_500_000


def test_the_reason_names_the_limit_and_a_way_out() -> None:
    assert "at most 7 values (limits.record_values)" in too_many_values(7)
    assert "several records" in too_many_values(7)
