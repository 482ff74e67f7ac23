"""Paths to values within a record."""

from __future__ import annotations

import pytest

from edge_agent.values.field_path import MISSING, look_up, parse_path

RECORD = {"a": {"b:0": {"c": 1}, "l": [{"x": 2}, 3]}, "n": None}


@pytest.mark.parametrize(
    "text, names",
    [
        ("t", ("t",)),
        ("a.b", ("a", "b")),
        ('params."switch:0".apower', ("params", "switch:0", "apower")),
        ("params.`switch:0`.apower", ("params", "switch:0", "apower")),
        ('"a`b".`c"d`', ("a`b", 'c"d')),
        ("params.switch:0.apower", ("params", "switch:0", "apower")),
        ('"a.b".c', ("a.b", "c")),
        ("relays.0.on", ("relays", "0", "on")),
        ("größe", ("größe",)),
    ],
)
def test_a_path_is_names_joined_by_dots(text: str, names: tuple[str, ...]) -> None:
    assert parse_path(text) == names


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", 'a."b', 'a.""', "a b", "a.*", "a.``", "a.`b"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a path such as"):
        parse_path(text)
    with pytest.raises(ValueError, match="a path such as"):
        parse_path(".".join(["a"] * 65))


@pytest.mark.parametrize(
    "path, found",
    [
        ('a."b:0".c', 1),
        ("a.l.0.x", 2),
        ("a.l.1", 3),
        ("n", None),
        ("a.l.2", MISSING),
        ("a.l.x", MISSING),
        ("a.x.c", MISSING),
        ("n.x", MISSING),
    ],
)
def test_the_value_at_a_path_is_found(path: str, found: object) -> None:
    assert look_up(RECORD, parse_path(path)) is found or look_up(RECORD, parse_path(path)) == found
