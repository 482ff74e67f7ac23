"""One field of many records comes back as it was, whatever it holds."""

from __future__ import annotations

from contextlib import suppress
from math import isfinite
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.errors import StoreDamaged
from edge_agent.history.format.columns import (
    ANY,
    DECIMAL,
    DOUBLE,
    INTEGER,
    SINGLE,
    TEXT,
    TRUTH,
    Column,
    decode_column,
    encode_column,
    join_columns,
    numbers_of,
)
from edge_agent.history.format.packing import loose
from tests.history import values as drawn
from tests.history.damage import told_or_sound

_DECODER = msgspec.msgpack.Decoder(Column)


def encoded(values: list[Any]) -> Column:
    return encode_column(values, set(map(type, values)))


def stored(column: Column) -> Column:
    return _DECODER.decode(msgspec.msgpack.encode(column))


def as_kept(values: list[Any]) -> list[Any]:
    return [drawn.as_kept(value) for value in values]


@given(drawn.columns)
@example([0.5, 1e308])
@example([1e308, 1e308])
@example([0.5, 2**64 - 1])
@example([float("nan"), 1.5])
@example([float("inf"), float("-inf"), None, None, 1.0, 2.0, 3.0, 4.0])
@example([2**63, 1, 1, 1, 1, None])
@example([-0.0, 1])
def test_a_column_comes_back(values: list[Any]) -> None:
    column = encoded(values)
    assert as_kept(decode_column(stored(column), len(values))) == as_kept(values)
    packed = join_columns([column], [len(values)])
    assert as_kept(decode_column(stored(packed), len(values))) == as_kept(values)


@given(st.lists(drawn.columns, min_size=1, max_size=4))
@example([[0.5], [2**53]])
@example([[1], [2**63 - 1], [0.25]])
@example([[1e-9], [9007199254740991.0]])
def test_columns_of_a_field_are_put_together_whatever_each_holds(parts: list[list[Any]]) -> None:
    joined = join_columns([encoded(part) for part in parts], list(map(len, parts)))
    together = [value for part in parts for value in part]
    assert as_kept(decode_column(stored(joined), len(together))) == as_kept(together)


@given(drawn.columns)
def test_numbers_are_the_finite_ones_in_their_places(values: list[Any]) -> None:
    finite = {i: v for i, v in enumerate(values) if type(v) in (int, float) and isfinite(v)}
    numbers = numbers_of(stored(encoded(values)), len(values))
    if numbers is None:
        assert not finite
        return
    assert set(range(len(values))) - numbers.missing == finite.keys()
    floats = numbers.floats()
    assert {i: float(floats[i]) for i in finite} == {i: float(v) for i, v in finite.items()}


@pytest.mark.parametrize(
    "values, kind",
    [
        ([1, 2, 3], INTEGER),
        ([1.5, 2.25, -3.0], DECIMAL),
        ([1.5, 2, None, 2.25], DECIMAL),
        ([0.1 + 0.2, 1.0], DOUBLE),
        ([0.10000000149011612, 1.0], SINGLE),
        ([True, False], TRUTH),
        (["on", "off", "on", "on"], TEXT),
        (["a", "b"], ANY),
        ([None, None, 1.5], ANY),
        ([2**63], ANY),
    ],
)
def test_each_is_kept_in_the_smallest_kind(values: list[Any], kind: int) -> None:
    assert encoded(values).kind == kind


def test_decimals_are_integers_so_that_sums_are_exact() -> None:
    column = encoded([0.1, 0.25, 1.0])
    numbers = numbers_of(column, 3)
    assert numbers is not None
    assert (numbers.values, numbers.scale) == ([10, 25, 100], 2)


SAMPLES: list[list[Any]] = [
    [1, 2, 3],
    [1.5, 2, None, 2.25, "err", 7.0, 8.0, 9.0],
    [0.1 + 0.2, 1e300, float("nan")],
    [0.10000000149011612, 1.0],
    [True, False, True],
    ["on", "off", "on", "on"],
    ["a", None, {"b": [1.5]}, 2**63],
    [2**53, 1.0, -(2**53)],
]


@pytest.mark.parametrize("values", SAMPLES, ids=str)
def test_of_a_damaged_column_there_is_nothing_but_the_word_that_it_is(values: list[Any]) -> None:
    count = len(values) * 20
    column = encoded(values * 20)

    def read(flipped: bytes) -> None:
        found = _DECODER.decode(flipped)
        for look in (decode_column, numbers_of):
            with suppress(StoreDamaged):
                look(found, count)
        with suppress(OverflowError):
            join_columns([found, column], [count, count])

    for one in (column, join_columns([column], [count])):
        told_or_sound(msgspec.msgpack.encode(one), read, times=100)


_TWO = loose([1, 2])


@pytest.mark.parametrize(
    "column",
    [
        Column(99, _TWO),
        Column(INTEGER),
        Column(DECIMAL, _TWO, scale=10),
        Column(DECIMAL, _TWO, scale=-1),
        Column(INTEGER, _TWO, others=msgspec.msgpack.encode({2: None})),
        Column(INTEGER, _TWO, others=msgspec.msgpack.encode({-1: None})),
        Column(INTEGER, _TWO, others=b"\xc1"),
        Column(TEXT, _TWO, texts=["only", "two"]),
        Column(TEXT, loose([-1, 0]), texts=["only", "two"]),
        Column(TEXT),
        Column(ANY, data=msgspec.msgpack.encode([1])),
        Column(ANY, data=msgspec.msgpack.encode(7)),
        Column(ANY, data=b"\xc1"),
        Column(ANY, data=b"\x91" * 5000),
        Column(DOUBLE, data=bytes(17)),
    ],
)
def test_columns_that_cannot_be_are_told(column: Column) -> None:
    with pytest.raises(StoreDamaged):
        join_columns([column, encoded([1.5, 2.5])], [2, 2])
