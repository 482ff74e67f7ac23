"""The walk of a record in docs/architecture.md, held against the syntax trees of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from tests.test_architecture import FLOORS

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "edge_agent"
PAGE = ROOT / "docs" / "architecture.md"
#: From the socket to the ack.
STATIONS_MAX = 20
#: Walks that go on from list to list, by the first word of the heading.
WALKS = (("In", "Disk", "Ack"), ("Upstream",), ("Answer",))

_PLACE = r"`[\w/]+\.py:[\w.]+`"
_STATION = re.compile(rf"(\d+)\. ({_PLACE}) — (\S.*[.)]) → (.+)\.")
_HANDING_ON = re.compile(
    rf"(?:returns to (?P<back>{_PLACE}), which )?"
    r"(?P<how>calls|calls the callback|hands on through|ends in) `(?P<name>\w+)`"
    rf"(?: by way of (?P<way>{_PLACE}(?:, {_PLACE})*))?"
    rf"(?:, (?:set|taken out) in (?P<other>{_PLACE}))?"
)


@dataclass(frozen=True)
class Station:
    """One numbered line: where it is, and how it goes on from there."""

    number: int
    place: str
    how: str
    name: str
    way: tuple[str, ...]
    back: str | None
    other: str | None


def station_of(item: str) -> Station:
    line = _STATION.fullmatch(item)
    assert line is not None, f"not a station: {item}"
    on = _HANDING_ON.fullmatch(line[4])
    assert on is not None, f"not a way to go on: {line[4]}"
    way = tuple(_bare(place) for place in re.findall(_PLACE, on["way"] or ""))
    back, other = on["back"], on["other"]
    return Station(
        number=int(line[1]),
        place=_bare(line[2]),
        how=on["how"],
        name=on["name"],
        way=way,
        back=None if back is None else _bare(back),
        other=None if other is None else _bare(other),
    )


def _bare(place: str) -> str:
    return place.strip("`")


def lists_of(text: str) -> dict[str, list[Station]]:
    """The stations below each heading of the walk, by the heading's first word."""
    found: dict[str, list[Station]] = {}
    for section in text.split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        items = re.split(r"\n(?=\d+\. )", body.strip())
        found[title.split(":")[0]] = [station_of(" ".join(item.split())) for item in items]
    return found


def walks_of(text: str) -> list[list[Station]]:
    lists = lists_of(text)
    return [[station for name in names for station in lists[name]] for names in WALKS]


def faults_of(text: str) -> list[str]:
    """Whatever is not true of the walk that a page tells."""
    return [
        fault
        for walk in walks_of(text)
        for index, one in enumerate(walk)
        for fault in faults(walk[:index], one, walk[index + 1] if walk[index + 1 :] else None)
    ]


@cache
def module(file: str) -> ast.Module:
    path = PACKAGE / file
    return ast.parse(path.read_text() if path.exists() else "")


@cache
def function(place: str) -> ast.AST | None:
    """The syntax tree of ``file.py:Class.function``; None where there is none."""
    file, _, path = place.partition(":")
    node: ast.AST = module(file)
    for name in path.split("."):
        named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        inner = [one for one in ast.iter_child_nodes(node) if isinstance(one, named)]
        found = [one for one in inner if one.name == name]
        if not found:
            return None
        node = found[-1]
    return None if isinstance(node, ast.ClassDef) else node


def nodes_of(place: str) -> list[ast.AST]:
    node = function(place)
    return [] if node is None else list(ast.walk(node))


def names_in(place: str) -> set[str]:
    """Every name and attribute that the function uses."""
    nodes = nodes_of(place)
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def calls_in(place: str) -> set[str]:
    """Last names of everything that the function calls."""
    called = [node.func for node in nodes_of(place) if isinstance(node, ast.Call)]
    names = {node.id for node in called if isinstance(node, ast.Name)}
    return names | {node.attr for node in called if isinstance(node, ast.Attribute)}


def name_of(place: str) -> str:
    """By what a function is called: for ``__call__`` it is the name of the class."""
    *owners, name = place.partition(":")[2].split(".")
    return owners[-1] if name == "__call__" else name


