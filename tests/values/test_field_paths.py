from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.values.field_path import MISSING
from edge_agent.values.field_paths import (
    FIELDS_MAX,
    LOOKED_AT_MAX,
    numbers_and_words_of,
    parse_paths,
    path_text,
)

SHELLY = {"method": "NotifyStatus", "params": {"switch:0": {"apower": 41.5, "output": True}}}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("t", [("t",)]),
        ("t,params.x", [("t",), ("params", "x")]),
        (' t , "rain, mm" ', [("t",), ("rain, mm",)]),
        ("params.`switch:0`.apower", [("params", "switch:0", "apower")]),
        ('params."switch:0".apower', [("params", "switch:0", "apower")]),
        ("`a``b`.`c.d`,` e`", [("a`b", "c.d"), (" e",)]),
        ("params.switch:0.apower", [("params", "switch:0", "apower")]),
        ('"a""b"."c.d"', [('a"b', "c.d")]),
        ("t,t", [("t",)]),
        ("rain (mm)", [("rain (mm)",)]),
    ],
)
def test_a_list_of_paths_is_read(text: str, expected: list[tuple[str, ...]]) -> None:
    assert [path.parts for path in parse_paths(text)] == expected


@pytest.mark.parametrize(
    "text",
    ["", ",", "t,", ",t", "a..b", ".a", "a.", '"', '"a', '""', 'a"b', " ", "`", "``", "a`b`"],
)
def test_what_is_no_path_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(ProtocolError, match="fields: expected names such as t"):
        parse_paths(text)


def test_a_list_has_an_end() -> None:
    parse_paths(",".join(f"f{n}" for n in range(FIELDS_MAX)))
    with pytest.raises(ProtocolError, match="at most 64"):
        parse_paths(",".join(f"f{n}" for n in range(FIELDS_MAX + 1)))


def test_a_path_finds_what_lies_within_maps_and_a_whole_name_goes_first() -> None:
    def look(path: str, fields: dict[str, Any]) -> Any:
        return parse_paths(path)[0].of(fields)

    assert look('params."switch:0".apower', SHELLY) == 41.5
    assert look("params.none", SHELLY) is MISSING and look("method.x", SHELLY) is MISSING
    assert look("a.b", {"a": {"b": 1}, "a.b": 2}) == 2
    assert look("x", {"x": None}) is None


def numbers_of(fields: dict[str, Any], most: int) -> dict[str, float]:
    return numbers_and_words_of(fields, most, 8)[0]


def test_the_numbers_of_a_record_are_found_by_their_paths_in_its_order() -> None:
    fields = {
        "t": 21.5, "on": True, "name": "x", "nan": math.nan, "none": None, "list": [1, 2],
        "params": {"switch:0": {"apower": 41.5}, "a.b": 3, 5: 6}, "n": 2**64 - 1, "rain (mm)": 4,
    }  # fmt: skip
    assert list(numbers_of(fields, 32).items()) == [
        ("t", 21.5),
        ("params.switch:0.apower", 41.5),
        ("params.`a.b`", 3),
        ("n", 2**64 - 1),
        ("`rain (mm)`", 4),
    ]


def test_the_words_of_a_record_are_found_beside_its_numbers() -> None:
    fields = {"t": 1, "POWER": "ON", "door": {"is open": False}, "none": None, "raw": b"x"}
    assert numbers_and_words_of(fields, 32, 8) == (
        {"t": 1}, {"POWER": "ON", "door.`is open`": False},
    )  # fmt: skip
    many = {f"w{n}": "x" for n in range(20)}
    assert numbers_and_words_of(many | {"t": 1}, 32, 8) == (
        {"t": 1}, {f"w{n}": "x" for n in range(8)},
    )  # fmt: skip


def test_only_so_many_numbers_are_taken_and_only_so_much_is_looked_at() -> None:
    assert list(numbers_of({f"f{n}": n for n in range(50)}, 32)) == [f"f{n}" for n in range(32)]
    many: dict[str, Any] = {f"t{n}": "text" for n in range(LOOKED_AT_MAX)}
    assert numbers_of(many | {"late": 1}, 32) == {}
    assert numbers_of({"maps": {f"m{n}": {} for n in range(LOOKED_AT_MAX)}, "late": 1}, 32) == {}
    assert numbers_of({"x" * 201: 1, "y": 2}, 32) == {"y": 2}
    deep: dict[str, Any] = {"v": 1}
    for _ in range(2000):
        deep = {"m": deep}
    assert numbers_of(deep, 32) == {}


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_whatever_the_names_are_the_text_of_a_path_leads_back_to_them(names: list[str]) -> None:
    parts = tuple(names)
    (path,) = parse_paths(path_text(parts))
    assert path.parts == parts
