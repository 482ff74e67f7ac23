"""Floods are what they say, and the canary is held against what it sees alone."""

from __future__ import annotations

import pytest

from benchmarks.bench_floods import MANY_KINDS, TINY_KINDS, FloodRow, baseline, render, worst_ratio
from benchmarks.floods import KINDS, array, fragments, raw_frame
from edge_agent.wire.frames import FrameLane


def row(what: str, alone: float, flooded: float) -> FloodRow:
    def seen(worst: float) -> dict[str, float]:
        return {"p50_ms": 1.0, "p99_ms": 2.0, "max_ms": worst}

    return FloodRow(what, seen(alone), seen(flooded), 1.0, 1)


def test_the_worst_flood_is_held_against_the_worst_baseline_and_usual_records_are_not_judged() -> (
    None
):
    rows = [row("usual records", 20, 500), row("pings", 25, 50), row("rejects", 20, 75)]
    assert baseline(rows) == 25
    assert worst_ratio(rows) == 3
    assert "| rejects | 1.0 | 2.0 | 20.0 | 1.0 | 2.0 | 75.0 | 3.0 |" in render(rows)


def test_kinds_named_elsewhere_are_there() -> None:
    assert {*TINY_KINDS, *MANY_KINDS} <= KINDS.keys()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "not masked"])
def test_what_a_flood_sends_are_frames_that_a_client_may_send(kind: str) -> None:
    lane = FrameLane(1024 * 1024)
    chunk = KINDS[kind].chunk(0)
    lane.feed(chunk)
    while lane.is_behind:
        lane.go_on()
    assert chunk
    assert lane.too_big is None or "continuations" in kind


def test_pieces() -> None:
    assert raw_frame(0x89) == b"\x89\x80\0\0\0\0"
    assert fragments(b"a", b"b") == b"\x02\x81\0\0\0\0a\x80\x81\0\0\0\0b"
    assert array(b"\x01", 2) == b"\x92\x01\x01"
