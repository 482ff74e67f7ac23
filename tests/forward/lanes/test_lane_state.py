from __future__ import annotations

from dataclasses import replace

from edge_agent.forward.lanes.lane_phases import Event
from edge_agent.forward.lanes.lane_state import Standing
from edge_agent.forward.sink import Acknowledged, Batch
from edge_agent.metrics import Metrics
from edge_agent.store import Block, Gap
from edge_agent.system.clock import Reading
from tests.forward.support import NOW_NS
from tests.forward.thinned import ten_of_two_streams

SECOND = 1_000_000_000
NOW = Reading(NOW_NS, 100 * SECOND, bytes(range(16)), True)


def a_block(first: int, count: int, size: int, age_s: int) -> Block:
    stored_ns = NOW_NS - age_s * SECOND
    return Block("main", first, count, 0, size, bytes(size), bytes(16), 1, stored_ns, True, 0, 0)


def test_a_backlog_is_told_in_records_bytes_and_seconds() -> None:
    standing = Standing("hub", Metrics())
    standing.opened(10, proven=True)
    standing.read(Batch("main", 11, 20, (a_block(11, 10, 700, 30),)))
    standing.read(Batch("main", 21, 25, (a_block(21, 5, 350, 20),)))
    snapshot = standing.snapshot("main", 20, NOW, 0.0)
    assert snapshot.backlog_records == 20
    assert snapshot.backlog_bytes == 700 + 350 + 5 * 70
    assert snapshot.backlog_seconds == 30
    standing.acknowledged(Acknowledged(20, 10, 690))
    snapshot = standing.snapshot("main", 10, NOW, 0.0)
    assert (snapshot.backlog_records, snapshot.backlog_bytes) == (10, 350 + 5 * 70)
    assert snapshot.backlog_seconds == 20 and standing.unsettled
    standing.acknowledged(Acknowledged(30))
    snapshot = standing.snapshot("main", 0, NOW, 0.0)
    assert (snapshot.backlog_records, snapshot.backlog_bytes, snapshot.backlog_seconds) == (0, 0, 0)


def test_of_this_boot_the_age_is_told_by_the_clock_that_nobody_sets() -> None:
    standing = Standing("hub", Metrics())
    year = 31_536_000 * SECOND
    block = replace(a_block(1, 10, 700, 30), boot_id=NOW.boot_id, boot_ns=70 * SECOND)
    for stored_ns in (NOW_NS - year, NOW_NS + year, 0):
        waits = replace(block, stored_ns=stored_ns)
        standing.waiting([waits])
        assert standing.snapshot("main", 1, NOW, 0.0).backlog_seconds == 30
        standing.waiting([replace(waits, boot_id=bytes(16))])
        told = standing.snapshot("main", 1, NOW, 0.0).backlog_seconds
        # Of an earlier boot there is the other one alone; one that was not set tells nothing.
        assert told == (31_536_000 if 0 < stored_ns < NOW_NS else 0)


def test_a_batch_sent_again_is_counted_once() -> None:
    standing = Standing("hub", Metrics())
    standing.opened(0, proven=True)
    batch = Batch("main", 1, 10, (a_block(1, 10, 700, 30),))
    standing.read(batch)
    standing.read(batch)
    assert standing.snapshot("main", 10, NOW, 0.0).backlog_bytes == 700


def test_a_batch_of_gaps_alone_weighs_nothing_and_is_waited_for() -> None:
    standing = Standing("hub", Metrics())
    standing.read(Batch("main", 1, 10, (Gap("main", 1, 10, "trimmed"),)))
    snapshot = standing.snapshot("main", 10, NOW, 0.0)
    assert snapshot.backlog_bytes == 0 and snapshot.backlog_seconds == 0
    assert standing.unsettled


def test_a_failure_is_shown_until_the_upstream_shows_itself_again() -> None:
    metrics = Metrics()
    standing = Standing("hub", metrics)
    standing.enter(Event.UNAVAILABLE)
    standing.failed("slow", "HTTP 401", NOW_NS, "there")
    standing.next_try_at = 12.0
    snapshot = standing.snapshot("main", 0, NOW, 2.0)
    assert (snapshot.phase, snapshot.error, snapshot.error_ns) == (
        "held",
        "HTTP 401",
        NOW_NS,
    )
    assert snapshot.failing and not snapshot.connected and snapshot.next_try_s == 10
    assert snapshot.obstacle == "there"
    assert metrics.get("forward_failures_total", "hub", "slow") == 1
    standing.opened(0, proven=False)
    assert not standing.snapshot("main", 1, NOW, 2.0).connected
    standing.acknowledged(Acknowledged(1, 1, 10))
    snapshot = standing.snapshot("main", 1, NOW, 2.0)
    assert snapshot.connected and snapshot.error == "HTTP 401"


def test_a_refused_record_does_not_count_as_out_of_reach() -> None:
    metrics = Metrics()
    standing = Standing("hub", metrics)
    standing.opened(0, proven=True)
    standing.refused(2)
    standing.failed("refused", "HTTP 422", NOW_NS)
    standing.rewound(7)
    standing.failed("rewind", "lost", NOW_NS)
    snapshot = standing.snapshot("main", 0, NOW, 0.0)
    assert snapshot.connected and not snapshot.failing
    assert (snapshot.refused, snapshot.rewinds, snapshot.gap_records) == (2, 1, 7)
    assert metrics.get("forward_gap_records_total", "hub") == 7


def test_what_is_acknowledged_is_counted() -> None:
    metrics = Metrics()
    standing = Standing("hub", metrics)
    standing.acknowledged(Acknowledged(9, 5, 500))
    assert metrics.get("forwarded_records_total", "hub") == 5
    assert metrics.get("forwarded_bytes_total", "hub") == 500
    assert metrics.get("forward_batches_total", "hub") == 1


def test_what_is_withheld_is_counted_once_however_often_it_comes_up() -> None:
    metrics = Metrics()
    standing = Standing("hub", metrics)
    batch = Batch("main", 15, 20, (ten_of_two_streams(11),))
    told = []
    for _ in range(2):
        standing.opened(14, proven=True)
        told.append(standing.read(batch))
    assert told == [6, 0]
    assert metrics.get("forward_withheld_total", "hub") == 6
