from __future__ import annotations

import logging

import pytest

from edge_agent.copied_sources import TELL_AGAIN_S, TOLD_MAX, Copies, CopiesSeen
from edge_agent.metrics import Metrics
from tests.manual_clock import ManualClock


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


def test_a_source_that_keeps_coming_back_gets_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, metrics = ManualClock(), Metrics()
    copies = Copies(clock, metrics)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            copies.note("pi/a")
            clock.advance(TELL_AGAIN_S / 50)
        assert len(caplog.records) == 2
        assert copies.seen.times == metrics.total("sources_copied_total") == 100
        for number in range(TOLD_MAX + 1):
            copies.note(f"pi/{number}")
        assert len(copies._told) == TOLD_MAX
