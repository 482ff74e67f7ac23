"""Who may be whom: the table of `owners`, and what a refusal tells a person to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge_agent.config.shape import Limits
from edge_agent.errors import ProtocolError
from edge_agent.security.tokens import Tokens, add_token, revoke_token, rotate_token
from edge_agent.server.admission import Grant, grant
from edge_agent.server.source_owners import Owners, judge
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import source_key
from edge_agent.wire import Segment
from tests.server.support import Serving, Session, closed, serving, session
from tests.server.test_agent_session import SOURCE, agent, block
from tests.store.support import sealed

OTHER = "bbbbbbbbbbbb"


@pytest.mark.parametrize(
    "owner, namers, spellers, over",
    [
        (None, "", "", None),
        (None, "me", "", None),
        # A pattern bounds its own token, and keeps nobody out before it comes.
        (None, "you", "", None),
        (None, "me you", "me", None),
        ("me", "", "", None),
        # What it was the first to use stays its own until the other one comes.
        ("me", "you", "you", None),
        ("you", "me", "", "you"),
        ("you", "me you", "me", "you"),
        (None, "you", "you", "refused"),
        (None, "me you", "you", "refused"),
        ("you", "", "", "refused"),
        ("you", "you", "", "refused"),
        ("you", "me you", "", "refused"),
        ("you", "me you", "me you", "refused"),
        ("you", "me you", "you", "refused"),
    ],
)
def test_the_first_or_whom_a_token_names(
    owner: str | None, namers: str, spellers: str, over: str | None
) -> None:
    named, spelt = namers.split(), spellers.split()
    if over != "refused":
        assert judge("oven", "me", owner, named, spelt) == over
        return
    with pytest.raises(ProtocolError) as caught:
        judge("oven", "me", owner, named, spelt)
    assert (caught.value.code, caught.value.close_code) == ("forbidden_source", 1008)
    assert "oven belongs to 'you'" in caught.value.message


def test_a_name_that_a_shell_would_take_apart_is_quoted() -> None:
    with pytest.raises(ProtocolError, match="--to 'my token'"):
        judge("oven", "my token", "you", ())


async def test_an_identity_has_a_share_by_how_many_can_send(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    assert Owners(None, 1000).share == 1000
    add_token(path, "reader", read=["**"])
    tokens = Tokens(path)
    owners = Owners(tokens, 1000)
    for count, share in ((1, 1000), (2, 500), (3, 333), (4, 250), (5, 250)):
        add_token(path, f"t{count}", forward=True)
        await tokens.refresh()
        assert owners.share == share


@pytest.mark.parametrize("agent_id", ["", "a b", "\x1b[2J", "a/b", "a" * 65])
def test_what_is_no_agents_id_is_bound_to_nobody(tmp_path: Path, agent_id: str) -> None:
    path = tmp_path / "tokens.json"
    add_token(path, "a", forward=True)
    owners = Owners(Tokens(path), 1000)
    with pytest.raises(ProtocolError, match="no agent's id"):
        owners.judge_agent(Grant("a", "a"), agent_id, None)


def test_a_token_that_names_agents_brings_no_others(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    add_token(path, "a", forward=True, agents=["aaaaaaaaaaaa"])
    add_token(path, "b", forward=True)
    tokens = Tokens(path)
    first, second = (grant(one) for one in tokens.all())
    owners = Owners(tokens, 1000)
    assert owners.judge_agent(first, "aaaaaaaaaaaa", None) is None
    with pytest.raises(ProtocolError, match="--agent"):
        owners.judge_agent(first, "bbbbbbbbbbbb", None)
    with pytest.raises(ProtocolError, match="whose token names it"):
        owners.judge_agent(second, "aaaaaaaaaaaa", None)
    assert owners.judge_agent(first, "aaaaaaaaaaaa", "b") == "b"


# Over real sockets, on a real store.


@asynccontextmanager
async def sensor(port: Serving, secret: str) -> AsyncIterator[Session]:
    headers = [(b"Authorization", b"Bearer " + secret.encode())]
    async with session(port, headers=headers) as found:
        yield found


def bearer(secret: str) -> dict[str, Any]:
    return {"headers": [(b"Authorization", b"Bearer " + secret.encode())]}


def three(path: Path) -> list[str]:
    """A token that names a source, and two that may say any."""
    named = add_token(path, "named", write=["**"], sources=["house/1", "**"])
    return [named, *(add_token(path, name, write=["**"], sources=["**"]) for name in "ab")]


async def test_a_source_that_a_token_names_is_nobody_elses_to_begin(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    named, a, _ = three(path)
    async with serving(tmp_path, tokens=path) as port:
        async with sensor(port, a) as other:
            told = await other.hello("house/1")
            assert told["code"] == "forbidden_source" and "'named'" in told["message"]
            assert (await closed(other.socket))[0] == 1008
        async with sensor(port, named) as rightful:
            assert (await rightful.hello("house/1"))["next"] == 1
            assert port.metrics.get("stops_total", "forbidden_source") == 1


async def test_what_a_token_names_it_gets_from_whoever_was_first_with_no_number_believed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.json"
    secret = add_token(path, "a", write=["**"], sources=["**"])
    async with serving(tmp_path, tokens=path) as port, sensor(port, secret) as other:
        await other.hello("house/1")
        await other.send([{"n": n} for n in range(50)])
        await other.acked(51)
    named = add_token(path, "named", write=["**"], sources=["house/*"])
    async with serving(tmp_path, tokens=path) as port:
        epoch = port.log.identity.epoch
        async with sensor(port, secret) as other, sensor(port, named) as rightful:
            # It was here first, and goes on until the other one comes.
            assert (await other.hello("house/1"))["next"] == 51
            told = await rightful.hello("house/1", epoch=epoch, first=20)
            assert told["next"] == 20
            assert (await closed(other.socket))[0] == 4409
            await rightful.send([{"m": n} for n in range(5)])
            await rightful.acked(25)
        async with sensor(port, secret) as other:
            assert (await other.hello("house/1"))["code"] == "forbidden_source"
        assert len(await port.records()) == 55


async def test_of_two_that_race_for_a_new_source_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    _, a, b = three(path)
    async with serving(tmp_path, tokens=path) as port:
        port.held.hold()
        async with sensor(port, a) as first, sensor(port, b) as second:
            for one in (first, second):
                await one.send({"type": "hello", "source": "oven"})
            port.held.let_go()
            told = [await first.receive(), await second.receive()]
        assert sorted(one["type"] for one in told) == ["stop", "welcome"], told
        (refused,) = (one for one in told if one["type"] == "stop")
        assert refused["code"] == "forbidden_source"
        winner = "b" if told[0] is refused else "a"
        assert await port.log.owner_of("oven") == winner
        assert port.metrics.get("takeovers_total") == 0


async def test_a_token_with_a_new_secret_or_added_again_is_who_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    _, a, b = three(path)
    async with serving(tmp_path, tokens=path) as port, sensor(port, a) as before:
        await before.hello("oven")
        await before.send({"n": 1})
        await before.acked(2)
    changed = rotate_token(path, "a")
    assert changed is not None and rotate_token(path, "nobody") is None
    async with serving(tmp_path, tokens=path) as port, sensor(port, changed) as after:
        assert (await after.hello("oven"))["next"] == 2
    revoke_token(path, "a")
    again = add_token(path, "a", write=["**"], sources=["**"])
    async with serving(tmp_path, tokens=path) as port:
        async with sensor(port, b) as other:
            assert (await other.hello("oven"))["code"] == "forbidden_source"
        async with sensor(port, again) as after:
            assert (await after.hello("oven"))["next"] == 2


async def test_what_was_stored_before_there_were_owners_is_the_first_rightful_users(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.json"
    named, a, b = three(path)
    async with serving(tmp_path) as port:
        pass
    env = open_environment(tmp_path / "agent" / "store", 8 << 20)
    with writing(env) as txn:
        for source in ("oven", "house/1", "$forward/" + SOURCE):
            # Three elements, as they were written.
            raw = msgpack.packb([51, 1_795_341_600_000_000_000, True])
            txn.put(source_key(source), sealed(source_key(source), raw))
    env.close()
    forwarder = add_token(path, "pi", forward=True)
    thief = add_token(path, "thief", forward=True)
    async with serving(tmp_path, tokens=path) as port:
        async with sensor(port, a) as first:
            # Its numbering goes on: nothing is sent twice after an update.
            assert (await first.hello("oven", epoch=port.log.identity.epoch, first=49))[
                "next"
            ] == 51
        async with sensor(port, b) as second:
            assert (await second.hello("oven"))["code"] == "forbidden_source"
        async with sensor(port, b) as second:
            assert (await second.hello("house/1"))["code"] == "forbidden_source"
        async with sensor(port, named) as third:
            assert (await third.hello("house/1"))["next"] == 51
        async with agent(port, **bearer(forwarder)) as pi:
            assert (await pi.hello())["next"] == 51
        async with agent(port, **bearer(thief)) as stranger:
            assert (await stranger.hello())["code"] == "forbidden_source"
        # Another lane of the same agent, too.
        async with agent(port, **bearer(thief)) as stranger:
            told = await stranger.hello("aaaaaaaaaaaa/other/main/live")
            assert told["code"] == "forbidden_source"


async def test_without_tokens_everybody_may_be_everything_and_nothing_changes_hands(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.json"
    _, a, b = three(path)
    async with serving(tmp_path, tokens=path) as port, sensor(port, a) as one:
        await one.hello("oven")
    async with serving(tmp_path) as port, session(port) as anybody:
        assert (await anybody.hello("oven"))["type"] == "welcome"
        await anybody.send({"n": 1})
        await anybody.acked(2)
    async with serving(tmp_path, tokens=path) as port:
        async with sensor(port, b) as other:
            assert (await other.hello("oven"))["code"] == "forbidden_source"
        async with sensor(port, a) as one:
            assert (await one.hello("oven"))["next"] == 2


async def test_nobody_is_welcome_whose_first_record_would_be_refused(tmp_path: Path) -> None:
    limits = Limits(sources=3)
    from dataclasses import replace

    from tests.server.support import SETTINGS

    settings = replace(SETTINGS, sources_max=3)
    async with serving(tmp_path, limits=limits, settings=settings) as port:
        answers = []
        for n in range(5):
            async with session(port) as one:
                answers.append(await one.hello(f"s{n}"))
        assert [one["type"] for one in answers] == ["welcome"] * 3 + ["stop"] * 2
        assert answers[3]["code"] == "too_many_sources"
        async with session(port) as known:
            assert (await known.hello("s1"))["type"] == "welcome"
        # Those that rest give way to new ones; none that is connected does.
        async with session(port) as resting:
            await resting.hello("s0")
            port.clock.advance(2 * 3600)
            async with session(port) as new:
                assert (await new.hello("s7"))["type"] == "welcome"
            assert {one.name for one in await port.log.sources()} == {"s0", "s7"}


async def test_streams_that_a_forwarders_token_does_not_name_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = add_token(path, "pi", forward=True, write=["house/**"], sources=["**"])
    async with serving(tmp_path, tokens=path) as port, agent(port, **bearer(secret)) as pi:
        await pi.hello()
        await pi.send(
            block(1, 2, stream="house/1"),
            block(3, 2, stream="office/1"),
            block(5, 1, stream="$health"),
            Segment(6, 6, "filtered"),
        )
        told = await pi.receive()
        assert (told["type"], told["at"], told["code"]) == ("nack", 3, "forbidden_stream")
        await pi.acked(7)
        streams = [record.stream for record in await port.records()]
        assert streams == ["house/1", "house/1", "$agents/aaaaaaaaaaaa/health"]
        assert await port.quarantine() == [("forbidden_stream", 3)]


async def test_a_chain_may_bring_who_came_by_it_first(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    site, other = (add_token(path, name, forward=True) for name in ("site", "other"))
    sensors, sites = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
    async with serving(tmp_path, tokens=path) as port:
        async with agent(port, **bearer(site)) as one:
            await one.hello(f"{sites}/hub/main/live")
            await one.send(block(1, 1, path=(sites,)), block(2, 1, path=(sensors, sites)))
            await one.acked(3)
        async with agent(port, **bearer(other)) as two:
            await two.hello("cccccccccccc/hub/main/live")
            good, bad = (
                block(1, 1, path=("cccccccccccc",)),
                block(2, 1, path=(sensors, "cccccccccccc")),
            )
            await two.send(good, bad, block(3, 1, path=("cccccccccccc",)))
            told = await two.receive()
            while told["type"] == "ack":
                assert told["next"] == 2
                told = await two.receive()
            assert (told["type"], told["code"]) == ("stop", "forbidden_origin")
            assert "agent:aaaaaaaaaaaa belongs to 'site'" in told["message"]
        # Nothing was used up: it is sent again, and taken once it may be.
        async with agent(port, **bearer(other)) as two:
            assert (await two.hello("cccccccccccc/hub/main/live"))["next"] == 2


async def test_an_agent_is_a_copy_of_lanes_of_its_own_identity_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    victim, liar = (add_token(path, name, forward=True) for name in ("victim", "liar"))
    house = add_token(path, "house", write=["**"], sources=["**"])
    theirs, copy = f"{OTHER}/hub/main/live", {"opening": "b", "done": 3}
    async with serving(tmp_path, tokens=path) as port:
        async with agent(port, **bearer(victim)) as pi:
            await pi.hello()
            await pi.send(block(1, 9))
            await pi.acked(10)
        known = {"epoch": port.log.identity.numbering, "first": 1}
        # Of another's, of its own that is not here, and of nothing that is a lane.
        for number, named in enumerate((SOURCE, theirs, "x", "$forward/" + SOURCE)):
            async with agent(port, **bearer(liar)) as stranger:
                said = {"history": copy | {"copied": named}, **known}
                welcome = await stranger.hello(f"{OTHER}/hub/main/live-{number}", **said)
                assert (welcome["type"], welcome["next"]) == ("welcome", 1)
        # A sensor that is a copy keeps its name, and has none to speak of.
        async with sensor(port, house) as pi:
            await pi.hello("pi", history=copy | {"copied": "elsewhere"}, **known)
        assert port.metrics.total("sources_copied_total") == 0
        assert port.server.copies.times == 0
        async with agent(port, **bearer(victim)) as other:
            said = {"history": copy | {"copied": SOURCE}, **known}
            assert (await other.hello(SOURCE + "-c0c0", **said))["next"] == 3
        seen = port.server.copies
        assert (seen.times, seen.source) == (1, f"$forward/{SOURCE}-c0c0")


async def test_the_numbers_of_a_lane_that_was_anothers_say_nothing_about_a_copy(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.json"
    first = add_token(path, "first", forward=True)
    async with serving(tmp_path, tokens=path) as port, agent(port, **bearer(first)) as pi:
        await pi.hello()
        await pi.send(block(1, 9))
        await pi.acked(10)
    named = add_token(path, "named", forward=True, agents=[SOURCE.partition("/")[0]])
    async with serving(tmp_path, tokens=path) as port, agent(port, **bearer(named)) as pi:
        known = {"epoch": port.log.identity.numbering, "first": 1}
        history = {"opening": "b", "done": 3, "copied": SOURCE}
        # Rather twice than lost: what somebody else had acknowledged is none of its own.
        assert (await pi.hello(SOURCE + "-c0c0", history=history, **known))["next"] == 1
        assert port.server.copies.times == 0
