from __future__ import annotations

import msgspec
import pytest

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.sink import LaneResume, Resumed
from edge_agent.forward.sinks.agent.resume import (
    Greeting,
    HubState,
    greet,
    history_of,
    hub_state,
    judge_welcome,
    moved,
    source_name,
)
from edge_agent.store import Identity

OWN, HUB = "aaaa", "bbbb"


def kept(hub: str = HUB, own: str = OWN) -> bytes:
    return msgspec.msgpack.encode(HubState(hub, own))


def resume(state: bytes | None, *, floor: int = 50, first: int = 11, last: int = 90) -> LaneResume:
    return LaneResume(floor=floor, first=first, last=last, state=state)


def agreed(where: LaneResume, epoch: str, next_number: int) -> Resumed | Greeting:
    return judge_welcome(greet(where, OWN), epoch, next_number, where, OWN)


def test_the_first_contact_begins_with_the_first_record_held() -> None:
    where = resume(None, floor=0, first=1)
    assert greet(where, OWN) == Greeting(None, 1, None)
    assert agreed(where, HUB, 1) == Resumed(1, kept())


def test_a_state_of_another_kind_of_upstream_is_a_first_contact() -> None:
    assert greet(resume(b"\x93\x01\x90\x00"), OWN).epoch is None


def test_a_known_hub_says_where_to_go_on() -> None:
    where = resume(kept())
    assert greet(where, OWN) == Greeting(HUB, 11, HubState(HUB, OWN))
    assert agreed(where, HUB, 51) == Resumed(51)
    assert agreed(where, HUB, 71) == Resumed(71)
    assert agreed(where, HUB, 91) == Resumed(91)


def test_a_known_hub_below_our_floor_has_lost_data() -> None:
    assert agreed(resume(kept()), HUB, 31) == Resumed(31)


def test_a_hub_of_another_epoch_gets_all_that_is_held_and_the_gap_is_told() -> None:
    assert agreed(resume(kept()), "cccc", 11) == Resumed(11, kept("cccc"), gap=10)


def test_a_hub_that_counts_records_we_never_had_has_another_history() -> None:
    judged = agreed(resume(kept()), HUB, 92)
    assert isinstance(judged, Resumed)
    assert "never here" in judged.forked
    assert agreed(resume(kept()), HUB, 91) == Resumed(91)


def test_a_copy_greets_under_its_own_lane_and_names_the_one_that_it_had() -> None:
    who = Identity("5" * 32, "c0c0", "a1", 0, lane="c0c0", opening="0" * 16)
    where = resume(kept())
    said = greet(where, who.epoch, who.lane)
    assert (said.epoch, said.first) == (HUB, where.first)
    history = history_of(who, "hub", "main", where)
    assert history is not None
    assert (history.copied, history.done) == ("a1/hub/main/live", where.floor + 1)
    assert source_name("a1", "hub", "main", who.lane) == "a1/hub/main/live-c0c0"
    judged = judge_welcome(said, HUB, 51, where, who.epoch, lane=who.lane)
    assert isinstance(judged, Resumed) and judged.next == 51
    agreed_on = HubState(HUB, who.epoch, lane=who.lane)
    assert hub_state(judged.state) == agreed_on
    # Once that is durable, it goes on like any other.
    again = resume(judged.state)
    assert greet(again, who.epoch, who.lane) == Greeting(HUB, where.first, agreed_on)
    told = history_of(who, "hub", "main", again)
    assert told is not None and not told.copied
    # A salvage of it keeps the lane, and greets as any salvaged store does.
    assert greet(again, "saved", who.lane) == Greeting(None, 51, agreed_on)


def test_a_hub_that_says_so_has_another_history_whatever_its_number() -> None:
    said = greet(resume(kept()), OWN)
    judged = judge_welcome(said, HUB, 60, resume(kept()), OWN, forked=True)
    assert isinstance(judged, Resumed)
    assert "other records" in judged.forked


def test_after_our_store_was_salvaged_what_is_beyond_the_floor_goes_on() -> None:
    where = resume(kept(own="dead"))
    assert greet(where, OWN) == Greeting(None, 51, HubState(HUB, "dead"))
    assert agreed(where, HUB, 51) == Resumed(51, kept())


