from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.forward.batches.plan import Plan, decode_plan, encode_plan, moves_of
from edge_agent.forward.consumer_orders import (
    LogRange,
    Order,
    OrderRefused,
    full_name,
    position_for,
    positions_for,
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


BACKLOG = ConsumerView("upstream/hub/backlog", "main", 30, None, False, 0, span=(21, 45))


def moved_lanes(order: Order, target: int | None = None) -> dict[str, Position]:
    made = positions_for(order, HELD, BACKLOG, LINES, configured=True, target=target)
    return {one.consumer.removeprefix("upstream/"): one for one in made}


def test_an_order_is_for_both_lanes_each_within_its_own_part() -> None:
    assert {one.order for one in moved_lanes("pause").values()} == {"pause"}
    both = moved_lanes("rewind", 15)
    assert (both["hub/backlog"].floor, both["hub/backlog"].span) == (14, (15, 45))
    assert (both["hub"].floor, both["hub"].rewind) == (45, True)
    newer = moved_lanes("rewind", 48)
    assert (newer["hub"].floor, newer["hub"].rewind) == (47, True)
    assert (newer["hub/backlog"].floor, newer["hub/backlog"].rewind) == (30, False)
    within = moved_lanes("skip", 41)
    assert (within["hub/backlog"].floor, within["hub/backlog"].order) == (40, "skip")
    assert within["hub"] == Position("upstream/hub", "main", 50)
    beyond = moved_lanes("skip", 61)
    assert (beyond["hub/backlog"].floor, beyond["hub"].floor) == (45, 60)
    with pytest.raises(OrderRefused, match="nothing between"):
        moved_lanes("skip", 25)


def test_no_lane_uses_a_key_again_that_the_other_has_used() -> None:
    plan = encode_plan(Plan(7, [(31, 40)], moves=4))
    held = replace(HELD, state=encode_plan(Plan(7, [(51, 60)], moves=2)))
    made = positions_for(
        "skip", held, replace(BACKLOG, state=plan), LINES, configured=True, target=41
    )
    assert {moves_of(one.state) for one in made} == {5}
    states = {one.consumer: one.state for one in made}
    assert decode_plan(states["upstream/hub"], 7, 50).ranges == [(51, 60)]
