"""Orders to a running agent: consumers and quarantine, each one entry in the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.config import Config, Http, Rule, Size, StoreConfig, Upstream
from edge_agent.config.quantities import Duration
from edge_agent.errors import ProtocolError
from edge_agent.forward.consumer_orders import LogRange, OrderRefused
from edge_agent.ops import Sources
from edge_agent.ops.orders.orders import (
    QUARANTINE_MAX,
    ConsumerOrder,
    MoveTarget,
    Orders,
    QuarantineOrder,
    target_of,
)
from edge_agent.security.tokens import Tokens, add_token
from edge_agent.store import Entry, Numbering, Position, Quarantined
from tests.ops.orders.test_routes import post
from tests.ops.real import Agent, agent
from tests.rules.support import in_force


def config(folder: Path) -> Config:
    return Config(
        http=Http(address="127.0.0.1:0"),
        store=StoreConfig(path=str(folder), size=Size(16 << 20)),
        upstream=(Upstream(name="hub", url="ws://hub:1/forward"),),
        rule=(Rule(name="hourly", streams=("**",), window=Duration(3600), into="{stream}/1h"),),
    )


def orders(running: Agent, folder: Path) -> Orders:
    return Orders(running.log, config(folder), running.clock, rules=in_force())


async def spoil(running: Agent, *bodies: bytes, stream: str = "a/1") -> None:
    items = tuple(Quarantined("bad_time", "why", stream, "pi", 0, 10**18, body) for body in bodies)
    ticket = await running.log.append(Entry(quarantine=items))
    await ticket.wait()


def shown(found: list[dict[str, Any]]) -> list[tuple[str, int, bool, bool]]:
    return [(one["consumer"], one["floor"], one["paused"], one["configured"]) for one in found]


async def test_configured_consumers_and_leftovers_are_listed(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1, 2, 3])
        await running.log.acknowledge(Position("upstream/old", "main", 2), durable=True)
        found = await orders(running, tmp_path).consumers()
        assert shown(found) == [
            ("upstream/old", 2, False, False),
            ("upstream/hub", 0, False, True),
            ("rule/hourly", 0, False, True),
        ]
        assert (found[0]["backlog"], found[0]["last"]) == (1, 3)


async def test_a_consumer_is_paused_moved_and_resumed(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", list(range(9)))
        given = orders(running, tmp_path)
        await running.log.acknowledge(Position("upstream/hub", "main", 5), durable=True)
        assert shown(await given.move(ConsumerOrder("pause", "hub"))) == [
            ("upstream/hub", 5, True, True)
        ]
        assert await running.log.is_paused("upstream/hub", "main")
        moved = await given.move(ConsumerOrder("rewind", "hub", to="3"))
        assert shown(moved) == [("upstream/hub", 2, True, True)]
        moved = await given.move(ConsumerOrder("skip", "hub", "main", to="end"))
        assert (moved[0]["floor"], moved[0]["skipped"]) == (9, 7)
        assert running.metrics.get("records_discarded_total", "main") == 7
        assert shown(await given.move(ConsumerOrder("resume", "hub")))[0][2] is False


async def test_a_time_is_looked_up_in_the_log(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1, 2])
        running.clock.advance(7200)
        await running.keep("a/1", [3, 4])
        moved = await orders(running, tmp_path).move(ConsumerOrder("skip", "hub", to="-30m"))
        assert moved[0]["floor"] == 2


async def test_what_makes_no_sense_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1, 2])
        given = orders(running, tmp_path)
        for order, match in (
            (
                ConsumerOrder("pause", "nobody"),
                r"no consumer upstream/nobody in any log; known are: .*upstream/hub",
            ),
            (ConsumerOrder("pause", "hub", "nolog"), "in nolog"),
            (ConsumerOrder("rewind", "hub", to="1"), "nothing between"),
            (ConsumerOrder("forget", "hub"), "is configured"),
            (ConsumerOrder("pause", "rule/hourly"), "is a rule: only"),
        ):
            with pytest.raises(OrderRefused, match=match):
                await given.move(order)
        with pytest.raises(ProtocolError, match="needs to"):
            await given.move(ConsumerOrder("skip", "hub"))


async def test_a_leftover_is_forgotten(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1])
        await running.log.acknowledge(Position("upstream/old", "main", 1), durable=True)
        assert await orders(running, tmp_path).move(ConsumerOrder("forget", "old")) == []
        assert await running.log.consumers() == []


async def test_entries_are_replayed_or_stay_with_the_reason(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await spoil(running, b'{"t": 1}', b"nonsense", b'[{"t": 2}, {"t": 3}]')
        done = await orders(running, tmp_path).settle(QuarantineOrder("replay"))
        assert [one["done"] for one in done] == [True, False, True]
        assert [one.get("records") for one in done] == [1, None, 2]
        assert [number for number, _ in await running.log.quarantine(0, 9)] == [2]
        assert running.log.last_seq("main") == 3


async def test_two_who_replay_at_one_time_store_nothing_twice(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await spoil(running, b'{"t": 1}')
        given = orders(running, tmp_path)
        refused: list[str] = []

        async def one() -> None:
            try:
                await given.settle(QuarantineOrder("replay", (1,)))
            except OrderRefused as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
        assert running.log.last_seq("main") == 1 and len(refused) == 1


async def test_entries_are_dropped_by_number_and_a_wrong_number_drops_none(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await spoil(running, b"a", b"b", b"c")
        given = orders(running, tmp_path)
        with pytest.raises(OrderRefused, match="no entry 9"):
            await given.settle(QuarantineOrder("drop", (1, 9)))
        await given.settle(QuarantineOrder("drop", (1, 3)))
        assert [number for number, _ in await running.log.quarantine(0, 9)] == [2]


async def test_an_order_that_names_too_many_entries_does_nothing_and_says_so(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path, serve=False) as running:
        await spoil(running, b"a")
        given = orders(running, tmp_path)
        with pytest.raises(OrderRefused, match=r"1001 entries were named, .* at most 1000"):
            await given.settle(QuarantineOrder("drop", tuple(range(1, QUARANTINE_MAX + 2))))
        assert len(await running.log.quarantine(0, 9)) == 1


async def test_only_what_may_be_read_is_shown(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        for number in range(250):
            await spoil(running, b"x", stream="open/1" if number % 3 else "secret/1")
        given = orders(running, tmp_path)
        found = await given.quarantined(0, 1000, lambda stream: stream == "secret/1")
        assert len(found) == 84 and {one.stream for _, one in found} == {"secret/1"}
        assert [n for n, _ in await given.quarantined(1, 2, lambda stream: True)] == [2, 3]


async def test_the_agents_own_notes_are_no_consumers(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        note = Position("$wear", "main", 0, b"note")
        await (await running.log.append(Entry(positions=(note,)))).wait()
        assert await running.log.position("$wear", "main") == (0, b"note")
        found = await orders(running, tmp_path).consumers()
        assert "$wear" not in [one["consumer"] for one in found]


async def test_an_order_for_another_agent_is_refused(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await spoil(running, b"x")
        given = orders(running, tmp_path)
        with pytest.raises(OrderRefused, match="for agent feed"):
            await given.move(ConsumerOrder("pause", "hub", agent="feed"))
        with pytest.raises(OrderRefused, match="for agent feed"):
            await given.settle(QuarantineOrder("drop", None, "feed"))
        own = running.log.identity.agent_id
        done = await given.settle(QuarantineOrder("drop", None, own))
        assert done == [{"number": 1, "done": True}]


LINES = LogRange(first=11, last=90)


@pytest.mark.parametrize("text, seq", [("start", 11), ("end", 91), ("47", 47)])
def test_where_to_is_a_seq_or_an_end(text: str, seq: int) -> None:
    assert target_of(text, LINES, 10**18) == MoveTarget(seq)


def test_an_age_is_a_time_and_nonsense_is_refused_with_what_was_expected() -> None:
    assert target_of("-1h", LINES, 7200 * 10**9) == MoveTarget(None, 3600 * 10**9)
    assert target_of("1970-01-01T00:00:05Z", LINES, 0) == MoveTarget(None, 5 * 10**9)
    with pytest.raises(ProtocolError, match=r"neither start, end nor a seq: .* got .noon"):
        target_of("noon", LINES, 0)


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
