"""The sender's side of a session; and both sides against one another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.session.client_session import ClientSession, Resume
from edge_agent.session.control import Ack, Mode, Nack, Stop, ToldLimits, Unknown, Window
from edge_agent.session.states import ClientState, resume_point
from edge_agent.wire.reading_types import Arrival, WireLimits
from edge_agent.wire.server_session import ServerSession

ARRIVAL = Arrival("a", "pi", 1_795_341_600 * 10**9, synced=True)


def welcome(next_number: int, epoch: str = "e1", **more: Any) -> str:
    window = {"records": 10, "bytes": 100}
    return json.dumps(
        {"type": "welcome", "epoch": epoch, "next": next_number, "window": window, **more}
    )


def resumed(next_number: int, epoch: str, hello: dict[str, Any]) -> Resume:
    session = ClientSession("json")
    session.hello("pi", **hello)
    resume = session.receive(welcome(next_number, epoch))
    assert isinstance(resume, Resume)
    assert session.next == session.acked == next_number
    return resume


def open_session(next_number: int = 1) -> ClientSession:
    session = ClientSession("json")
    session.hello("pi")
    session.receive(welcome(next_number))
    return session


def test_hello_says_who_and_from_where() -> None:
    told = json.loads(ClientSession("json").hello("pi", "e1", 7, held=3))
    assert told == {"type": "hello", "source": "pi", "epoch": "e1", "first": 7}


@pytest.mark.parametrize(
    "next_number, epoch, hello, drop, renumber, epoch_changed",
    [
        # Nothing numbered yet: everything takes the agent's numbers.
        (1, "e1", {}, 0, True, False),
        (4211, "e1", {"held": 5}, 0, True, False),
        # The same store: what is durable is dropped, the rest is sent again.
        (7, "e1", {"epoch": "e1", "first": 5, "held": 4}, 2, False, False),
        (5, "e1", {"epoch": "e1", "first": 5, "held": 4}, 0, False, False),
        (9, "e1", {"epoch": "e1", "first": 5, "held": 4}, 4, False, False),
        (5, "e1", {"epoch": "e1", "first": 5, "held": 0}, 0, False, False),
        # Another store took up our numbering at our first: everything again.
        (5, "e2", {"epoch": "e1", "first": 5, "held": 4}, 0, False, True),
        (1, "e1", {"first": 1, "held": 4}, 0, False, False),
        # Another store whose number means nothing to us: rather twice than lost.
        (7, "e2", {"epoch": "e1", "first": 5, "held": 4}, 0, True, True),
        # The store knows more of us than we do (an old copy of the buffer).
        (99, "e1", {"epoch": "e1", "first": 5, "held": 4}, 0, True, False),
        # Or less, which no agent of ours says.
        (3, "e1", {"epoch": "e1", "first": 5, "held": 4}, 0, True, False),
    ],
)
def test_what_a_welcome_means_for_what_is_held(
    next_number: int,
    epoch: str,
    hello: dict[str, Any],
    drop: int,
    renumber: bool,
    epoch_changed: bool,
) -> None:
    resume = resumed(next_number, epoch, hello)
    assert (resume.next, resume.drop, resume.renumber) == (next_number, drop, renumber)
    assert (resume.epoch, resume.epoch_changed) == (epoch, epoch_changed)


def test_the_welcome_tells_window_and_limits() -> None:
    session = ClientSession("json")
    session.hello("pi")
    session.receive(welcome(1, limits={"message_bytes": 7, "later": 1}))
    assert session.window == Window(10, 100)
    assert session.limits == ToldLimits(7, 0, 0)


def test_messages_are_sent_within_the_window_and_one_always() -> None:
    session = open_session()
    assert session.may_send(1000, 10_000)
    assert session.sent(4, 40) == 1
    assert session.may_send(6, 60)
    assert not session.may_send(7, 10)
    assert not session.may_send(1, 61)
    assert session.sent(6, 60) == 5
    assert (session.records_in_flight, session.bytes_in_flight) == (10, 100)
    session.receive('{"type": "ack", "next": 5}')
    assert (session.records_in_flight, session.bytes_in_flight) == (6, 60)
    # In the middle of a message: its bytes count until all of it is acked.
    session.receive('{"type": "ack", "next": 8}')
    assert (session.records_in_flight, session.bytes_in_flight) == (3, 60)


def test_a_window_in_an_ack_replaces_the_one_before() -> None:
    session = open_session()
    ack = session.receive('{"type": "ack", "next": 1, "window": {"records": 1, "bytes": 2}}')
    assert ack == Ack(1, Window(1, 2))
    assert session.window == Window(1, 2)


def test_before_welcome_and_after_stop_nothing_may_be_sent() -> None:
    session = ClientSession("json")
    assert not session.may_send(1, 1)
    session.hello("pi")
    assert not session.may_send(1, 1)
    session.receive(welcome(1))
    session.sent(1, 1)
    assert session.receive('{"type": "stop", "code": "rate"}') == Stop("rate")
    assert not session.may_send(1, 1)
    assert session.receive('{"type": "ack", "next": 2}') == Ack(2)
    session.close()
    assert session.state is ClientState.CLOSED


@pytest.mark.parametrize("next_number", [4, 12])
def test_an_ack_of_what_is_not_in_flight_is_an_error_and_changes_nothing(next_number: int) -> None:
    session = open_session(5)
    session.sent(5, 50)
    with pytest.raises(ProtocolError) as caught:
        session.receive(json.dumps({"type": "ack", "next": next_number}))
    assert caught.value.code == "bad_control"
    assert (session.acked, session.next, session.state) == (5, 10, ClientState.OPEN)


@pytest.mark.parametrize("at", [4, 10])
def test_a_nack_of_what_is_not_in_flight_is_an_error(at: int) -> None:
    session = open_session(5)
    session.sent(5, 50)
    with pytest.raises(ProtocolError):
        session.receive(json.dumps({"type": "nack", "at": at, "code": "bad_time"}))


def test_a_nack_is_handed_on_and_its_number_stays_in_flight_until_the_ack() -> None:
    session = open_session(5)
    session.sent(5, 50)
    assert session.receive('{"type": "nack", "at": 6, "code": "bad_time"}') == Nack(6, "bad_time")
    assert session.records_in_flight == 5


def test_what_a_later_version_says_is_handed_on_and_changes_nothing() -> None:
    session = open_session(5)
    assert session.receive('{"type": "gossip"}') == Unknown("gossip")
    assert session.state is ClientState.OPEN


@settings(max_examples=60)
@given(
    st.sampled_from(["json", "msgpack"]),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100), st.booleans()), max_size=12),
)
def test_over_any_number_of_connections_each_record_arrives_once(
    mode: Mode, steps: list[tuple[int, int, bool]]
) -> None:
    """Both sides, a sender with a buffer, a store that remembers ``next``; connections break at
    any moment: after sending, before the commit, after the commit, before its ack."""
    stored: list[int] = []
    stored_next = 0
    first, buffer = 1, list(range(1, 31))
    epoch: str | None = None
    for count, commit, is_ack_lost in steps:
        client = ClientSession(mode)
        server = ServerSession(mode, WireLimits(), Window(100, 10_000))
        hello = server.receive_hello(client.hello("pi", epoch, first, held=len(buffer)))
        point = resume_point(hello, "e1", stored_next)
        stored_next = point.next
        resume = client.receive(server.welcome(point.next, "e1", ""))
        assert isinstance(resume, Resume)
        assert not resume.renumber
        epoch = resume.epoch
        del buffer[: resume.drop]
        first += resume.drop
        message = json.dumps([{"n": n} for n in buffer[:count]])
        client.sent(len(buffer[:count]), len(message))
        received = server.receive_data([message], ARRIVAL)
        assert received.numbers == len(buffer[:count])
        done = min(commit, received.numbers)
        stored += buffer[:done]
        stored_next += done
        for told in server.committed(stored_next):
            if not is_ack_lost:
                ack = client.receive(told)
                assert isinstance(ack, Ack)
                del buffer[: ack.next - first]
                first = ack.next
    assert stored == list(range(1, len(stored) + 1))
