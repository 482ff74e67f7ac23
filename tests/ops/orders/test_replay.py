"""What is in quarantine, read again."""

from __future__ import annotations

import json

import msgpack
import pytest

from edge_agent.ops.orders.replay import replay
from edge_agent.record import Run
from edge_agent.store import Quarantined
from edge_agent.wire import WireLimits

LIMITS = WireLimits()
NOW_NS = 1_795_341_600_000_000_000


def item(body: bytes, code: str = "too_big", source: str = "pi") -> Quarantined:
    return Quarantined(code, "why", "a/1", source, 7, NOW_NS, body)


def leave(run: Run) -> tuple[Run, ...]:
    return (run,)


@pytest.mark.parametrize(
    "body", [json.dumps({"t": 1}).encode(), msgpack.packb({"t": 1}), b'[{"t": 1}]']
)
def test_what_can_be_read_now_is_stored_as_it_arrived_and_released(body: bytes) -> None:
    made = replay(3, item(body), LIMITS, leave)
    assert made.entry is not None and made.records == 1
    (run,) = made.entry.runs
    assert (run.stream, run.source, run.arrival_ns, run.source_seq) == ("a/1", "pi", NOW_NS, 0)
    assert msgpack.unpackb(run.body) == {"t": 1}
    assert made.entry.released == (3,) and made.entry.numbering is None


def test_what_still_cannot_be_used_says_why_now() -> None:
    made = replay(3, item(b'{"t": 1, "time": "noon"}'), LIMITS, leave)
    assert made.entry is None and "noon" in made.problem
    large = item(json.dumps({"t": "x" * 300}).encode())
    assert replay(3, large, LIMITS, leave).entry is not None
    assert "at most 256" in replay(3, large, WireLimits(record_bytes=256), leave).problem


def test_what_was_cut_off_cannot_be_read_again_and_says_so() -> None:
    made = replay(3, item(json.dumps({"t": "x" * 9000}).encode()[:4096]), LIMITS, leave)
    assert made.entry is None and "first 4096 bytes" in made.problem
    packed = replay(3, item(msgpack.packb({"t": "x" * 9000})[:4096]), LIMITS, leave)
    assert "first 4096 bytes" in packed.problem


def test_a_whole_body_of_just_that_length_is_whole() -> None:
    body = json.dumps({"t": "x" * 4087}).encode()
    assert len(body) == 4096
    assert replay(3, item(body), LIMITS, leave).entry is not None


@pytest.mark.parametrize(
    "given", [item(b"\x81", "upstream_413"), item(b"\x81", source="$forward/a/b/c/live")]
)
def test_what_is_not_the_sensors_is_left_alone(given: Quarantined) -> None:
    made = replay(3, given, LIMITS, leave)
    assert made.entry is None and made.problem


def test_what_a_rule_drops_now_only_leaves_quarantine() -> None:
    made = replay(3, item(b'{"t": 1}'), LIMITS, lambda run: ())
    assert made.entry is not None and made.entry.runs == () and made.entry.released == (3,)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe"])
def test_nonsense_stays_where_it_is(body: bytes) -> None:
    made = replay(3, item(body), LIMITS, leave)
    assert made.entry is None and made.problem
