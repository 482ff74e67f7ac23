from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from edge_agent.commit.accounts import DISCARDS_SAID_S, Accounts, count_result
from edge_agent.metrics import Metrics
from edge_agent.store import CommitResult
from tests.commit.recording import entry, result


async def test_losses_are_said_at_once_and_then_summed_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    accounts = Accounts(Metrics(), lambda stream: "main")
    lossy = result(discarded={"main": 20})
    for _ in range(3):
        accounts.did(lossy)
    assert [record.message for record in caplog.records] == [
        "records were discarded before an upstream had them, for lack of room: 20 of main"
    ]
    await trio.sleep(DISCARDS_SAID_S)
    accounts.did(result(discarded={"alarms": 1}))
    assert caplog.records[-1].message.endswith("1 of alarms, 40 of main")
    await trio.sleep(DISCARDS_SAID_S)
    accounts.did(result())
    assert len(caplog.records) == 2


async def test_a_refused_entry_is_counted_by_its_log() -> None:
    metrics = Metrics()
    Accounts(metrics, lambda stream: "alarms").refused(entry())
    assert metrics.get("records_refused_total", "alarms") == 1


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
        ),
    )
    labelled = {
        "log_last_seq": 9,
        "records_committed_total": 1,
        "committed_bytes_total": 2,
        "block_bytes_total": 3,
        "records_trimmed_total": 4,
        "records_discarded_total": 5,
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