def test_after_both_stores_were_lost_everything_held_is_sent_again() -> None:
    where = resume(kept(own="dead"))
    assert agreed(where, "cccc", 51) == Greeting(None, 11, None)
    again = judge_welcome(Greeting(None, 11, None), "cccc", 11, where, OWN)
    assert again == Resumed(11, kept("cccc"))


def test_an_answer_that_does_not_follow_is_not_believed() -> None:
    with pytest.raises(SinkUnavailable, match="wants number 3"):
        agreed(resume(None), HUB, 3)


def test_the_source_is_agent_upstream_log_and_lane() -> None:
    assert source_name("9b", "hub", "main") == "9b/hub/main/live"


@pytest.mark.parametrize("before", [kept(), None, b"\x93\x01\x90\x00"])
@pytest.mark.parametrize("epoch", [HUB, "cccc"])
def test_a_floor_that_a_person_moved_is_agreed_on_anew_whoever_the_hub_is(
    before: bytes | None, epoch: str
) -> None:
    where = resume(moved(before))
    assert greet(where, OWN).first == 51 and greet(where, OWN).epoch is None
    assert agreed(where, epoch, 51) == Resumed(51, kept(epoch))


def test_the_notes_that_a_hub_has_are_remembered_for_as_long_as_it_is_the_same_hub() -> None:
    told = msgspec.msgpack.encode(HubState(HUB, OWN, noted=7))
    assert hub_state(told) == HubState(HUB, OWN, noted=7)
    assert hub_state(msgspec.msgpack.encode([HUB, OWN])) == HubState(HUB, OWN)
    assert hub_state(None) is hub_state(b"\x93\x01\x90\x00") is None
    assert agreed(resume(told), HUB, 51) == Resumed(51)
    another = agreed(resume(told), "cccc", 11)
    assert isinstance(another, Resumed)
    assert hub_state(another.state) == HubState("cccc", OWN)


def bridged(where: LaneResume, epoch: str, next_number: int) -> Resumed | Greeting:
    return judge_welcome(greet(where, OWN), epoch, next_number, where, OWN, bridged=True)


def promised(hub: str = HUB, own: str = OWN, since: int = 0) -> bytes:
    return msgspec.msgpack.encode(HubState(hub, own, bridged=since))


def test_what_the_acks_of_a_hub_mean_is_kept_before_the_first_of_them() -> None:
    assert bridged(resume(kept()), HUB, 51) == Resumed(51, promised(since=50))
    assert bridged(resume(promised()), HUB, 51) == Resumed(51)
    assert agreed(resume(promised()), HUB, 51) == Resumed(51, kept())


def test_another_hub_that_bridges_is_not_sent_what_was_acknowledged() -> None:
    where = resume(promised())
    assert greet(where, OWN).bridged and not greet(resume(kept()), OWN).bridged
    assert bridged(where, "cccc", 51) == Resumed(51, promised("cccc"))
    # Also by a store that was salvaged, which says no epoch.
    salvaged = resume(promised(own="dead"))
    assert bridged(salvaged, "cccc", 51) == Resumed(51, promised("cccc"))


def test_where_either_of_two_hubs_does_not_bridge_all_that_is_held_is_sent_again() -> None:
    assert agreed(resume(promised()), "cccc", 11) == Resumed(11, kept("cccc"), gap=10)
    assert bridged(resume(kept()), "cccc", 11) == Resumed(11, promised("cccc", since=10), gap=10)
    with pytest.raises(SinkUnavailable, match="wants number 51"):
        agreed(resume(promised()), "cccc", 51)
    with pytest.raises(SinkUnavailable, match="wants number 51"):
        bridged(resume(kept()), "cccc", 51)


def test_what_was_acknowledged_before_a_hub_bridged_is_promised_by_nobody() -> None:
    # Records from 11 on are held, and up to 20 they were acknowledged from that hub's disk.
    where = resume(promised(since=20))
    assert not greet(where, OWN).bridged
    assert bridged(where, "cccc", 11) == Resumed(11, promised("cccc", since=10), gap=10)
    assert greet(resume(promised(since=10)), OWN).bridged


def test_a_floor_that_a_person_moves_is_no_promise_of_the_hubs() -> None:
    where = resume(moved(promised()))
    assert not greet(where, OWN).bridged
    assert agreed(where, "cccc", 51) == Resumed(51, kept("cccc"))
