"""Plain mode."""

from __future__ import annotations

import json

from edge_agent.errors import ProtocolError
from edge_agent.wire.plain import PlainSession, encode_plain_ack, encode_plain_error
from edge_agent.wire.reading_types import TooBigMessage, Undecodable


def test_acks_count_messages_good_and_bad_and_are_cumulative() -> None:
    session = PlainSession(tells=True, undecodable_max=16)
    assert session.receive(3) == 3
    assert session.fail(Undecodable("x")) is None
    assert session.receive(1) == 5
    assert json.loads(session.committed(4) or "") == {"ack": 4}
    assert session.committed(4) is None
    assert session.committed(3) is None
    assert json.loads(session.committed(5) or "") == {"ack": 5}


def test_nothing_is_told_unless_asked_for() -> None:
    session = PlainSession(tells=False, undecodable_max=16)
    session.receive(3)
    assert session.committed(3) is None
    assert session.error(ProtocolError("bad_time", "x"), 1) is None
    assert session.dealt == 3


def test_errors_are_told_with_the_message_that_they_are_about() -> None:
    session = PlainSession(tells=True, undecodable_max=16)
    told = json.loads(session.error(ProtocolError("bad_time", "why"), 2) or "")
    assert told == {"error": "bad_time", "at": 2, "message": "why"}


def test_the_connection_stays_until_so_many_undecodable_messages_in_a_row() -> None:
    session = PlainSession(tells=False, undecodable_max=3)
    assert session.fail(Undecodable("x")) is None
    assert session.fail(Undecodable("x")) is None
    session.receive(1)
    assert session.fail(Undecodable("x")) is None
    assert session.fail(Undecodable("x")) is None
    session.receive(0)
    ending = session.fail(Undecodable("the last"))
    assert ending is not None
    assert (ending.code, ending.close_code) == ("undecodable", 1007)
    assert "3 messages in a row" in ending.message
    assert "the last" in ending.message


def test_a_message_over_the_limit_ends_the_connection_at_once() -> None:
    session = PlainSession(tells=False, undecodable_max=16)
    error = TooBigMessage("x")
    assert session.fail(error) is error
    assert session.received == 1


def test_plain_acks_and_errors_are_small_json() -> None:
    assert json.loads(encode_plain_ack(17)) == {"ack": 17}
    told = json.loads(encode_plain_error(ProtocolError("bad_time", "time: …"), 3))
    assert told == {"error": "bad_time", "at": 3, "message": "time: …"}
