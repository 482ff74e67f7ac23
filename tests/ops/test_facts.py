"""From the parts' own statistics to what is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config import Config, Http, Listen, Upstream, parse
from edge_agent.copied_sources import CopiesSeen
from edge_agent.forward.forwarder import ForwarderStatistics
from edge_agent.forward.lanes.lane_state import LaneStatistics
from edge_agent.metrics import Metrics
from edge_agent.ops.facts import (
    about_copies,
    copies_status,
    in_words,
    log_status,
    open_ports,
    store_status,
    upstream_status,
)
from edge_agent.ops.status import CopiesStatus
from edge_agent.store import Identity
from edge_agent.store.format.values import CopyNote
from tests.ops.real import agent


def lane(**changes: object) -> LaneStatistics:
    usual: dict[str, object] = {
        "log": "main", "phase": "sending", "connected": True, "floor": 5, "backlog_records": 10,
        "backlog_bytes": 710, "backlog_seconds": 1.5, "error": "", "error_ns": 0, "failing": False,
        "failures": 0, "next_try_s": 0.0, "records": 5, "size": 355, "refused": 0, "rewinds": 0,
        "gap_records": 0,
    }  # fmt: skip
    return LaneStatistics(**{**usual, **changes})  # type: ignore[arg-type]  # fields by name


def forwarder(*lanes: LaneStatistics, phase: str = "sending", error: str = "") -> (
    ForwarderStatistics
):  # fmt: skip
    return ForwarderStatistics(
        name="hub", url="wss://hub:8765/forward", phase=phase, connected=not error,
        backlog_records=20, backlog_bytes=1420, backlog_seconds=2.0, error=error, error_ns=1,
        records=10, size=710, refused=3, rewinds=0, lanes=lanes,
    )  # fmt: skip


HUB = Upstream(name="hub", url="wss://hub:8765/forward", required=False)


def test_an_upstream_that_goes_well_has_no_error_and_no_next_try() -> None:
    shown = upstream_status(HUB, forwarder(lane(), lane(log="alarms")))
    assert shown.connected and shown.error is None and shown.retry_in_s is None
    assert (shown.backlog_records, shown.acknowledged_records, shown.refused_records) == (20, 10, 3)
    assert not shown.misconfigured and not shown.required


def test_the_worst_lane_speaks_for_an_upstream() -> None:
    lanes = (lane(), lane(failures=4, next_try_s=8.0), lane(failures=2, next_try_s=3.0))
    shown = upstream_status(HUB, forwarder(*lanes, phase="backing off", error="refused"))
    assert (shown.failures, shown.retry_in_s, shown.error) == (4, 3.0, "refused")


def test_what_an_upstream_lost_and_is_no_longer_here_is_shown() -> None:
    lanes = (lane(rewinds=1, gap_records=7), lane(log="alarms", rewinds=1, gap_records=2))
    shown = upstream_status(HUB, replace(forwarder(*lanes), rewinds=2))
    assert (shown.rewinds, shown.gap_records) == (2, 9)


def test_a_forwarder_that_gave_up_is_misconfigured() -> None:
    assert upstream_status(HUB, forwarder(lane(), phase="stopped", error="413")).misconfigured


@pytest.mark.parametrize(
    "listen,http,expected",
    [
        (Listen(), Http(), False),
        (Listen(address="0.0.0.0:1", insecure=True), Http(), True),
        (Listen(insecure=True), Http(address="0.0.0.0:1"), True),
        (Listen(insecure=True), Http(), False),
        (Listen(address="0.0.0.0:1", tls_certificate="a", tls_key="b", tokens="c"), Http(), False),
        (Listen(address="0.0.0.0:1", tokens="c", insecure=True), Http(address="off"), True),
    ],
)
def test_insecure_is_what_others_can_reach_unprotected(
    listen: Listen, http: Http, expected: bool
) -> None:
    assert bool(open_ports(Config(listen=listen, http=http))) is expected


def test_a_salvage_report_becomes_sentences() -> None:
    report = {
        "when_ns": 1_795_341_600_000_000_000,
        "reason": "page 7 is used twice",
        "moved_to": "/data/damaged-1",
        "blocks": 12,
        "records": 12_345,
        "missing": 0,
        "complete": True,
        "possible": 0,
        "all_known": True,
        "problems": [],
    }
    assert in_words(None) is None
    assert in_words(report) == (
        "On 2026-11-22T10:00:00Z the store was found damaged (page 7 is used twice). 12 345 records"
        " were read back and no record is known to be lost. The damaged file is kept in"
        " /data/damaged-1."
    )
    assert "1 234 records are known to be lost" in str(in_words({**report, "missing": 1234}))
    told = str(in_words({**report, "possible": 98}))
    assert "no record is known to be lost; 98 more may be lost" in told
    assert "there may be others" in str(in_words({**report, "all_known": False}))
    assert "set store.size larger" in str(in_words({**report, "complete": False}))


async def test_fill_is_measured_against_the_share_of_the_log(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        for _ in range(20):
            await running.keep("a/1", list(range(500)))
        store = await running.log.store_statistics()
        config = running.watch.sources.config
        running.metrics.add("records_refused_total", 3, "main")
        shown = log_status("main", config, store, running.log, running.metrics)
        assert shown.records == 10_000 and shown.last_seq == 10_000 and shown.first_seq == 1
        assert shown.share_bytes == int(0.7 * (16 << 20))
        assert shown.fill == shown.bytes / shown.share_bytes > 0
        assert shown.oldest == "2026-11-22T10:00:00Z" and shown.refused == 3
        commit = running.log.statistics().commit
        file = store_status(config, store, commit, None, running.metrics)
        assert file.size_bytes == 16 << 20 and 0 < file.fill < 1 and file.commits == 20
        assert file.commit_median_s is not None


async def test_what_only_memory_knows_is_shown_while_the_disk_refuses(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1, 2])
        config = running.watch.sources.config
        shown = log_status("main", config, None, running.log, Metrics())
        assert (shown.records, shown.bytes, shown.oldest) == (2, 0, None)
        file = store_status(config, None, running.log.statistics().commit, "EIO", Metrics())
        assert (file.healthy, file.problem, file.size_bytes) == (False, "EIO", 16 << 20)


def test_the_lanes_of_an_upstream_are_shown_one_by_one() -> None:
    shown = upstream_status(HUB, forwarder(lane(), lane(log="alarms", floor=9, connected=False)))
    assert [(one.log, one.floor, one.connected) for one in shown.lanes] == [
        ("main", 5, True), ("alarms", 9, False),
    ]  # fmt: skip
    assert (shown.lanes[0].backlog_records, shown.lanes[0].backlog_s) == (10, 1.5)


async def test_a_log_that_is_no_longer_configured_is_shown_all_the_same(tmp_path: Path) -> None:
    """Once, every look at such an agent ended in an error."""
    text = f'[http]\naddress = "127.0.0.1:0"\n[store]\npath = "{tmp_path}"\nsize = "16MiB"\n'
    with_alarms = text + '[log.alarms]\nstreams = ["alarm/*"]\nshare = "5%"\n'
    async with agent(tmp_path, config=parse(with_alarms, "test"), serve=False) as running:
        await running.keep("alarm/1", [1, 2, 3])
    async with agent(tmp_path, config=parse(text, "test"), serve=False) as running:
        logs = {log.name: log for log in (await running.watch.look()).logs}
    assert (logs["alarms"].records, logs["alarms"].share_bytes, logs["alarms"].fill) == (3, 0, 0.0)


def test_what_is_open_is_told_for_what_it_is() -> None:
    everywhere = Listen(address="0.0.0.0:1", insecure=True)
    assert "no TLS and no tokens" in open_ports(Config(listen=everywhere))
    tokens = Listen(address="0.0.0.0:1", insecure=True, tokens="t")
    told = open_ports(Config(listen=tokens))
    assert "has tokens but no TLS" in told and "may send" not in told
    tls = Listen(address="0.0.0.0:1", insecure=True, tls_certificate="c", tls_key="k")
    assert "no tokens" in open_ports(Config(listen=tls)) and "TLS" not in open_ports(
        Config(listen=tls)
    )
    assert open_ports(Config()) == ""


NOW_NS = 1_795_341_600_000_000_000
WEEK_NS = 7 * 86_400 * 1_000_000_000
PLAIN = Identity("5" * 32, "e" * 16, "a" * 12, 0)
COPY = Identity("5" * 32, "e" * 16, "a" * 12, 0, copied=CopyNote(2, NOW_NS, "it moved", "f" * 16))
SEEN = CopiesSeen(3, "pi/a", NOW_NS)


def test_nothing_is_told_where_nothing_was_noticed() -> None:
    assert copies_status(PLAIN, CopiesSeen()) == CopiesStatus()
    assert not list(about_copies(PLAIN, CopiesSeen(), NOW_NS))


def test_both_kinds_are_told_while_they_are_news_and_kept_in_status() -> None:
    own, source = about_copies(COPY, SEEN, NOW_NS + WEEK_NS - 1)
    assert own.code == "store_copied"
    assert "it moved" in own.message and "e" * 16 in own.message
    assert source.code == "source_copied"
    assert "3 times" in source.message and "pi/a" in source.message
    assert not list(about_copies(COPY, SEEN, NOW_NS + WEEK_NS))
    at = "2026-11-22T10:00:00Z"
    assert copies_status(COPY, SEEN) == CopiesStatus(2, at, "it moved", 3, "pi/a", at)
