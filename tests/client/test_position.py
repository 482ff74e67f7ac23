"""Welcomes in all their kinds; numbers on the left are own, on the right the wire's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.client.position import ProducerPosition
from edge_agent.session import History, Resume, ToldLimits, Welcome, Window

NOT_TOLD = ToldLimits()


def resume(
    next_number: int,
    *,
    drop: int = 0,
    renumber: bool = False,
    epoch: str = "e1",
    changed: bool = False,
    limits: ToldLimits = NOT_TOLD,
) -> Resume:
    welcome = Welcome(epoch, next_number, Window(1, 1), "", limits)
    return Resume(next_number, drop, renumber, epoch, changed, welcome)


def test_a_forked_history_is_laid_behind_what_the_agent_has_and_told() -> None:
    position = ProducerPosition(epoch="e1", shift=0, sent_below=80, done_below=11)
    forked = replace(resume(41, renumber=True), forked=True)
    assert "a copy" in position.welcome(forked, 11)
    assert (position.shift, position.done_below, position.sent_below) == (30, 11, 11)


def test_the_history_is_told_in_the_wires_numbers_but_for_numbered_producers() -> None:
    position = ProducerPosition(epoch="e1", shift=100)
    told = position.history(11, "now", [("before", 9)])
    assert told == History("now", 111, (("before", 109),))
    assert ProducerPosition(numbered=True).history(11, "now", []) is None


def test_at_first_contact_ours_is_laid_behind_what_the_agent_has() -> None:
    position = ProducerPosition()
    assert position.greeting(1) == (None, None, 0)
    assert position.welcome(resume(4211, renumber=True), 1) == ""
    assert (position.shift, position.done_below) == (4210, 1)


def test_numbered_takes_the_agents_word_for_what_is_done() -> None:
    position = ProducerPosition(numbered=True)
    assert position.welcome(resume(7, renumber=True), 1) == ""
    assert (position.shift, position.done_below) == (0, 7)


def test_in_a_known_epoch_what_is_before_next_is_done() -> None:
    position = ProducerPosition(epoch="e1", shift=100, sent_below=20)
    assert position.greeting(11) == ("e1", 111, 9)
    assert position.welcome(resume(115, drop=4), 11) == ""
    assert (position.shift, position.done_below, position.sent_below) == (100, 15, 20)


def test_in_another_epoch_everything_still_held_goes_again_under_its_numbers() -> None:
    position = ProducerPosition(epoch="e0", shift=100, sent_below=20, done_below=11)
    assert "another store" in position.welcome(resume(111, changed=True), 11)
    assert (position.shift, position.done_below, position.sent_below) == (100, 11, 11)


def test_numbers_beyond_what_was_sent_are_somebody_elses() -> None:
    position = ProducerPosition(epoch="e1", shift=0, sent_below=20)
    assert "another producer" in position.welcome(resume(50, renumber=True), 11)
    assert (position.shift, position.done_below) == (39, 11)


def test_only_what_can_have_been_sent_is_said_to_be_held() -> None:
    position = ProducerPosition(epoch="e1")
    position.sending(1, 3)
    assert position.greeting(2) == ("e1", 2, 2)
    assert position.greeting(9) == ("e1", 9, 0)


def test_acks_and_nacks_are_translated_and_a_nack_is_told_once() -> None:
    position = ProducerPosition(epoch="e1", shift=100, sent_below=20)
    assert position.nack(105) == 5
    assert position.nack(105) is None
    position.ack(106)
    assert position.done_below == 6
    assert position.nack(107) == 7


@pytest.mark.parametrize("code, singly", [(1007, 20), (1009, 20), (1013, 1), (1006, 1)])
def test_after_an_unusable_message_what_was_sent_goes_singly(code: int, singly: int) -> None:
    position = ProducerPosition(sent_below=20)
    position.closed(code)
    assert position.singly_below == singly


def test_after_a_takeover_the_numbers_behind_the_last_ack_are_somebody_elses() -> None:
    position = ProducerPosition(epoch="e1")
    position.sending(1, 10)
    position.ack(6)
    position.closed(4409)
    assert position.greeting(6) == ("e1", 6, 0)


def test_limits_that_are_not_told_are_the_usual_ones() -> None:
    position = ProducerPosition()
    position.welcome(resume(1, renumber=True, limits=ToldLimits(record_bytes=10)), 1)
    assert position.limits == ToldLimits(1024 * 1024, 10, 10_000)
