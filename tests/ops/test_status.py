"""The picture as JSON: the interface that others build upon."""

from __future__ import annotations

import json

from tests.ops.pictures import STATUS


def test_the_three_figures_stand_where_the_documentation_says() -> None:
    status = json.loads(STATUS.to_json())
    for window in ("now", "since_start"):
        figures = status["figures"][window]
        assert figures["received"] == {"records_per_s": 1234.5, "bytes_per_s": 87_654.0}
        assert figures["forwarded"]["records_per_s"] == 1000.0
        assert figures["queries_per_s"] == 250.0
        assert figures["records_per_cpu_s"] == 98_765.0


def test_its_parts_are_there_by_name() -> None:
    status = json.loads(STATUS.to_json())
    assert set(status) == {
        "agent", "health", "figures", "store", "logs", "upstreams", "connections",
        "connections_open", "streams", "wear", "wear_outlook", "refused", "copies", "history",
        "alarms",
        "journal",
        "certificate",
    }  # fmt: skip
    assert status["health"] == {"status": "ok", "reasons": [], "warnings": []}
    assert status["upstreams"][0]["backlog_records"] == 4711
    assert status["upstreams"][0]["error"] is None
    assert status["logs"][0]["fill"] == 0.123456
