"""A long array of JSON is read in sections, which together are the array."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from edge_agent.wire import TooBigMessage, Undecodable
from edge_agent.wire.json_sections import sections_of

MANY = 100_000


def read(text: str, most: int = 1000, records_max: int = MANY) -> list[Any]:
    found: list[Any] = []
    for section in sections_of(text, most, records_max):
        if section is not None:
            elements = json.loads(section.array)
            assert len(elements) == section.elements
            found += elements
    return found


RECORDS = [{"t": n, "m": {"t": 1, "b": [1, {}]}, "s": '}, {"t":'} for n in range(300)]
ARRAYS: dict[str, list[Any]] = {
    "records of one kind": RECORDS,
    "records that begin differently": [{f"k{n}": n, "x": [[n]]} for n in range(300)],
    "texts that look like cuts": ['},{"t":', '\\"', "\\", "],["] * 100,
    "numbers": list(range(2000)),
    "arrays": [[1, [2, 3], {"a": [4]}]] * 200,
    "one that is larger than a section": [1, {"s": "},{" * 2000}, 2, *RECORDS],
    "letters that are several bytes": [{"t": "\u00e9\U0001f600" * 9}] * 100,
    "nothing": [],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_sections_together_are_the_array(name: str) -> None:
    array = ARRAYS[name]
    for text in (
        json.dumps(array),
        json.dumps(array, separators=(",", ":"), ensure_ascii=False),
        f" \n[ {' , '.join(map(json.dumps, array))} \t] ",
        json.dumps(array, indent=3),
    ):
        assert read(text) == array == read(text, most=10**6)


def test_a_section_has_no_more_bytes_than_asked_for_or_one_element() -> None:
    text = json.dumps([*RECORDS, {"t": "x" * 5000}, *RECORDS])
    sections = [one for one in sections_of(text, 1000, MANY) if one is not None]
    assert all(len(one.array) <= 1002 or one.elements == 1 for one in sections)
    assert len(sections) > 30


@pytest.mark.parametrize(
    "text",
    [
        "[1,]", "[,1]", "[1,,2]", "[1 2]", "[1", "[1]]", '["a', "[}", "[", "[[1]", '[{"a":1},',
        "[1,2}", '[1,"' + "},{" * 2000, "[" * 5000, '[{"t":}]', "[1,2],", '["\\', "[nan]", "[Na]",
    ],
)  # fmt: skip
def test_what_is_no_array_is_refused_wherever_it_goes_wrong(text: str) -> None:
    long = json.dumps(RECORDS)[:-1] + "," + text[1:]
    for wrong in (text, long, long.replace('"t": 7,', '"t": NaN,')):
        with pytest.raises(Undecodable, match="not JSON"):
            read(wrong)


def test_an_array_of_too_many_is_refused_before_all_of_them_are_read() -> None:
    read_so_far = 0
    with suppress(TooBigMessage):
        for section in sections_of("[" + "1," * 500_000 + "1]", 1000, 10_000):
            assert section is not None
            read_so_far += section.elements
    assert 9_000 < read_so_far <= 10_000


def test_values_that_are_no_json_are_null_in_their_section_alone() -> None:
    array = [*RECORDS, {"t": float("nan"), "u": "NaN"}, {"t": float("-inf")}, *RECORDS]
    wanted = [*RECORDS, {"t": None, "u": "NaN"}, {"t": None}, *RECORDS]
    text = json.dumps(array)
    assert read(text) == wanted
    mended = [one.is_mended for one in sections_of(text, 1000, MANY) if one is not None]
    assert 1 <= sum(mended) <= 2 < len(mended)


def test_half_a_character_is_the_fault_of_its_record_alone() -> None:
    text = json.dumps([*RECORDS, {"t": "\ud800"}, *RECORDS])
    found = [one for one in sections_of(text, 1000, MANY) if one is not None]
    assert sum(one.elements for one in found) == 601


def test_counting_brackets_pauses_now_and_then() -> None:
    array = [{"s": [[], {}] * 5000}, 1]
    sections = list(sections_of(json.dumps(array), 1000, MANY))
    assert sections.count(None) > 10
    assert read(json.dumps(array)) == array
