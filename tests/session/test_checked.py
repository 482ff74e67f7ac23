"""What a peer's map holds, taken key by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge_agent.session.checked import or_null, read_bool, read_map, seconds, take, text, whole


@pytest.mark.parametrize(
    "read, value",
    [
        (whole(1, 9), 1),
        (whole(1, 9), 9),
        (seconds(0, 9), 0),
        (seconds(0, 9), 1.5),
        (text(0, 3), ""),
        (text(1, 3), "äöü"),
        (read_bool, False),
        (read_map, {"a": [1]}),
        (or_null(read_bool), None),
        (or_null(read_bool), True),
    ],
)
def test_what_is_as_expected_is_taken(read: Callable[[object], Any], value: object) -> None:
    assert take({"x": value}, "x", read) == value


@pytest.mark.parametrize(
    "read, value",
    [
        (whole(1, 9), 0),
        (whole(1, 9), 10),
        (whole(1, 9), True),
        (whole(1, 9), 1.0),
        (whole(1, 9), "5"),
        (whole(1, 9), None),
        (seconds(0, 9), -0.1),
        (seconds(0, 9), 9.1),
        (seconds(0, 9), float("nan")),
        (seconds(0, 9), True),
        (text(1, 3), ""),
        (text(1, 3), "abcd"),
        (text(1, 3), b"abc"),
        (text(1, 3), "\ud800"),
        (read_bool, 1),
        (read_bool, None),
        (read_map, []),
        (or_null(read_map), 0),
    ],
)
def test_what_is_not_is_told_with_its_key(read: Callable[[object], Any], value: object) -> None:
    with pytest.raises(ValueError, match=r"^x: "):
        take({"x": value}, "x", read)


def test_what_is_missing_is_the_default_or_told() -> None:
    assert take({}, "x", whole(1, 9), 5) == 5
    with pytest.raises(ValueError, match="x is missing"):
        take({}, "x", whole(1, 9))


def test_a_long_value_is_told_in_part() -> None:
    with pytest.raises(ValueError, match="x: expected a map") as caught:
        take({"x": "y" * 10_000}, "x", read_map)
    assert len(str(caught.value)) < 100
