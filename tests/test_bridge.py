from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.bridge import UpstreamBridge


class Somebody:
    """Waits, and is called."""

    def __init__(self) -> None:
        self.called = 0

    def come(self) -> None:
        self.called += 1


def a_bridge() -> UpstreamBridge:
    bridge = UpstreamBridge()
    bridge.choose("jetstream", ("main", "alarms"))
    return bridge


def test_nobody_lacks_anything_where_no_upstream_bridges() -> None:
    assert (UpstreamBridge().upstream, UpstreamBridge().lacks({"main": 5})) == ("", None)


def test_what_the_upstream_has_not_come_to_is_lacking() -> None:
    bridge = a_bridge()
    assert bridge.lacks({"main": 5}) == ("main", 5)
    bridge.reached("main", 4)
    assert bridge.lacks({"main": 5}) == ("main", 5)
    bridge.reached("main", 5)
    assert bridge.lacks({"main": 5}) is None
    assert bridge.lacks({"main": 5, "alarms": 1}) == ("alarms", 1)


def test_a_log_that_the_upstream_is_not_sent_is_not_waited_for() -> None:
    assert a_bridge().lacks({"debug": 7}) is None


def test_whoever_waits_is_called_once_when_the_upstream_has_come_so_far() -> None:
    bridge, near, far = a_bridge(), Somebody(), Somebody()
    bridge.call("main", 9, far)
    bridge.call("main", 5, near)
    bridge.reached("alarms", 100)
    bridge.reached("main", 4)
    assert (near.called, far.called) == (0, 0)
    bridge.reached("main", 5)
    bridge.reached("main", 6)
    assert (near.called, far.called) == (1, 0)
    bridge.reached("main", 20)
    assert (near.called, far.called) == (1, 1)


def test_a_reload_that_changes_nothing_of_it_leaves_known_how_far_an_upstream_at_rest_is() -> None:
    bridge = a_bridge()
    bridge.reached("main", 9)
    bridge.choose("jetstream", ("alarms", "main"))
    assert bridge.lacks({"main": 9}) is None
    bridge.choose("jetstream", ("main",))
    assert bridge.lacks({"main": 9}) == ("main", 9)


def test_an_upstream_that_goes_back_is_waited_for_again() -> None:
    bridge = a_bridge()
    bridge.reached("main", 9)
    bridge.reached("main", 3)
    assert bridge.lacks({"main": 5}) == ("main", 5)


def test_another_choice_calls_all_who_wait_and_begins_with_nothing() -> None:
    bridge, one = a_bridge(), Somebody()
    bridge.reached("main", 4)
    bridge.call("main", 5, one)
    bridge.choose("kafka", ("main",))
    assert (one.called, bridge.lacks({"main": 1})) == (1, ("main", 1))
    bridge.choose("")
    assert bridge.lacks({"main": 1}) is None
    assert one.called == 1


@pytest.mark.parametrize("what", ["reached", "chosen"])
async def test_a_newcomer_waits_until_the_upstream_has_come(
    autojump_clock: trio.testing.MockClock, what: str
) -> None:
    bridge, began = a_bridge(), trio.current_time()

    async def later() -> None:
        await trio.sleep(2)
        bridge.reached("main", 3)
        if what == "chosen":
            bridge.choose("")
        await trio.sleep(1)
        bridge.reached("main", 5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        assert await bridge.passed({"main": 5}, 10)
        assert trio.current_time() - began == pytest.approx(3 if what == "reached" else 2)
    assert bridge.turned_away == 0


async def test_a_newcomer_is_turned_away_in_time_and_counted_until_there_is_progress(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bridge, began = a_bridge(), trio.current_time()
    assert not await bridge.passed({"main": 5}, 10)
    assert trio.current_time() - began == pytest.approx(10)
    assert bridge.turned_away == 1
    bridge.reached("main", 1)
    assert bridge.turned_away == 0
