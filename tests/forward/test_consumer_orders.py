from __future__ import annotations

import pytest

from edge_agent.forward.consumer_orders import (
    LogRange,
    Order,
    OrderRefused,
    full_name,
    position_for,
)
from edge_agent.forward.sink import LaneResume
from edge_agent.forward.sinks.agent.resume import greet
from edge_agent.store import ConsumerView, Position

LINES = LogRange(first=11, last=90)
HELD = ConsumerView("upstream/hub", "main", 50, None, paused=False, skipped=0)


def ordered(order: Order, target: int | None = None, *, configured: bool = True) -> Position:
    return position_for(order, HELD, LINES, configured=configured, target=target)


def test_a_name_without_a_kind_is_an_upstreams() -> None:
    assert full_name("hub") == "upstream/hub"
    assert full_name("rule/hourly") == "rule/hourly"


def test_pausing_and_resuming_leave_the_floor_alone() -> None:
    orders: tuple[Order, ...] = ("pause", "resume")
    for order in orders:
        made = ordered(order)
        assert (made.floor, made.rewind, made.state, made.order) == (0, False, None, order)


def test_rewind_goes_back_to_what_is_still_there() -> None:
    assert ordered("rewind", 21).floor == 20 and ordered("rewind", 21).rewind
    assert ordered("rewind", 1).floor == 10
    for ahead in (51, 80):
        with pytest.raises(OrderRefused, match="nothing between"):
            ordered("rewind", ahead)


def test_skip_goes_on_and_no_further_than_the_log() -> None:
    assert ordered("skip", 61).floor == 60 and ordered("skip", 61).order == "skip"
    assert ordered("skip", 1000).floor == 90
    with pytest.raises(OrderRefused, match="nothing between"):
        ordered("skip", 51)


@pytest.mark.parametrize("order", ["rewind", "skip"])
def test_another_agent_is_greeted_from_the_moved_floor(order: Order) -> None:
    position = ordered(order, 21 if order == "rewind" else 61)
    said = greet(LaneResume(position.floor, 11, 90, position.state), "aaaa")
    assert (said.epoch, said.first) == (None, position.floor + 1)


def test_only_upstreams_are_moved_and_only_leftovers_forgotten() -> None:
    rule = ConsumerView("rule/hourly", "main", 5, None, paused=False, skipped=0)
    with pytest.raises(OrderRefused, match="rule"):
        position_for("pause", rule, LINES, configured=True)
    with pytest.raises(OrderRefused, match="configuration"):
        ordered("forget")
    assert ordered("forget", configured=False).order == "forget"
