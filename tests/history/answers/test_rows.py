"""Rows in slices of an hour: in order, whatever the hour looks like."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edge_agent.history.answers import rows
from edge_agent.history.answers.rows import point_rows, record_rows, rows_in
from edge_agent.history.keys import HOUR_NS
from tests.history.answers.made import START_NS, Made, Plain, made


def seqs(history: Made, *, newest_first: bool, few: int = 1_000_000) -> list[int]:
    names = ["a", "b", "c"]
    numbers = history.history.file.numbers
    streams = [(name, numbers.get(name, 0)) for name in names]
    with history.view(names, START_NS, START_NS + 2 * HOUR_NS) as view:
        found = rows_in(
            view, streams, (START_NS, START_NS + 2 * HOUR_NS), record_rows(None),
            newest_first=newest_first, few=few,
        )  # fmt: skip
        return [record.seq for _, records in found for record in records]


@pytest.mark.parametrize("spread", [1, 1000, 2 * HOUR_NS])
def test_slices_give_every_record_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spread: int
) -> None:
    monkeypatch.setattr(rows, "SLICE_ROWS", 20)
    dice = random.Random(spread)
    with made(tmp_path) as history:
        for part in range(3):
            history.put(
                Plain(dice.choice("abc"), START_NS + dice.randrange(spread), {"n": part})
                for _ in range(400)
            )
            # And one far away, so that the hour looks as if it were evenly full.
            history.put([Plain("a", START_NS + HOUR_NS - 1, {})])
            if part < 2:
                history.flush()
        expected = [one.seq for one in sorted(history.records, key=lambda one: one.order)]
        assert seqs(history, newest_first=False) == expected
        assert seqs(history, newest_first=True) == expected[::-1]
        assert seqs(history, newest_first=True, few=1) == expected[::-1]


def test_who_takes_few_makes_few(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        history.put(Plain("a", START_NS + n * 10**9, {"n": n}) for n in range(3600))
        history.flush()
        asked: list[int] = []
        make = point_rows([("n",)], None)

        def counted(segment, stream, times, begin, end):  # type: ignore[no-untyped-def] # as make
            asked.append(end - begin)
            return make(segment, stream, times, begin, end)

        with history.view(["a"], START_NS, START_NS + HOUR_NS) as view:
            found = rows_in(
                view, [("a", 1)], (START_NS, START_NS + HOUR_NS), counted, newest_first=True, few=10
            )
            times, made_rows = next(found)
            assert times[0] == START_NS + 3599 * 10**9 and made_rows[0][2] == 3599
        assert sum(asked) < 300


def test_a_record_without_any_of_the_fields_is_no_point(tmp_path: Path) -> None:
    with made(tmp_path) as history:
        for fields in ({"t": 1}, {}, {"u": None}, {"m": {"t": 2}}, {"t": "x", "u": [1]}):
            history.put([Plain("a", START_NS + len(history.records), fields)])
        for _ in ("from memory", "from the file"):
            rows = history.json(from_=START_NS, to=START_NS + 9, fields="t,u,m.t")["rows"]
            assert [row[2:] for row in rows] == [
                [1, None, None], [None, None, None], [None, None, 2], ["x", [1], None],
            ]  # fmt: skip
            history.flush()
