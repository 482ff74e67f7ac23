from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from edge_agent.commit.accounts import QUIET_S, TELL_EVERY_S, Accounts, count_result
from edge_agent.errors import StoreFull
from edge_agent.metrics import Metrics
from edge_agent.store import CommitResult, Entry, Position, Stored
from tests.store.support import foreign, run


def result(**counts: Any) -> CommitResult:
    kinds = ("last_seq", "records", "record_bytes", "block_bytes", "trimmed", "discarded")
    empty: dict[str, Any] = {kind: {} for kind in kinds}
    return CommitResult(**{"answers": (), "quarantined": {}, **empty, **counts})


def accounts() -> Accounts:
    return Accounts(Metrics(), lambda stream: "bulk" if stream.startswith("b") else "main")


async def test_an_episode_is_told_once_then_hourly_with_its_sum(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told = accounts()
    for _ in range(int(TELL_EVERY_S // 60) + 1):
        told.note(result(discarded={"main": 5}))
        await trio.sleep(60)
    first, later = (record.getMessage() for record in caplog.records)
    assert first.startswith("log main is full: its oldest records are discarded")
    assert first.endswith("(5 so far)")
    assert later.endswith("(305 so far)")


async def test_what_begins_again_after_a_quiet_time_is_told_anew(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told = accounts()
    for pause in (1, QUIET_S + 1, 1):
        told.note(result(thinned={"main": 60}))
        await trio.sleep(pause)
    assert [record.getMessage().rpartition("(")[2] for record in caplog.records] == [
        "60 so far)",
        "60 so far)",
    ]
    assert "per-minute aggregates" in caplog.text


async def test_kinds_and_logs_are_told_apart_and_nothing_is_told_of_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told = accounts()
    told.note(result(discarded={"main": 5, "bulk": 2}, thinned={"main": 7}, trimmed={"main": 9}))
    told.note(result(discarded={"main": 0}))
    assert len(caplog.records) == 3


async def test_what_a_person_skips_is_counted_and_makes_no_log_full(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    told = Accounts(metrics, lambda stream: "main")
    skip = Entry(positions=(Position("upstream/hub", "main", 9, order="skip"),))
    told.note(result(discarded={"main": 5, "bulk": 2}), (skip,))
    assert metrics.get("records_discarded_total", "main") == 5
    (only,) = caplog.records
    assert only.getMessage().startswith("log bulk is full")


async def test_what_was_refused_is_counted_by_its_log_and_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    told = Accounts(metrics, lambda stream: "bulk" if stream.startswith("b") else "main")
    entries = (
        Entry(runs=(run(3), run(2, stream="b/1"))),
        Entry(runs=(run(9),)),
        Entry(blocks=(foreign(4, 1, log="alarms"),)),
    )
    full = StoreFull("full")
    told.note(result(answers=(full, Stored({}, 0, 0), full)), entries)
    refused = {log: metrics.get("records_refused_total", log) for log in ("main", "bulk", "alarms")}
    assert refused == {"main": 3, "bulk": 2, "alarms": 4}
    assert sum("refuses records" in record.getMessage() for record in caplog.records) == 3


def test_every_count_of_a_result_reaches_its_metric() -> None:
    metrics = Metrics()
    count_result(
        metrics,
        CommitResult(
            answers=(),
            last_seq={"main": 9},
            records={"main": 1},
            record_bytes={"main": 2},
            block_bytes={"main": 3},
            trimmed={"main": 4},
            discarded={"main": 5},
            quarantined={"bad_time": 6},
            duplicates=7,
            restarts=8,
            gaps=10,
            sources_forgotten=11,
            thinned={"main": 12},
            aggregates={"main": 13},
        ),
    )
    labelled = {
        "log_last_seq": 9,
        "records_committed_total": 1,
        "committed_bytes_total": 2,
        "block_bytes_total": 3,
        "records_trimmed_total": 4,
        "records_discarded_total": 5,
        "records_thinned_total": 12,
        "thinned_aggregates_total": 13,
    }
    assert {name: metrics.get(name, "main") for name in labelled} == labelled
    assert metrics.get("quarantined_total", "bad_time") == 6
    plain = {
        "records_duplicate_total": 7,
        "source_restarts_total": 8,
        "source_gaps_total": 10,
        "sources_forgotten_total": 11,
    }
    assert {name: metrics.get(name) for name in plain} == plain
