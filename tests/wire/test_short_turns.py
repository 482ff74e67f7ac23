"""What was read, in turns of few records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from edge_agent.values.record import Run
from edge_agent.wire import Arrival, Received, WireLimits, in_short_turns, read_messages, run_slices

BAD = {"time": "noon"}


def read(records: list[Any], number: int) -> Received:
    return read_messages(
        [json.dumps(records)], number, Arrival("a", "pi", 10**18, synced=True), WireLimits()
    )


def pieces(received: Received, most: int) -> list[Received]:
    def turns() -> Iterator[Received]:
        yield received

    return list(in_short_turns(turns(), lambda runs: most))


def values(runs: tuple[Run, ...]) -> list[Any]:
    found: list[Any] = []
    for run in runs:
        unpacker = msgpack.Unpacker()
        unpacker.feed(run.body)
        found += [record["n"] for record in unpacker]
    return found


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("bad", [(), (0,), (3, 4), (9,), (0, 2, 4, 6, 8)])
@pytest.mark.parametrize("other", [(), (2, 3), (7,)])
def test_all_of_it_comes_once_in_order_and_each_piece_takes_its_numbers(
    most: int, bad: tuple[int, ...], other: tuple[int, ...]
) -> None:
    records: list[Any] = [{"n": n} | ({"stream": "b"} if n in other else {}) for n in range(10)]
    for place in bad:
        records[place] = BAD
    received = read(records, 100)
    told = pieces(received, most)
    number = 100
    for piece in told:
        taken = {run.source_seq + n for run in piece.runs for n in range(run.count)}
        taken |= {reject.number for reject in piece.rejects}
        assert taken == set(range(number, number + piece.numbers))
        number += piece.numbers
    assert number == 110
    assert [n for piece in told for n in values(piece.runs)] == values(received.runs)
    assert [reject for piece in told for reject in piece.rejects] == list(received.rejects)
    assert sum(piece.size for piece in told) == received.size
    assert [piece.messages for piece in told] == [0] * (len(told) - 1) + [1]
    assert [piece.is_last for piece in told] == [False] * (len(told) - 1) + [True]
    rejects = len(bad)
    assert all(piece.numbers <= most + rejects for piece in told)


def test_where_nobody_numbers_rejects_come_last() -> None:
    told = pieces(read([{"n": 1}, BAD, {"n": 2}, {"n": 3}], 0), 2)
    assert [(len(values(piece.runs)), len(piece.rejects)) for piece in told] == [(2, 0), (1, 1)]
    assert sum(piece.numbers for piece in told) == 4


def test_what_is_short_or_not_dear_comes_as_it_is() -> None:
    received = read([{"n": 1}, {"n": 2}], 1)
    assert pieces(received, 2)[0] is received and pieces(received, 0)[0] is received


def test_a_run_is_cut_into_runs() -> None:
    (run,) = read([{"n": n} for n in range(5)], 7).runs
    assert [(part.source_seq, part.count) for part in run_slices(run, 2)] == [
        (7, 2),
        (9, 2),
        (11, 1),
    ]
    assert [part.count for part in run_slices(run, 3, 1)] == [1, 3, 1]
