"""What a person means by a source, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.forward.consumer_orders import OrderRefused
from edge_agent.ops import Sources
from edge_agent.ops.orders.sources import SourceMove, meant, said, told_source
from edge_agent.store import Entry, Numbering, SourceView
from edge_agent.tokens import Tokens, add_token
from tests.ops.orders.test_routes import post
from tests.ops.real import agent

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


async def test_a_source_is_moved_and_forgotten_over_http(tmp_path: Path) -> None:
    parted: list[tuple[set[str], set[str]]] = []
    async with agent(tmp_path, change=lambda sources: _parting(sources, parted)) as running:
        numbering = Numbering("oven", 1, 51, owner="a")
        await (await running.log.append(Entry(numbering=numbering))).wait()
        (shown,) = (await running.json("/api/sources"))["sources"]
        assert (shown["owner"], shown["next"]) == ("a", 51)
        for keep, expected in ((True, 51), (False, 1)):
            order = {"order": "move", "source": "oven", "to": "b", "keep_numbers": keep}
            status, told = await post(running, "/api/sources", order)
            assert status == 200
            assert (told["sources"][0]["owner"], told["sources"][0]["next"]) == ("b", expected)
        assert parted == [({"oven"}, {"a"}), ({"oven"}, {"b"})]
        await post(running, "/api/sources", {"order": "forget", "source": "oven"})
        assert (await running.json("/api/sources"))["sources"] == []
        status, told = await post(running, "/api/sources", {"order": "forget", "source": "oven"})
        assert (status, told["error"]["code"]) == (409, "refused")


async def test_a_running_agent_moves_a_source_to_no_token_that_is_not_there(tmp_path: Path) -> None:
    secret = add_token(file := tmp_path / "tokens", "a", write=["**"], admin=True)
    admin = f"Authorization: Bearer {secret}"
    tokens = Tokens(file)
    async with agent(tmp_path / "d", change=lambda s: replace(s, tokens=tokens)) as running:
        await (await running.log.append(Entry(numbering=Numbering("oven", 1, 51)))).wait()
        order = {"order": "move", "source": "oven", "to": "b"}
        status, told = await post(running, "/api/sources", order, admin)
        assert status == 409 and "no token called b" in told["error"]["message"]
        # One that was made a moment ago is known.
        add_token(file, "b", write=["**"])
        assert (await post(running, "/api/sources", order, admin))[0] == 200


def _parting(sources: Sources, parted: list[tuple[set[str], set[str]]]) -> Sources:
    return replace(sources, part=lambda names, who: parted.append((set(names), set(who))))
