"""Sentences about what is to come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.ops.forecast.capacity import Drain, Loss
from edge_agent.ops.forecast.sentences import (
    about_budget,
    about_card,
    about_log,
    about_upstream,
    about_wear,
)
from edge_agent.wear import Budget
from tests.ops.pictures import STRETCH, WEAR


@pytest.mark.parametrize(
    "loss,when_full,now,expected",
    [
        (
            Loss(61 * 3600, "share"), "discard-oldest", False,
            "at today's rate 61 h until the oldest undelivered record is lost",
        ),
        (
            Loss(14 * 60, "share"), "refuse", False,
            "at today's rate 14 min until senders are told to wait",
        ),
        (
            Loss(9 * 86_400, "share"), "thin-oldest", False,
            "at today's rate 9 days until the oldest undelivered records are thinned",
        ),
        (
            Loss(59, "share"), "thin-oldest", False,
            "the oldest undelivered records are being thinned",
        ),
        # There is nothing left to thin.
        (Loss(0, "share"), "thin-oldest", True, "the oldest undelivered records are being lost"),
        (
            Loss(80, "age"), "refuse", False,
            "at today's rate 80 s until the oldest undelivered record is too old to be kept",
        ),
        (None, "refuse", True, "senders are told to wait"),
        (Loss(5, "share"), "discard-oldest", True, "the oldest undelivered records are being lost"),
        (None, "discard-oldest", False, None),
    ],
)  # fmt: skip
def test_how_long_the_room_lasts(
    loss: Loss | None, when_full: str, now: bool, expected: str | None
) -> None:
    assert about_log(loss, when_full, now=now) == expected


@pytest.mark.parametrize(
    "drain,expected",
    [
        (Drain(14 * 60.0, 30, 10), "the backlog drains in 14 min at this link"),
        (
            Drain(None, 120, 200),
            "the backlog does not drain at this link: 120 records/s go out, 200 come in",
        ),
        (None, None),
    ],
)
def test_how_soon_a_backlog_drains(drain: Drain | None, expected: str | None) -> None:
    assert about_upstream(drain) == expected


def test_how_long_the_card_lasts() -> None:
    assert about_card(WEAR) == (
        "the 30 TB that the card is made for last about 14 years at today's rate"
    )
    assert about_card(replace(WEAR, life_s=0.0)) == (
        "the 30 TB that the card is made for have been written"
    )
    assert about_card(replace(WEAR, life_s=None)) is None
    assert about_card(replace(WEAR, endurance_bytes=None)) is None


def test_what_the_budget_takes() -> None:
    assert about_budget(WEAR) == "commits are spread to 12 s to keep 2 GB a day"
    assert about_budget(replace(WEAR, budget=None)) is None
    unspread = Budget(2_000_000_000, 1.0, 1.0, at_bound=False, kept=True)
    assert about_budget(replace(WEAR, budget=unspread)) is None


def test_a_budget_that_is_not_kept_says_whether_an_interval_could() -> None:
    broken = Budget(1_000_000_000, 60.0, 60.0, at_bound=True, kept=False)
    of_commits = replace(WEAR, budget=broken)
    told = about_budget(of_commits)
    assert told == (
        "1.92 GB a day are written, more than the budget of 1 GB a day, though commits are spread"
        " to 60 s"
    )
    # Of 1.92 GB nearly all are the blocks of the records.
    of_data = replace(STRETCH, amplification=0.4, block_amplification=0.37)
    told = about_budget(replace(of_commits, hour=of_data))
    assert told is not None
    assert told.endswith("; the records alone are 1.78 GB, so no interval can keep it")


def test_everything_about_wear_is_at_most_two_sentences() -> None:
    assert about_wear(WEAR) == (about_card(WEAR), about_budget(WEAR))
    assert about_wear(replace(WEAR, life_s=None, budget=None)) == ()
