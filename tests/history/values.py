"""Whatever a record may hold, as hypothesis draws it; and when two values are the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

decimals = st.builds(
    lambda n, scale: n / 10**scale, st.integers(-(10**9), 10**9), st.integers(0, 6)
)
integers = (
    st.integers(-100, 100)
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([2**53, 2**53 + 1, -(2**53), 2**63 - 1, 2**63, -(2**63), 2**64 - 1])
)
floats = (
    decimals
    | st.floats()
    | st.floats(width=32)
    | st.sampled_from([0.0, -0.0, 1e308, -1e308, 1.7e308, 5e-324, 3.4e38, 3.5e38, 2.0**53, 1e22])
)
numbers = integers | floats
dates = st.integers(-(10**9) * 10**6, 10**10 * 10**6).map(lambda us: _EPOCH + timedelta(0, 0, us))
exts = st.builds(msgspec.msgpack.Ext, st.integers(0, 127), st.binary(max_size=5))
scalars = (
    numbers | st.none() | st.booleans() | st.text(max_size=5) | st.binary(max_size=5) | dates | exts
)
keys = st.sampled_from(["a", "b", "a b", ""]) | st.text(max_size=3)
maps_inside = st.recursive(
    scalars,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(keys, below, max_size=3)
        | st.dictionaries(st.integers(0, 5), below, max_size=2)
    ),
    max_leaves=6,
)
fields = st.dictionaries(keys, maps_inside, max_size=4)


def column(draw: Any, of: Any = None) -> list[Any]:
    """Values of one field: mostly of one kind, as sensors send them."""
    kinds = st.sampled_from(
        [decimals, integers, floats, numbers, st.booleans(), st.text(max_size=2), dates, scalars,
         maps_inside, st.sampled_from([1.5, None]), st.sampled_from([1, 2.5, None, "err"])]
    )  # fmt: skip
    most: list[Any] = draw(st.lists(draw(kinds), min_size=1, max_size=40))
    for place, value in draw(st.dictionaries(st.integers(0, 39), scalars, max_size=2)).items():
        if place < len(most):
            most[place] = value
    return most


columns = st.composite(column)()


def as_kept(value: Any) -> Any:
    """Something that is equal for just those values that history may take for one another: types
    count, the sign of a zero and the order of keys do not. Floats count with all their bits.
    """
    if isinstance(value, float):
        return "float", repr(value + 0.0)
    if isinstance(value, dict):
        return "map", {key: as_kept(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return "list", [as_kept(inner) for inner in value]
    if isinstance(value, msgspec.msgpack.Ext):
        return "ext", value.code, value.data
    return type(value).__name__, value
