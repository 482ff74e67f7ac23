"""The verdict: which word, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.errors import Obstacle
from edge_agent.ops.health import Facts, FilesFact, MistakeFact, judge
from edge_agent.ops.status import AlarmStatus, LogStatus, UpstreamStatus
from edge_agent.security.certificate_life import CertificateLife
from edge_agent.values.record import DAY_S
from tests.ops.pictures import LOG, UPSTREAM, WELL, unwell


def log_of(
    name: str, fill: float, when_full: str, discarded: int = 0, damaged: int = 0, **others: Any
) -> LogStatus:
    return replace(
        LOG, name=name, fill=fill, when_full=when_full, discarded=discarded, damaged=damaged,
        **others,
    )  # fmt: skip


def hub(error: str | None, records: int, **others: Any) -> UpstreamStatus:
    return replace(UPSTREAM, connected=False, error=error, backlog_records=records, **others)


def codes(facts: Facts) -> tuple[str, list[str], list[str]]:
    verdict = judge(facts)
    return (
        verdict.status,
        [reason.code for reason in verdict.reasons],
        [warning.code for warning in verdict.warnings],
    )


def test_an_agent_that_is_well_says_ok_without_a_reason() -> None:
    assert codes(WELL) == ("ok", [], [])


def test_a_disk_that_refuses_is_a_failure() -> None:
    facts = unwell(problem="read-only file system")
    assert codes(facts) == ("failed", ["store_failing"], [])
    assert judge(facts).reasons[0].message == (
        "The disk refuses: read-only file system. Nothing is taken or acked until it recovers;"
        " what is stored can still be read."
    )
    blind = unwell(problem="EIO", readable=False)
    assert "cannot even be read" in judge(blind).reasons[0].message


@pytest.mark.parametrize(
    "waits_s,expected",
    [
        (9.9, ("ok", [], [])),
        (10.0, ("degraded", ["commit_slow"], [])),
        (59.9, ("degraded", ["commit_slow"], [])),
        (60.0, ("failed", ["commit_stalled"], [])),
    ],
)
def test_a_commit_that_is_overdue_is_slow_first_and_stalled_later(
    waits_s: float, expected: object
) -> None:
    assert codes(unwell(commit_waits_s=waits_s)) == expected


def test_an_upstream_that_is_away_degrades_and_does_not_fail() -> None:
    away = hub("connection refused", 4711)
    facts = unwell(upstreams=(away,))
    assert codes(facts) == ("degraded", ["upstream_offline"], [])
    assert "4 711 records" in judge(facts).reasons[0].message


@pytest.mark.parametrize(
    "obstacle, words",
    [
        ("here", "is sent nothing"),
        ("between", "cannot be reached"),
        ("there", "answers, but takes nothing"),
        (None, "gets nothing"),
    ],
)
def test_what_is_wrong_with_an_upstream_is_said_by_where_it_lies(
    obstacle: Obstacle | None, words: str
) -> None:
    away = hub("why", 1, obstacle=obstacle)
    assert f"Upstream hub {words}: why. 1" in judge(unwell(upstreams=(away,))).reasons[0].message


def test_an_upstream_that_was_not_tried_yet_is_no_reason() -> None:
    assert codes(unwell(upstreams=(hub(None, 0),)))[0] == "ok"


def test_an_upstream_that_refuses_our_token_is_misconfigured() -> None:
    refused = hub("401 Unauthorized", 5, misconfigured=True)
    assert codes(unwell(upstreams=(refused,))) == ("degraded", ["upstream_misconfigured"], [])


def test_a_full_log_degrades_only_where_it_refuses() -> None:
    full = log_of("alarms", 0.99, "refuse", 0, 0)
    assert codes(unwell(logs=(full,))) == ("degraded", ["log_full"], [])
    ring = log_of("main", 0.99, "discard-oldest", 0, 0)
    assert codes(unwell(logs=(ring,))) == ("ok", [], [])


def test_a_log_that_refuses_is_full_however_much_of_it_is_in_use() -> None:
    """Trimming leaves some room, and a large record finds none long before the last byte."""
    refusing = log_of("alarms", 0.9, "refuse", refused_lately=4711)
    assert codes(unwell(logs=(refusing,))) == ("degraded", ["log_full"], [])
    assert "refused 4 711 records" in judge(unwell(logs=(refusing,))).reasons[0].message


@pytest.mark.parametrize(
    "loss_in_s,expected", [(86_399.0, ["loss_ahead"]), (86_400.0, []), (None, [])]
)
def test_a_loss_less_than_a_day_ahead_is_told(loss_in_s: float | None, expected: list[str]) -> None:
    ahead = log_of(
        "main", 0.5, "discard-oldest", loss_in_s=loss_in_s, outlook="at today's rate 23 h"
    )
    assert codes(unwell(logs=(ahead,))) == ("ok", [], expected)
    for warning in judge(unwell(logs=(ahead,))).warnings:
        assert warning.message == "Log main: at today's rate 23 h."


def test_commits_that_are_spread_are_worth_knowing_and_a_broken_budget_degrades() -> None:
    kept = unwell(budget="commits are spread to 12 s to keep 2 GB a day")
    assert codes(kept) == ("ok", [], ["commits_spread"])
    assert judge(kept).warnings[0].message.startswith("Commits are spread to 12 s to keep 2 GB")
    broken = unwell(budget="3 GB a day are written", budget_kept=False)
    assert codes(broken) == ("degraded", ["wear_over_budget"], [])


def test_a_nearly_full_file_degrades() -> None:
    assert codes(unwell(fill=0.95)) == ("degraded", ["store_full"], [])


@pytest.mark.parametrize(
    "changes,code",
    [
        ({"open_ports": "0.0.0.0:1 has no TLS"}, "insecure"),
        ({"card": "the 30 TB that the card is made for have been written"}, "card_wearing_out"),
        ({"clock_synced": False}, "clock_unsynced"),
        ({"clock_synced": False, "clock_doubt_s": 9.0}, "clock_unsynced"),
        ({"clock_doubt_s": -10_800.0}, "clock_doubted"),
        ({"salvage": "12 blocks read back"}, "salvaged"),
        ({"quarantine_entries": 3}, "quarantined"),
        ({"logs": (log_of("main", 0.1, "refuse", 7, 0),)}, "discarded"),
        ({"logs": (log_of("main", 0.1, "refuse", 0, 7),)}, "damaged"),
        (
            {"logs": (log_of("m", 0.1, "thin-oldest", 0, 0, thinned=6, aggregates=1),)},
            "thinned",
        ),
    ],
)
def test_what_is_only_worth_knowing_warns_and_leaves_the_word(
    changes: dict[str, object], code: str
) -> None:
    assert codes(unwell(**changes)) == ("ok", [], [code])


def test_alarms_that_are_on_are_told_by_rule_and_leave_the_word() -> None:
    alarms = [
        AlarmStatus("hot", "t above 30", f"s/{n}", "2026-11-22T10:00:00Z", 31.5) for n in range(5)
    ]
    alarms.append(AlarmStatus("lost", "no data for 5m", "s/9", "2026-11-22T09:00:00Z", 300.0))
    verdict = judge(unwell(alarms=tuple(alarms)))
    assert verdict.status == "ok"
    assert [(warning.code, warning.message) for warning in verdict.warnings] == [
        ("alarm", "Alarm hot is on for 5 streams, since 2026-11-22T10:00:00Z."),
        ("alarm", "Alarm lost is on for 1 stream, since 2026-11-22T09:00:00Z."),
    ]


def test_every_reason_is_told_the_failures_first() -> None:
    facts = unwell(
        problem="EIO",
        fill=0.99,
        upstreams=(hub("timed out", 1),),
    )
    assert codes(facts)[1] == ["store_failing", "store_full", "upstream_offline"]


def test_a_paused_upstream_is_told_as_a_warning_with_the_way_back() -> None:
    paused = hub(None, 1234, phase="paused")
    verdict = judge(unwell(upstreams=(paused,)))
    assert verdict.status == "ok"
    (warning,) = verdict.warnings
    assert warning.code == "upstream_paused" and "consumer resume hub" in warning.message


def test_an_upstream_that_waits_for_its_window_is_told_and_nothing_is_wrong_with_it() -> None:
    waits = hub(None, 1234, phase="waiting", outlook="waits for 01:00")
    verdict = judge(unwell(upstreams=(waits,)))
    assert verdict.status == "ok"
    (warning,) = verdict.warnings
    assert warning.message == (
        "Upstream hub waits for 01:00, as its windows say; 1 234 records wait."
    )


@pytest.mark.parametrize(
    "off_s, text", [(-10_800.0, "3.0 hours behind"), (7200.0, "2.0 hours ahead of")]
)
def test_a_doubted_clock_is_told_with_how_far_it_is_off(off_s: float, text: str) -> None:
    (warning,) = judge(unwell(clock_doubt_s=off_s)).warnings
    assert text in warning.message


def test_a_file_that_cannot_be_used_any_more_degrades_and_says_what_goes_on() -> None:
    facts = unwell(files=FilesFact(("/etc/tokens: Permission denied",)))
    assert codes(facts) == ("degraded", ["file_unusable"], [])
    told = judge(facts).reasons[0].message
    assert "/etc/tokens" in told and "goes on" in told and "a start would be refused" in told


@pytest.mark.parametrize("days, words", [(20, "ends in 20 days"), (-2, "ended 2 days ago")])
def test_a_certificate_is_told_before_it_ends(days: int, words: str) -> None:
    facts = unwell(files=FilesFact((), CertificateLife(0.0, days * DAY_S)))
    assert codes(facts) == ("degraded", ["certificate_ends"], [])
    assert words in judge(facts).reasons[0].message
    assert codes(unwell(files=FilesFact((), CertificateLife(0.0, 22 * DAY_S)))) == ("ok", [], [])


def test_a_renewal_that_does_not_come_is_told_months_before_the_end_with_why() -> None:
    for days, warnings in ((300, []), (270, []), (267, ["certificate_not_renewed"])):
        life = CertificateLife(0.0, days * DAY_S, 2000 * DAY_S, "the key is another user's")
        assert codes(unwell(files=FilesFact((), life))) == ("ok", [], warnings)
    assert (
        "the key is another user's" in judge(unwell(files=FilesFact((), life))).warnings[0].message
    )


@pytest.mark.parametrize("left, verdict", [(366, "ok"), (360, "warned"), (59, "degraded")])
def test_the_end_of_our_own_authority_is_told_a_year_before(left: int, verdict: str) -> None:
    # The certificate ends with it, so a new one would last no longer.
    life = CertificateLife(0.0, left * DAY_S, 0.0)
    told: dict[str, tuple[str, list[str], list[str]]]
    told = {"ok": ("ok", [], []), "warned": ("ok", [], ["authority_ends"])}
    told["degraded"] = ("degraded", ["authority_ends"], [])
    assert codes(unwell(files=FilesFact((), life))) == told[verdict]


def test_a_task_that_fails_on_a_mistake_of_the_agents_own_is_told() -> None:
    rests = unwell(mistakes=(MistakeFact("telling acks", 3, True),))
    assert codes(rests) == ("degraded", ["own_mistake"], [])
    told = judge(rests).reasons[0].message
    assert "failed 3 times" in told and "(telling acks)" in told and "waits" in told
    assert codes(unwell(mistakes=(MistakeFact("x", 1, False),))) == ("ok", [], ["own_mistake"])


def test_who_finds_no_place_for_a_source_is_named() -> None:
    facts = unwell(sources=2600, sources_of={"mallory": 2500}, sources_lacking={"mallory": 2500})
    assert codes(facts) == ("degraded", ["too_many_sources"], [])
    told = judge(facts).reasons[0].message
    assert "Too many sources of mallory: it has 2 500" in told and "source list" in told
    crowded = unwell(sources=10_000, sources_of={"": 10_000}, sources_lacking={"": 10_000})
    nobody = judge(crowded).reasons[0].message
    assert "Too many sources: 10 000 are remembered" in nobody


def test_no_reason_ends_with_two_full_stops() -> None:
    said = "This port needs a token."
    upstreams = tuple(
        hub(said, 1, misconfigured=misconfigured, mistaken=mistaken)
        for misconfigured, mistaken in ((False, False), (True, False), (False, True))
    )
    facts = unwell(
        upstreams=upstreams, problem=said, files=FilesFact((said,)),
        open_ports=said, budget=said, card=said,
    )  # fmt: skip
    for each in (facts, replace(facts, budget_kept=False)):
        verdict = judge(each)
        told = [one.message for one in (*verdict.reasons, *verdict.warnings)]
        assert sum(said.removesuffix(".") in one for one in told) == 8
        assert not [one for one in told if ".." in one or ".:" in one or not one.endswith(".")]


def test_a_hook_that_was_switched_off_is_told_until_the_rules_are_read_again() -> None:
    off = unwell(hooks_off=("dew",))
    assert codes(off) == ("degraded", ["hook_off"], [])
    assert "The hook of the rule dew was too slow" in judge(off).reasons[0].message
