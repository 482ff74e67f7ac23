from __future__ import annotations

from typing import Any

import pytest

from edge_agent.forward.sinks.file.names import FileName, parse_name

NAME = FileName("9b1d", "5f0c", "main", "usb", 1, 10_000, 9_876, "ndjson", ".gz")
TEXT = "9b1d.main.0000000000000001-0000000000010000.5f0c.usb.9876.ndjson.gz"


def test_a_name_says_whose_records_of_which_log_and_range_are_in_the_file() -> None:
    assert NAME.text() == TEXT
    assert parse_name(TEXT) == NAME
    assert NAME.store == "9b1d/5f0c/main"


@pytest.mark.parametrize(
    "name",
    [
        NAME._replace(log="A.b-c_D", upstream="x.0001-2"),
        NAME._replace(first=10**17, last=10**17 + 5, records=0),
        NAME._replace(form="csv", packed="", variant="/thinned-7/moved-2"),
        NAME._replace(form="parquet", packed=""),
    ],
)
def test_whatever_names_there_are_come_back(name: FileName) -> None:
    assert parse_name(name.text()) == name


def test_names_sort_by_agent_log_and_number() -> None:
    names = [
        NAME._replace(agent=agent, log=log, first=first, last=first + 8)
        for agent in ("0a", "1a")
        for log in ("alarms", "main")
        for first in (1, 9, 10, 99_999, 10**15)
    ]
    texts = [name.text() for name in names]
    assert texts == sorted(texts)


@pytest.mark.parametrize("what", ["log", "upstream"])
def test_names_that_differ_by_capitals_are_two_on_a_fat_stick(what: str) -> None:
    names: list[dict[str, Any]] = [{what: name} for name in ("hub", "Hub", "hUb", "HUB")]
    given = [NAME._replace(**one) for one in names]
    assert len({name.text().lower() for name in given}) == 4
    assert [parse_name(name.text()) for name in given] == given


@pytest.mark.parametrize(
    "text",
    ["", "x.ndjson", f".{TEXT}.part", TEXT.replace("ndjson", "json"), TEXT.replace(".g", "(1).g")],
)
def test_other_names_are_none_of_ours(text: str) -> None:
    assert parse_name(text) is None
