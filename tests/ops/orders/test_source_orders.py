"""What a person means who orders something of a source."""

from __future__ import annotations

import pytest

from edge_agent.forward import OrderRefused
from edge_agent.ops.orders.source_orders import SourceMove, meant, said, told_source
from edge_agent.store import SourceView

NS = 1_795_341_600_000_000_000
THERE = [
    SourceView("oven", 5, NS, True, "a"),
    SourceView("$agent/aa", 1, NS, True, "a"),
    SourceView("$forward/aa/hub/main/live", 7, NS, True, "a"),
    SourceView("$forward/aaa/hub/main/live", 7, NS, True, None),
]


def test_an_agent_is_meant_with_its_lanes_and_no_other() -> None:
    names = [one.name for one in meant(SourceMove("forget", "agent:aa"), THERE)]
    assert names == ["$agent/aa", "$forward/aa/hub/main/live"]
    # One whose lanes are older than owners is bound as well.
    names = [one.name for one in meant(SourceMove("move", "agent:aaa", "b"), THERE)]
    assert names == ["$forward/aaa/hub/main/live", "$agent/aaa"]


@pytest.mark.parametrize(
    "given, told",
    [
        (SourceMove("move", "oven"), "needs an identity"),
        (SourceMove("forget", "over"), "no source over"),
        (SourceMove("forget", "agent:bb"), "no source agent:bb"),
        (SourceMove("forget", "lane:aa/hub/main/live"), "goes with its agent: agent:aa"),
        (SourceMove("forget", "$forward/aa/hub/main/live"), "goes with its agent: agent:aa"),
    ],
)
def test_what_cannot_be_done_is_said(given: SourceMove, told: str) -> None:
    with pytest.raises(OrderRefused, match=told):
        meant(given, THERE)


def test_a_source_is_told_as_people_say_it() -> None:
    assert [said(one.name) for one in THERE[:3]] == ["oven", "agent:aa", "lane:aa/hub/main/live"]
    never = SourceView("oven", 1, 0, False, None)
    assert told_source(never) == {"source": "oven", "owner": None, "next": 1, "last_heard": None}