def faults(before: Sequence[Station], one: Station, following: Station | None) -> Iterator[str]:
    """Whatever is not true of how a station goes on."""
    places = [one.place, one.back, one.other, *one.way]
    yield from (f"there is no {place}" for place in places if place and function(place) is None)
    steps = [one.back or one.place, *one.way]
    for step, after in pairwise(steps):
        if name_of(after) not in calls_in(step):
            yield f"{step} does not call {after}"
    is_before = one.back in [station.place for station in before]
    if one.back is not None and not is_before and name_of(one.place) not in calls_in(one.back):
        yield f"{one.back} is no earlier station, and does not call {one.place}"
    used = names_in if one.how == "hands on through" else calls_in
    if one.name not in used(steps[-1]):
        yield f"{steps[-1]} does not use {one.name}"
    if (one.how == "ends in") != (following is None):
        yield f"{one.place} is not where the walk ends, or does not say that it is"
    elif following is not None:
        yield from faults_between(one, following)


def faults_between(one: Station, following: Station) -> Iterator[str]:
    there = name_of(following.place)
    if one.how == "calls" and one.name != there:
        yield f"{one.place} calls {one.name}, and the next station is {following.place}"
    elif one.how == "calls the callback" and there not in names_in(one.other or one.place):
        yield f"{one.other} does not set {following.place}"
    elif one.how == "hands on through":
        taken = one.other or following.place
        if one.name not in names_in(taken):
            yield f"{taken} takes nothing out of {one.name}"
        if taken != following.place and (
            name_of(taken) not in calls_in(following.place) and there not in calls_in(taken)
        ):
            yield f"{taken} has nothing to do with {following.place}"


def test_the_walk_has_its_five_lists_and_each_is_numbered() -> None:
    text = PAGE.read_text()
    assert list(lists_of(text)) == [name for names in WALKS for name in names]
    for walk in walks_of(text):
        assert [one.number for one in walk] == [*range(1, len(walk) + 1)]


def test_every_station_goes_on_to_the_next_as_the_page_says() -> None:
    assert not faults_of(PAGE.read_text())


def test_there_are_at_most_twenty_stations_from_the_socket_to_the_ack() -> None:
    assert len(walks_of(PAGE.read_text())[0]) <= STATIONS_MAX


def test_the_lists_begin_and_end_where_their_headings_say() -> None:
    lists = lists_of(PAGE.read_text())
    assert lists["In"][0].place.startswith("server/")
    assert lists["In"][-1].place == "log.py:Log.offer"
    assert lists["Disk"][-1].place == "store/commit/stamp.py:writing"
    assert (lists["Ack"][-1].how, lists["Ack"][-1].name) == ("ends in", "write")
    assert lists["Upstream"][-1].place == "log.py:Log.acknowledge"


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("`server/pump.py:Feed.offer`", "`server/pump.py:Feed.propose`"),
        ("`server/pump.py:Feed.offer`", "`server/pumps.py:Feed.offer`"),
        ("calls `receive_data`", "calls `receive_more`"),
        ("SensorSession._read`", "SensorSession._go_on`"),
        ("through `_due`", "through `_news`"),
        ("Teller.add`", "Teller.run`"),
        ("PendingEntries.take`", "PendingEntries.close`"),
        (
            "returns to `commit/committer.py:Committer._commit_group`",
            "returns to `log.py:Log.read`",
        ),
        ("ends in `send_all`", "ends in `write`"),
    ],
)
def test_a_station_that_is_not_true_is_found(right: str, wrong: str) -> None:
    """The page is changed here instead of the code; that the two differ is all that counts."""
    text = PAGE.read_text()
    assert right in text
    assert faults_of(text.replace(right, wrong))


def test_the_page_names_every_part_on_its_floor() -> None:
    rows = re.findall(r"^\| ([\d, -]+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    told = {
        part: {int(floor) for floor in floors.split(",")}
        for floors, parts in rows
        for part in re.findall(r"`(\w+)`", parts)
    }
    assert set(told) == set(FLOORS)
    assert not {part for part, floors in told.items() if FLOORS[part] not in floors}


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:tests/)?[\w/]+(?:\.py|/))[:`]", PAGE.read_text()))
    assert not [name for name in named if not any((at / name).exists() for at in (ROOT, PACKAGE))]
