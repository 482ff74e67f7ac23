from __future__ import annotations

import logging

import pytest

from edge_agent.clock import ManualClock
from edge_agent.metrics import Metrics
from edge_agent.server.copied_sources import Copies, CopiesSeen


def test_each_copy_is_counted_and_the_last_one_named(caplog: pytest.LogCaptureFixture) -> None:
    clock, metrics = ManualClock(), Metrics()
    copies = Copies(clock, metrics)
    assert copies.seen == CopiesSeen()
    with caplog.at_level(logging.WARNING):
        copies.note("pi/a")
        copies.note("pi/b")
    assert copies.seen == CopiesSeen(2, "pi/b", clock.read().wall_ns)
    assert metrics.total("sources_copied_total") == 2
    assert [record.args for record in caplog.records] == [("pi/a",), ("pi/b",)]
