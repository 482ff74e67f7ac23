"""What the agent sends to the process that answers comes there as it was."""

from __future__ import annotations

import msgspec

from edge_agent.history import Ask, Rows, Way, make_segment, parse_question


def test_a_question_with_what_is_not_in_the_file_comes_there_as_it_was() -> None:
    rows = Rows()
    rows.times, rows.seqs, rows.source_seqs = [7, 9], [1, 2], [0, 0]
    rows.way_of = [rows.way(Way("main", "pi", "sensor", True, False))] * 2
    rows.fields = [{"t": 1.5, "n": {"a": None}}, {"t": 2}]
    segment = make_segment(rows)
    question = parse_question({"fields": "t,n.a"}, 10**18, 100)
    ask = Ask(1, question, "csv", [("a/1", 3)], {"a/1": [(0, segment)]}, 5, 2.5, 7)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ask), type=Ask) == ask
