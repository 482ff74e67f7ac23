from __future__ import annotations

from edge_agent.client.reports import Callbacks, Trouble, Unacked


def test_callbacks_that_were_not_given_do_nothing() -> None:
    callbacks = Callbacks()
    callbacks.on_ack(1)
    callbacks.on_close("why")
    callbacks.on_error(Trouble("lost", "why"))


def test_unacked_says_how_many_and_after_how_long() -> None:
    assert str(Unacked(3, 5.0)) == "closed after 5 s with 3 records not acked"


def test_unacked_names_the_cause() -> None:
    told = str(Unacked(3, 5.0, "127.0.0.1:1: Connection refused"))
    assert told == "closed after 5 s with 3 records not acked: 127.0.0.1:1: Connection refused"


def test_what_an_agent_says_reaches_a_log_as_one_line() -> None:
    trouble = Trouble("stop", "gone\n<0>all is lost\x1b[2J\u202e")
    assert trouble.message.isprintable() and len(trouble.message.splitlines()) == 1
