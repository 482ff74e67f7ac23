"""The tables, walked cell by cell, and where numbering goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.session.client_session import ClientSession
from edge_agent.session.control import (
    Ack,
    Hello,
    History,
    Nack,
    Stop,
    Welcome,
    Window,
    encode_control,
)
from edge_agent.session.states import (
    CLIENT,
    SERVER,
    ClientInput,
    ClientState,
    FailureMemory,
    ResumePoint,
    ServerInput,
    ServerState,
    has_forked,
    resume_point,
)
from edge_agent.wire.reading_types import Arrival, Undecodable, WireLimits
from edge_agent.wire.server_session import ServerSession

ARRIVAL = Arrival("a", "pi", 1_795_341_600 * 10**9, synced=True)
HELLO = encode_control(Hello("pi"), "json")
WELCOME = encode_control(Welcome("e", 1, Window(10, 1000)), "json")

SERVER_DO: dict[ServerInput, Callable[[ServerSession], Any]] = {
    ServerInput.HELLO: lambda s: s.receive_hello(HELLO),
    ServerInput.WELCOME: lambda s: s.welcome(1, "e", ""),
    ServerInput.DATA: lambda s: s.receive_data(["1"], ARRIVAL),
    ServerInput.COMMITTED: lambda s: s.committed(2),
    ServerInput.FAILURE: lambda s: s.fail(Undecodable("x")),
    ServerInput.STOP: lambda s: s.stop("rate", 1.0, "x"),
    ServerInput.CLOSE: lambda s: s.close(),
}
SERVER_PATHS = {
    ServerState.NEW: [],
    ServerState.GREETED: [ServerInput.HELLO],
    ServerState.OPEN: [ServerInput.HELLO, ServerInput.WELCOME],
    ServerState.CLOSING: [ServerInput.HELLO, ServerInput.WELCOME, ServerInput.STOP],
    ServerState.CLOSED: [ServerInput.HELLO, ServerInput.CLOSE],
}
CLIENT_DO: dict[ClientInput, Callable[[ClientSession], Any]] = {
    ClientInput.HELLO: lambda s: s.hello("pi"),
    ClientInput.WELCOME: lambda s: s.receive(WELCOME),
    ClientInput.DATA: lambda s: s.sent(1, 5),
    ClientInput.ACK: lambda s: s.receive(encode_control(Ack(max(s.next, 1)), "json")),
    ClientInput.NACK: lambda s: s.receive(encode_control(Nack(1, "bad_time"), "json")),
    ClientInput.STOP: lambda s: s.receive(encode_control(Stop("rate"), "json")),
    ClientInput.CLOSE: lambda s: s.close(),
}
CLIENT_PATHS = {
    ClientState.NEW: [],
    ClientState.GREETING: [ClientInput.HELLO],
    ClientState.OPEN: [ClientInput.HELLO, ClientInput.WELCOME, ClientInput.DATA],
    ClientState.STOPPED: [
        ClientInput.HELLO, ClientInput.WELCOME, ClientInput.DATA, ClientInput.STOP,
    ],
    ClientState.CLOSED: [ClientInput.CLOSE],
}  # fmt: skip


def facts(session: ServerSession | ClientSession) -> dict[str, object]:
    return {name: repr(value) for name, value in vars(session).items()}


@pytest.mark.parametrize("happened", ServerInput)
@pytest.mark.parametrize("state", ServerState)
def test_every_input_in_every_state_of_the_agents_side(
    state: ServerState, happened: ServerInput
) -> None:
    session = ServerSession("json", WireLimits(), Window(10, 1000))
    for step in SERVER_PATHS[state]:
        SERVER_DO[step](session)
    assert session.state is state
    before = facts(session)
    after = SERVER[state].get(happened)
    if after is None:
        with pytest.raises(ProtocolError) as caught:
            SERVER_DO[happened](session)
        assert (caught.value.code, caught.value.close_code) == ("out_of_order", 1002)
        assert facts(session) == before
    else:
        SERVER_DO[happened](session)
        assert session.state is after


@pytest.mark.parametrize("happened", ClientInput)
@pytest.mark.parametrize("state", ClientState)
def test_every_input_in_every_state_of_the_senders_side(
    state: ClientState, happened: ClientInput
) -> None:
    session = ClientSession("json")
    for step in CLIENT_PATHS[state]:
        CLIENT_DO[step](session)
    assert session.state is state
    before = facts(session)
    after = CLIENT[state].get(happened)
    if after is None:
        with pytest.raises(ProtocolError) as caught:
            CLIENT_DO[happened](session)
        assert (caught.value.code, caught.value.close_code) == ("out_of_order", 1002)
        assert facts(session) == before
    else:
        CLIENT_DO[happened](session)
        assert session.state is after


def test_the_tables_name_every_state_and_a_close_is_in_order_everywhere() -> None:
    assert set(SERVER) == set(ServerState)
    assert set(CLIENT) == set(ClientState)
    assert all(SERVER[state][ServerInput.CLOSE] is ServerState.CLOSED for state in SERVER)
    assert all(CLIENT[state][ClientInput.CLOSE] is ClientState.CLOSED for state in CLIENT)


@pytest.mark.parametrize(
    "hello, stored_next, expected",
    [
        # It remembers nothing: our numbering.
        (Hello("pi"), 0, ResumePoint(1, False, 0)),
        (Hello("pi"), 4211, ResumePoint(4211, False, 0)),
        (Hello("pi", epoch="known"), 4211, ResumePoint(4211, False, 0)),
        # It knows this store: on from what is durable.
        (Hello("pi", "known", 4000), 4211, ResumePoint(4211, False, 0)),
        (Hello("pi", "known", 4211), 4211, ResumePoint(4211, False, 0)),
        (Hello("pi", "known", 1), 0, ResumePoint(1, False, 0)),
        # It lost what we never got: a gap, counted.
        (Hello("pi", "known", 4300), 4211, ResumePoint(4300, True, 89)),
        (Hello("pi", "known", 8), 0, ResumePoint(8, True, 7)),
        # It knows another store, or none: its numbers are not ours.
        (Hello("pi", "other", 4000), 4211, ResumePoint(4000, True, 0)),
        (Hello("pi", "other", 4000), 0, ResumePoint(4000, True, 0)),
        (Hello("pi", None, 1), 4211, ResumePoint(1, True, 0)),
    ],
)
def test_where_a_source_goes_on(hello: Hello, stored_next: int, expected: ResumePoint) -> None:
    assert resume_point(hello, "known", stored_next) == expected


@pytest.mark.parametrize(
    "opening, stored_next, forked",
    [
        # The opening that speaks, one before it up to its end, and what nobody has noted.
        ("c", 999, False),
        ("b", 131, False),
        ("a", 101, False),
        ("", 999, False),
        # Whatever it is called: no further than was acknowledged to the sender.
        ("x", 90, False),
        # The original went on in the opening that was copied; or somebody else opened the copy.
        ("b", 132, True),
        ("a", 131, True),
        ("x", 91, True),
    ],
)
def test_a_history_is_shared_or_has_forked(opening: str, stored_next: int, forked: bool) -> None:
    history = History("c", 90, (("a", 101), ("b", 131)))
    point = resume_point(Hello("pi", "known", 80, history), "known", stored_next, opening)
    assert point == ResumePoint(stored_next, False, 0, forked)


@pytest.mark.parametrize(
    "first, copied_next, expected",
    [
        # What was acknowledged to the copy is here, whatever else is.
        (80, 91, 90),
        (80, 500, 90),
        # It is not: set back, or forgotten; then from the oldest that is held.
        (80, 85, 85),
        (80, 0, 80),
        (1, 0, 1),
        (95, 500, 95),
    ],
)
def test_a_copy_begins_behind_what_was_acknowledged_to_it_and_is_here(
    first: int, copied_next: int, expected: int
) -> None:
    hello = Hello("pi", "known", first, History("c", 90, copied="the original"))
    point = resume_point(hello, "known", 0, "", copied_next)
    assert point == ResumePoint(expected, True, 0)
    # From then on it is a source like any other.
    assert resume_point(hello, "known", 97, "c", copied_next).next == 97


def test_only_who_goes_on_can_have_forked() -> None:
    history = History("c", 1)
    for hello in (
        Hello("pi", "other", 5, history),
        Hello("pi", None, 5, history),
        Hello("pi", "known", None, history),
        Hello("pi", "known", 50, history),
        Hello("pi", "known", 5),
    ):
        assert not resume_point(hello, "known", 20, "x").forked


def test_failures_are_counted_while_they_are_at_the_same_number() -> None:
    memory = FailureMemory()
    assert [memory.note("pi", 5), memory.note("other", 5), memory.note("pi", 5)] == [1, 1, 2]
    assert memory.note("pi", 6) == 1
    memory.forget("pi")
    memory.forget("never seen")
    assert memory.note("pi", 6) == 1


def test_the_memory_of_failures_is_bounded_and_forgets_the_oldest() -> None:
    memory = FailureMemory(capacity=2)
    for source in ("a", "b", "a", "c"):
        memory.note(source, 1)
    assert memory.note("a", 1) == 3
    assert memory.note("b", 1) == 1


def test_a_store_that_was_set_back_and_filled_by_a_copy_is_of_another_history() -> None:
    # The hub was set back to 51, a copy of this sender filled it up to 91; 101 was ours.
    history = History(opening="a2", done=101, before=(("a", 101),))
    assert has_forked(history, 91, "b")
    assert not has_forked(history, 91, "a")
    assert not has_forked(history, 101, "b")
