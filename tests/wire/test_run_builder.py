"""Putting runs together."""

from __future__ import annotations

from edge_agent.wire.reading_types import RUN_BYTES_MAX, Arrival
from edge_agent.wire.run_builder import RunBuilder

ARRIVAL = Arrival("a", "pi", 5, synced=False)


def test_neighbours_of_one_stream_become_one_run() -> None:
    gathering = RunBuilder(10, ARRIVAL)
    gathering.add("a", 2, b"xy", 30, 40)
    gathering.add("a", 1, b"z", 20, 25)
    gathering.count(3, 2)
    received = gathering.taken()
    (run,) = received.runs
    assert (run.source_seq, run.count, run.body) == (10, 3, b"xyz")
    assert (run.time_min_ns, run.time_max_ns) == (20, 40)
    assert (run.source, run.arrival_ns, run.synced) == ("pi", 5, False)
    assert (received.numbers, received.size, received.messages) == (3, 3, 2)


def test_another_stream_and_a_reject_begin_a_new_run_and_numbers_go_on() -> None:
    gathering = RunBuilder(10, ARRIVAL)
    gathering.add("a", 2, b"xy", 1, 1)
    gathering.add("b", 1, b"z", 1, 1)
    gathering.reject("bad_time", "why", b"raw")
    gathering.add("b", 1, b"w", 1, 1)
    received = gathering.taken()
    assert [(run.stream, run.source_seq) for run in received.runs] == [
        ("a", 10),
        ("b", 12),
        ("b", 14),
    ]
    assert [reject.number for reject in received.rejects] == [13]
    assert received.numbers == 5


def test_without_numbering_all_numbers_are_0() -> None:
    gathering = RunBuilder(0, ARRIVAL)
    gathering.add("a", 2, b"xy", 1, 1)
    gathering.reject("bad_time", "why", b"raw")
    gathering.add("a", 2, b"xy", 1, 1)
    received = gathering.taken()
    assert {run.source_seq for run in received.runs} == {0}
    assert [reject.number for reject in received.rejects] == [0]
    assert received.numbers == 5


def test_a_run_holds_no_more_than_its_limit_unless_it_is_one_record() -> None:
    gathering = RunBuilder(1, ARRIVAL)
    half = b"x" * (RUN_BYTES_MAX // 2)
    for body in (half, half, b"y", b"z" * (RUN_BYTES_MAX + 1), b"w"):
        gathering.add("a", 1, body, 1, 1)
    assert [run.count for run in gathering.taken().runs] == [2, 1, 1, 1]


def test_what_is_taken_up_to_a_mark_is_gone_and_numbers_go_on() -> None:
    gathering = RunBuilder(1, ARRIVAL)
    gathering.add("a", 1, b"x", 1, 1)
    gathering.count(1)
    mark = gathering.mark()
    gathering.add("a", 3, b"yyy", 1, 1)
    gathering.reject("bad_time", "why", b"raw")
    gathering.count(8)
    first, rest = gathering.taken(upto=mark), gathering.taken()
    assert [(run.source_seq, run.body) for run in first.runs] == [(1, b"x")]
    assert (first.numbers, first.size, first.messages, first.rejects) == (1, 1, 1, ())
    assert [(run.source_seq, run.body) for run in rest.runs] == [(2, b"yyy")]
    assert [reject.number for reject in rest.rejects] == [5]
    assert (rest.numbers, rest.size, rest.messages) == (4, 8, 1)
    assert gathering.is_empty


def test_each_with_its_stream_is_as_adding_them_one_by_one() -> None:
    streams = ["a", "b", "b", "b", "c", "a", "a", "b"]
    bodies = [bytes([at]) for at in range(8)]
    together, singly = RunBuilder(5, ARRIVAL), RunBuilder(5, ARRIVAL)
    for gathering in (together, singly):
        gathering.add("a", 2, b"xy", 1, 9)
    together.add_each(streams, bodies, list(range(8)))
    for at, stream in enumerate(streams):
        singly.add(stream, 1, bodies[at], at, at)
    assert together.taken() == singly.taken()
