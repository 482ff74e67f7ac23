from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.bridge import UpstreamBridge
from edge_agent.server.acks import Teller
from edge_agent.server.bridged_acks import HELD_MAX, BridgedAcks
from tests.patience import PATIENCE_S


class Peer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.can_be_told = True
        self.told: list[int] = []
        self.breaks = False
        self.failed: Exception | None = None

    def tell_now(self, upto: int) -> None:
        if self.breaks:
            raise RuntimeError("a mistake")
        self.told.append(upto)

    def fail(self, error: Exception) -> None:
        self.failed = error


class Held:
    """A session's acks, told as the teller would."""

    def __init__(self) -> None:
        self.bridge, self.teller, self.peer = UpstreamBridge(), Teller(), Peer()
        self.bridge.choose("jetstream", ("main", "alarms"))
        self.acks = BridgedAcks(self.bridge, self.teller, self.peer, 1)

    def hold(self, upto: int, **marks: int) -> None:
        self.acks.hold(upto, marks)

    def reached(self, log: str, floor: int) -> list[int]:
        """What is told when the upstream has come so far, all in all."""
        self.bridge.reached(log, floor)
        while self.teller._due:
            self.teller._tell_next()
        return self.peer.told


def test_what_the_upstream_has_is_told_at_once() -> None:
    held = Held()
    held.reached("main", 9)
    held.hold(5, main=9)
    assert held.peer.told == [5]
    assert held.bridge.records == 0


def test_what_it_has_not_is_told_once_it_has() -> None:
    held = Held()
    held.hold(5, main=9)
    held.hold(8, main=12)
    held.hold(9, main=13)
    assert (held.peer.told, held.bridge.records) == ([], 8)
    assert held.reached("main", 8) == []
    assert held.reached("main", 12) == [8]
    assert held.bridge.records == 1
    assert held.reached("main", 13) == [8, 9]
    assert held.bridge.records == 0


def test_nothing_overtakes_what_waits_for_another_log() -> None:
    held = Held()
    held.hold(5, main=9, alarms=2)
    held.hold(6)
    assert held.reached("main", 9) == []
    assert held.reached("alarms", 2) == [6]


def test_many_small_commits_are_held_as_few() -> None:
    held = Held()
    for number in range(2, 1002):
        held.hold(number, main=number)
    assert len(held.acks._held) == HELD_MAX
    assert held.reached("main", 5) == [5]
    assert held.reached("main", 1000)[-1] < 1001
    assert held.reached("main", 1001)[-1] == 1001
    assert held.bridge.records == 0


def test_a_socket_that_takes_nothing_is_told_when_it_does_again() -> None:
    held = Held()
    held.hold(5, main=9)
    held.peer.can_be_told = False
    assert held.reached("main", 9) == []
    held.peer.can_be_told = True
    held.acks.due()
    assert held.reached("main", 10) == [5]


def test_a_socket_that_comes_and_goes_leaves_one_call_with_the_bridge() -> None:
    held = Held()
    held.hold(5, main=9)
    for _ in range(5):
        held.acks.due()
        held.reached("main", 3)
    assert len(held.bridge._waiting["main"]) == 1


def test_whoever_has_gone_is_told_nothing_and_counts_for_nothing() -> None:
    held = Held()
    held.hold(5, main=9)
    held.acks.close()
    assert held.bridge.records == 0
    assert held.reached("main", 9) == []


def test_a_mistake_in_telling_ends_this_connection_and_no_other() -> None:
    held = Held()
    held.hold(5, main=9)
    held.peer.breaks = True
    held.reached("main", 9)
    assert isinstance(held.peer.failed, RuntimeError)
    assert held.bridge.records == 0


@pytest.mark.parametrize("how", ["told", "closed"])
async def test_a_goodbye_waits_until_all_is_told_or_nobody_is_there(how: str) -> None:
    held = Held()
    held.hold(5, main=9)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(held.acks.told)
            await trio.testing.wait_all_tasks_blocked()
            if how == "told":
                held.reached("main", 9)
            else:
                held.acks.close()
