"""The card on the page."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.ops.page.page import render_page
from tests.ops.page.test_page import NOW_NS, read
from tests.ops.pictures import STATUS, STRETCH, WEAR


def words(**changes: object) -> str:
    status = replace(STATUS, wear=replace(WEAR, **changes))  # type: ignore[arg-type]  # fields by name
    return " ".join(read(render_page(status, [], NOW_NS)).words)


def test_bytes_a_day_amplification_life_and_budget_are_on_it() -> None:
    for expected in (
        "1.92 GB", "2.4 GB", "3 000", "26.7 kB", "3.5", "0.37",
        "The 30 TB that the card is made for last about 14 years at today's rate.",
        "Commits are spread to 12 s to keep 2 GB a day.",
        "since 2026-01-01: 2 TB", "mmcblk0", "without the journal",
    ):  # fmt: skip
        assert expected in words(), expected


def test_who_has_not_stated_an_endurance_is_told_that_one_can() -> None:
    assert "Set wear.endurance" in words(endurance_bytes=None, life_s=None)
    assert "Set wear.endurance" not in words()


def test_a_stretch_that_is_not_whole_yet_says_so() -> None:
    young = replace(STRETCH, seconds=720.0)
    assert "(12 min so far)" in words(hour=young, day=young)
    assert "so far" not in words(day=replace(STRETCH, seconds=86_400.0))


def test_what_nobody_counts_is_a_dash() -> None:
    nothing = replace(
        STRETCH, written_bytes=None, written_per_day=None, card_bytes=None, card_per_day=None,
        bytes_per_commit=None, amplification=None, block_amplification=None,
    )  # fmt: skip
    told = words(
        counted_by=None, card_counted_by=None, hour=nothing, day=nothing, since_start=nothing,
        total_bytes=None, total_card_bytes=None,
    )  # fmt: skip
    assert told.count("–") >= 18
    assert "Nobody counts here what is written." in told
