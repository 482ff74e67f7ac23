from __future__ import annotations

from typing import Any

import pytest

from edge_agent.cli.doctor.deliveries import delivery_findings, limits

LAST = {
    "time": "2026-11-22T10:00:00.25Z",
    "outcome": "acknowledged",
    "http_status": 204,
    "seconds": 0.42,
    "bytes": 81_000,
    "first_seq": 1,
    "last_seq": 500,
    "cause": None,
}


def status(*lanes: dict[str, Any]) -> dict[str, Any]:
    usual = {"log": "main", "phase": "sending", "backlog_records": 0, "last_batch": LAST}
    return {"upstreams": [{"name": "hub", "lanes": [{**usual, **lane} for lane in lanes]}]}


@pytest.mark.parametrize(
    "lane, verdict, told",
    [
        (
            {},
            "ok",
            "records 1 to 500, 79.1 KiB, acknowledged with HTTP 204 after 420 ms at 2026-11-22T10",
        ),
        ({"last_batch": None}, "ok", "nothing to send"),
        ({"last_batch": None, "backlog_records": 7}, "ok", "nothing was sent yet, 7 records wait"),
        (
            {"last_batch": {**LAST, "outcome": "failed", "http_status": 0, "cause": "cut off"}},
            "warn",
            "79.1 KiB, failed after 420 ms at 2026-11-22T10:00:00Z: cut off",
        ),
        (
            {
                "phase": "stopped",
                "last_batch": {**LAST, "outcome": "refused", "http_status": 422, "cause": "no t"},
            },
            "fail",
            "refused with HTTP 422 after 420 ms at 2026-11-22T10:00:00Z: no t",
        ),
        (
            {"largest_passed_bytes": 50_000, "smallest_failed_bytes": 64_000},
            "warn",
            "bodies of 62.5 KiB do not get through, up to 48.8 KiB do",
        ),
        ({"uncompressed": True}, "warn", "sent uncompressed, because it refuses the compression"),
    ],
)
def test_what_the_last_batch_met(lane: dict[str, Any], verdict: str, told: str) -> None:
    (found,) = delivery_findings(status(lane))
    assert (found.name, found.verdict) == ("delivery to hub", verdict)
    assert told in found.found


def test_each_log_of_several_is_named() -> None:
    found = delivery_findings(status({}, {"log": "alarms"}))
    assert [one.name for one in found] == [
        "delivery to hub, log main",
        "delivery to hub, log alarms",
    ]


def test_an_agent_of_an_earlier_version_tells_nothing_and_that_is_no_error() -> None:
    old = {"upstreams": [{"name": "hub", "lanes": [{"log": "main", "phase": "sending"}]}]}
    assert delivery_findings(old) == []
    assert list(limits({"log": "main"})) == []
    assert list(limits({"smallest_failed_bytes": 900})) == [
        "bodies of 900 B do not get through, and none has yet"
    ]
