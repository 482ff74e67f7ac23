"""How long the room lasts and how soon a backlog drains: tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.ops.forecast.capacity import (
    NOTHING,
    Drain,
    LaneBacklog,
    LogRates,
    Loss,
    PositionSample,
    Room,
    between,
    drain,
    loss,
)

DAY_S = 86_400.0
#: 100 bytes a record, 10,000 of them; room for 60,000.
ROOM = Room("main", bytes=1_000_000, share_bytes=6_000_000, held=10_000, keep_s=30 * DAY_S)
OFFLINE = LaneBacklog("hub", "main", False, True, backlog=10_000, age_s=60.0, late_s=30.0)
LINK = ("hub", "main")


def rates(into: float, out: float = 0.0) -> LogRates:
    return LogRates(60.0, {"main": into}, {LINK: out}, {}, {})


@pytest.mark.parametrize(
    "room,lane,into,out,expected",
    [
        # Away: 5,000,000 bytes are left, 1,000 come each second.
        (ROOM, OFFLINE, 10, 0, Loss(5000, "share")),
        # Half of what is held is delivered and gives way.
        (ROOM, replace(OFFLINE, backlog=5_000), 10, 0, Loss(5500, "share")),
        # There, but slower than what comes in.
        (ROOM, replace(OFFLINE, connected=True), 10, 6, Loss(12_500, "share")),
        # There, and it drains.
        (ROOM, replace(OFFLINE, connected=True), 10, 11, None),
        (ROOM, replace(OFFLINE, connected=True), 10, 10, None),
        # What a lane did before it went away does not count.
        (ROOM, OFFLINE, 10, 11, Loss(5000, "share")),
        # Nothing comes in; nothing is held; nothing waits; not late.
        (ROOM, OFFLINE, 0, 0, None),
        (replace(ROOM, held=0, bytes=0), OFFLINE, 10, 0, None),
        (ROOM, replace(OFFLINE, backlog=0), 10, 0, None),
        (ROOM, replace(OFFLINE, connected=True, age_s=29.0), 10, 0, None),
        # Full: now.
        (replace(ROOM, share_bytes=999_999), OFFLINE, 10, 0, Loss(0, "share")),
        # Another log's lane does not matter.
        (ROOM, replace(OFFLINE, log="alarms"), 10, 0, None),
        # A required upstream holds age back, another does not.
        (replace(ROOM, keep_s=100.0), OFFLINE, 10, 0, Loss(5000, "share")),
        (replace(ROOM, keep_s=100.0), replace(OFFLINE, required=False), 10, 0, Loss(40, "age")),
        # Of ten that come six go: the oldest ages by 0.4 s a second.
        (
            replace(ROOM, keep_s=100.0),
            replace(OFFLINE, required=False, connected=True),
            10, 6, Loss(100, "age"),
        ),
        # Age is not judged where the clock may not, nor where the oldest was never looked at.
        (replace(ROOM, keep_s=None), replace(OFFLINE, required=False), 10, 0, Loss(5000, "share")),
        (
            replace(ROOM, keep_s=100.0), replace(OFFLINE, required=False, age_s=0.0), 10, 0,
            Loss(5000, "share"),
        ),
    ],
)  # fmt: skip
def test_when_the_oldest_undelivered_record_is_due(
    room: Room, lane: LaneBacklog, into: float, out: float, expected: Loss | None
) -> None:
    found = loss(room, [lane], rates(into), rates(into, out))
    if expected is None:
        assert found is None
    else:
        assert found is not None and found.ending == expected.ending
        assert found.seconds == pytest.approx(expected.seconds)


def test_of_several_upstreams_the_first_to_lose_is_told() -> None:
    slow = LaneBacklog("cloud", "main", True, False, 2_000, 60.0, 30.0)
    today = rates(10)
    recent = LogRates(60.0, {"main": 10.0}, {LINK: 0.0, ("cloud", "main"): 5.0}, {}, {})
    found = loss(ROOM, [slow, OFFLINE], today, recent)
    assert found == Loss(5000, "share")


def test_before_there_are_rates_nothing_is_said() -> None:
    assert loss(ROOM, [OFFLINE], NOTHING, NOTHING) is None
    assert loss(ROOM, [OFFLINE], rates(10), NOTHING) is None
    assert drain([replace(OFFLINE, connected=True)], NOTHING) is None


@pytest.mark.parametrize(
    "lane,into,out,expected",
    [
        (replace(OFFLINE, connected=True), 10, 30, Drain(500, 30, 10)),
        (replace(OFFLINE, connected=True), 0, 20, Drain(500, 20, 0)),
        (replace(OFFLINE, connected=True), 10, 10, Drain(None, 10, 10)),
        (replace(OFFLINE, connected=True), 20, 10, Drain(None, 10, 20)),
        (OFFLINE, 10, 30, None),
        (replace(OFFLINE, connected=True, age_s=1.0), 10, 30, None),
        (replace(OFFLINE, connected=True, backlog=0), 10, 30, None),
    ],
)
def test_how_soon_a_backlog_drains(
    lane: LaneBacklog, into: float, out: float, expected: Drain | None
) -> None:
    assert drain([lane], rates(into, out)) == expected


def test_only_the_lanes_that_are_behind_drain() -> None:
    behind = replace(OFFLINE, connected=True)
    alarms = LaneBacklog("hub", "alarms", True, True, 3, 0.1, 30.0)
    recent = LogRates(
        60.0, {"main": 10.0, "alarms": 50.0}, {LINK: 30.0, ("hub", "alarms"): 50.0}, {}, {}
    )
    assert drain([behind, alarms], recent) == Drain(500, 30, 10)


def test_rates_are_differences_over_time_and_a_rewind_stands_still() -> None:
    old = PositionSample({"main": 100}, {LINK: 90, ("cloud", "main"): 50}, {"main": 5}, {"main": 1})
    new = PositionSample(
        {"main": 400, "new": 7}, {LINK: 390, ("cloud", "main"): 20}, {"main": 9}, {}
    )
    assert between(old, new, 10) == LogRates(
        10, {"main": 30, "new": 0}, {LINK: 30, ("cloud", "main"): 0}, {"main": 4}, {}
    )
    assert between(old, new, 0) is NOTHING
