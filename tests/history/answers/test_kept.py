"""Figures that are kept from question to question."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.history import FOLDER, parse_question
from edge_agent.history.answers import Answer, HistoryReader, kept
from edge_agent.history.answers.kept import KeptCells, Place
from edge_agent.history.format.cells import Cells
from edge_agent.history.keys import HOUR_NS, MINUTE_NS
from tests.history.answers.made import NOW_NS, START_NS, Plain, made


def place(number: int) -> Place:
    return (0x11, 1, number, ("t",), frozenset(["sums"]))


def cells(count: int) -> list[Cells]:
    one = Cells()
    one.starts = list(range(count))
    return [one]


def test_what_was_asked_for_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "NUMBERS_MAX", 3 * 40)
    found = KeptCells()
    for number in range(3):
        found.put(place(number), cells(10))
    assert found.get(place(0)) is not None
    found.put(place(3), cells(10))
    assert [found.get(place(number)) is not None for number in range(4)] == [
        True,
        False,
        True,
        True,
    ]
    found.put(place(4), cells(1000))
    assert found.get(place(4)) is None, "it would need all of the room and more"
    assert found.get(place(3)) is None


def test_they_are_those_of_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    found = KeptCells()
    found.as_of(7)
    found.put(place(0), cells(1))
    found.as_of(7)
    assert found.get(place(0)) is not None
    found.as_of(8)
    assert found.get(place(0)) is None


def test_a_second_question_is_answered_as_the_first(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        times = range(START_NS, START_NS + 2 * HOUR_NS, MINUTE_NS // 2)
        history.put(Plain("a", time_ns, {"t": time_ns % 7}) for time_ns in times)
        history.flush()
    reader = HistoryReader(tmp_path / FOLDER)

    def ask(step: str) -> bytes:
        first_s = START_NS // 10**9
        parameters = {"from": str(first_s), "to": str(first_s + 7200), "fields": "t"}
        question = parse_question(parameters | {"step": step}, NOW_NS, 1000)
        view = reader.view({}, 1, lambda: None)
        assert view is not None
        try:
            return b"".join(Answer(view, question, [("a", 1)]).pieces("json"))
        finally:
            view.txn.abort()

    try:
        answers: dict[str, bytes] = {}
        for step in ("1m", "all", "1h", "1m", "all", "1h"):
            answer = ask(step)
            assert answers.setdefault(step, answer) == answer
    finally:
        reader.close()
