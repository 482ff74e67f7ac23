"""The agent's side of a session."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgpack
import pytest

from edge_agent.errors import ProtocolError
from edge_agent.session import ServerState, Window
from edge_agent.values.clock_note import ClockNote
from edge_agent.wire.forward import Segment, encode_segments
from edge_agent.wire.reading_types import Arrival, TooBigMessage, Undecodable, WireLimits
from edge_agent.wire.server_session import ServerSession
from edge_agent.wire.shapes import Learner

ARRIVAL = Arrival("a", "pi", 1_795_341_600 * 10**9, synced=True)


def open_session(next_number: int, window: Window | None = None) -> ServerSession:
    session = ServerSession("json", WireLimits(), window or Window(100, 1000))
    session.receive_hello('{"type": "hello", "source": "pi-7"}')
    session.welcome(next_number, "5f0c", "2026-11-22T10:00:00Z")
    return session


def has_room(session: ServerSession) -> bool:
    return session.has_room


def said(messages: list[str | bytes]) -> list[dict[str, Any]]:
    return [json.loads(message) for message in messages]


def test_welcome_tells_next_epoch_window_time_and_limits() -> None:
    session = ServerSession("msgpack", WireLimits(), Window(100, 1000))
    assert session.receive_hello(msgpack.packb({"type": "hello", "source": "pi"})).source == "pi"
    welcome = session.welcome(7, "5f0c", "")
    assert isinstance(welcome, bytes)
    assert msgpack.unpackb(welcome) == {
        "type": "welcome",
        "epoch": "5f0c",
        "next": 7,
        "window": {"records": 100, "bytes": 1000},
        "time": "",
        "limits": {"message_bytes": 1048576, "record_bytes": 65536, "batch_records": 10000},
    }


def test_a_bad_hello_leaves_the_session_new() -> None:
    session = ServerSession("json", WireLimits(), Window(1, 1))
    with pytest.raises(ProtocolError):
        session.receive_hello('{"t": 21.5}')
    assert session.state is ServerState.NEW
    assert session.hello is None


def test_records_are_counted_as_the_specification_shows() -> None:
    session = open_session(4211)
    one = '{"t": 21.5, "h": 40.2, "time": 1795341600.25}'
    two = '[{"t": 21.6}, {"t": 21.7, "stream": "greenhouse/2"}]'
    received = session.receive_data([one, two], ARRIVAL)
    assert [(run.source_seq, run.stream) for run in received.runs] == [
        (4211, "a"),
        (4213, "greenhouse/2"),
    ]
    assert (session.number, session.acked, session.records_in_flight) == (4214, 4211, 3)
    assert said(session.committed(4214)) == [{"type": "ack", "next": 4214}]
    assert (session.acked, session.bytes_in_flight) == (4214, 0)


def test_records_may_have_the_keys_of_control_messages() -> None:
    session = open_session(1)
    received = session.receive_data(
        ['{"type": "hello", "source": "x"}', '{"type": "stop"}'], ARRIVAL
    )
    assert received.numbers == 2
    assert session.state is ServerState.OPEN


def test_acks_are_cumulative_and_one_per_commit() -> None:
    session = open_session(1)
    session.receive_data(["1", "2", "3"], ARRIVAL)
    session.receive_data(["4", "5"], ARRIVAL)
    assert said(session.committed(4)) == [{"type": "ack", "next": 4}]
    assert session.bytes_in_flight == 2
    assert session.committed(4) == []
    assert session.committed(2) == []
    assert said(session.committed(6)) == [{"type": "ack", "next": 6}]


def test_more_than_was_received_is_never_acked() -> None:
    session = open_session(1)
    session.receive_data(["1"], ARRIVAL)
    assert said(session.committed(99)) == [{"type": "ack", "next": 2}]


def test_a_nack_waits_until_its_record_is_durable_and_comes_before_the_ack() -> None:
    session = open_session(1)
    session.receive_data(['[1, {"time": "noon"}, 2, null, 3]'], ARRIVAL)
    assert said(session.committed(2)) == [{"type": "ack", "next": 2}]
    first, second, ack = said(session.committed(6))
    assert (first["type"], first["at"], first["code"]) == ("nack", 2, "bad_time")
    assert (second["type"], second["at"], second["code"]) == ("nack", 4, "bad_record")
    assert ack == {"type": "ack", "next": 6}


def test_the_window_is_full_by_records_or_bytes_and_empty_always_has_room() -> None:
    session = open_session(1, Window(3, 1000))
    session.receive_data(["1", "2"], ARRIVAL)
    assert has_room(session)
    session.receive_data(["3"], ARRIVAL)
    assert not has_room(session)
    # Beyond the window is no error: the sender may not know yet that it shrank.
    assert session.receive_data(["4"], ARRIVAL).numbers == 1
    session.committed(5)
    assert has_room(session)
    narrow = open_session(1, Window(100, 0))
    assert has_room(narrow)
    narrow.receive_data(["1"], ARRIVAL)
    assert not has_room(narrow)


def test_a_new_window_is_told_with_the_next_ack_and_once() -> None:
    session = open_session(1)
    session.receive_data(["1", "2"], ARRIVAL)
    session.grant(Window(5, 6))
    told = {"type": "ack", "next": 2, "window": {"records": 5, "bytes": 6}}
    assert said(session.committed(2)) == [told]
    assert said(session.committed(3)) == [{"type": "ack", "next": 3}]
    session.grant(Window(5, 6))
    assert session.committed(3) == []
    session.grant(Window(7, 8))
    assert said(session.committed(3))[0]["window"] == {"records": 7, "bytes": 8}


def test_messages_without_records_are_never_in_flight() -> None:
    session = open_session(1)
    assert session.receive_data(["[]"] * 10, ARRIVAL).messages == 10
    assert (session.number, session.bytes_in_flight) == (1, 0)


def test_after_a_message_that_cannot_be_read_nothing_more_is_but_commits_are_acked() -> None:
    session = open_session(1)
    received = session.receive_data(["1", "2", "{", "3"], ARRIVAL)
    assert (received.numbers, received.messages) == (2, 2)
    assert isinstance(received.failure, Undecodable)
    assert session.state is ServerState.CLOSING
    later = session.receive_data(["4"], ARRIVAL)
    assert (later.numbers, later.runs, later.failure) == (0, (), received.failure)
    assert said(session.committed(3)) == [{"type": "ack", "next": 3}]
    assert session.number == 3


def test_what_the_transport_refuses_ends_the_session_the_same_way() -> None:
    session = open_session(1)
    first, second = TooBigMessage("x"), Undecodable("y")
    session.fail(first)
    session.fail(second)
    assert session.failure is first
    assert session.receive_data(["1"], ARRIVAL).numbers == 0


def test_after_the_second_failure_the_message_takes_one_number_and_is_nacked() -> None:
    session = open_session(8)
    session.receive_data(["1", "{"], ARRIVAL)
    reject = session.use_up_number(b"{", "a")
    assert (reject.number, reject.code, reject.body, reject.stream) == (9, "undecodable", b"{", "a")
    assert session.number == 10
    nack, ack = said(session.committed(10))
    assert (nack["at"], nack["code"]) == (9, "undecodable")
    assert ack == {"type": "ack", "next": 10}


def test_a_number_is_used_up_only_after_a_failure() -> None:
    session = open_session(8)
    with pytest.raises(ProtocolError, match="no message has failed"):
        session.use_up_number(b"", "a")
    session.stop("closing", 1.0, "x")
    with pytest.raises(ProtocolError):
        session.use_up_number(b"", "a")
    assert session.number == 8


@pytest.mark.parametrize("code, close", [("store_full", 1013), ("rate", 1013), ("closing", 1012)])
def test_stop_says_not_now_and_how_to_close(code: str, close: int) -> None:
    session = open_session(1)
    session.receive_data(["1"], ARRIVAL)
    goodbye = session.stop(code, 12.5, "m" * 5000)
    told = json.loads(goodbye.message)
    assert (told["type"], told["code"], told["retry_after"]) == ("stop", code, 12.5)
    assert len(told["message"]) == 500
    assert (goodbye.close_code, goodbye.reason) == (close, code)
    assert session.receive_data(["2"], ARRIVAL).numbers == 0
    assert said(session.committed(2)) == [{"type": "ack", "next": 2}]


def test_a_commit_after_the_end_says_nothing() -> None:
    session = open_session(1)
    session.receive_data(["1"], ARRIVAL)
    session.close()
    assert session.committed(2) == []


def test_segments_take_the_numbers_that_they_cover() -> None:
    session = open_session(1)
    messages = [
        encode_segments([Segment(1, 10, "filtered"), Segment(11, 12, "trimmed")]),
        encode_segments([Segment(13, 20, "loop")]),
    ]
    received = session.receive_segments(messages)
    assert [(s.first, s.last) for s in received.segments] == [(1, 10), (11, 12), (13, 20)]
    assert (received.numbers, received.messages, received.failure) == (20, 2, None)
    assert received.size == session.bytes_in_flight == sum(map(len, messages))
    assert said(session.committed(13)) == [{"type": "ack", "next": 13}]
    assert session.bytes_in_flight == len(messages[1])


@pytest.mark.parametrize("first", [12, 14])
def test_segments_that_do_not_follow_what_came_before_end_the_session(first: int) -> None:
    session = open_session(1)
    good = encode_segments([Segment(1, 12, "filtered")])
    received = session.receive_segments([good, encode_segments([Segment(first, 20, "loop")]), good])
    assert (received.numbers, received.messages) == (12, 1)
    assert received.failure is not None
    assert received.failure.close_code == 1002
    assert session.state is ServerState.CLOSING
    assert session.receive_segments([good]).numbers == 0


def test_segments_that_cannot_be_read_keep_what_came_before() -> None:
    session = open_session(1)
    received = session.receive_segments([encode_segments([Segment(1, 2, "loop")]), b"\xc1"])
    assert (received.numbers, received.messages) == (2, 1)
    assert isinstance(received.failure, Undecodable)


def test_a_session_learns_what_its_source_sends_and_numbers_it_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hits: list[Learner] = []

    def hit(learner: Learner) -> None:
        hits.append(learner)

    monkeypatch.setattr(Learner, "hit", hit)
    record: str | bytes = b"\x81\xaalearnt-key\x01"
    session, fresh = open_session(1), open_session(6001)
    for _ in range(3):
        session.receive_data([record] * 2000, ARRIVAL)
    assert session.number == 6001
    assert hits
    batch = [record] * 10 + [b"\x91\xa1x", b"\x81\x01\x01", record]
    assert session.receive_data(batch, ARRIVAL) == fresh.receive_data(batch, ARRIVAL)


def test_an_idle_session_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [ServerSession("json", WireLimits(), Window(1, 1)) for _ in range(200)]
        taken = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert taken < 800


def test_a_message_of_clock_notes_takes_no_number_and_is_not_in_flight() -> None:
    session = open_session(7)
    note = ClockNote("0a1b2c3d4e5f", b"b" * 16, 5, 6)
    alone = encode_segments((), [note])
    received = session.receive_segments(
        [alone, encode_segments([Segment(7, 9, "filtered")], [note]), alone]
    )
    assert (received.numbers, received.messages, received.failure) == (3, 3, None)
    assert received.notes == (note, note, note)
    assert (session.number, session.records_in_flight) == (10, 3)


def test_what_is_not_taken_after_all_is_neither_acked_nor_in_flight() -> None:
    session = ServerSession("msgpack", WireLimits(), Window(100, 10_000))
    session.receive_hello('{"type": "hello", "source": "a/b/c/d"}')
    session.welcome(1, "epoch0", "")
    first, second = (encode_segments([Segment(begin, begin + 9, "filtered")]) for begin in (1, 11))
    session.receive_segments([first, second])
    session.take_back(15)
    assert (session.number, session.bytes_in_flight) == (15, len(first))
    session.refuse(12, "forbidden_stream", "no")
    goodbye = session.stop("forbidden_origin", 5.0, "whose it is")
    assert goodbye.close_code == 1008
    said = [msgpack.unpackb(one) for one in session.committed(15) if isinstance(one, bytes)]
    assert [(one["type"], one.get("at"), one.get("next")) for one in said] == [
        ("nack", 12, None),
        ("ack", None, 15),
    ]
    assert session.bytes_in_flight == 0
