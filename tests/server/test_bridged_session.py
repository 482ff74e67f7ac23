"""What a hub that bridges says to other agents, and when."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from edge_agent.bridge import UpstreamBridge
from edge_agent.server import bridged_session
from tests.patience import PATIENCE_S, eventually
from tests.server.support import Serving, closed, hurried, serving, session
from tests.server.test_agent_session import SOURCE, Agent, agent, block

OTHER = "aaaaaaaaaaaa/hub/main/backlog"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hello waits for as long as a test does; one that is about its end says so."""
    monkeypatch.setattr(bridged_session, "BRIDGE_S", 2 * PATIENCE_S)


def a_bridge() -> UpstreamBridge:
    bridge = UpstreamBridge()
    bridge.choose("jetstream", ("main",), is_whole=True)
    return bridge


async def stored(port: Serving, last: int) -> None:
    """Until so much is durable at the hub."""
    with trio.fail_after(PATIENCE_S):
        await port.log.wait_past("main", last - 1)


async def is_silent(other: Agent) -> bool:
    """Whether nothing is said; what would be said is on its way by then."""
    with trio.move_on_after(0.3):
        await other.socket.get_message()
        return False
    return True


async def test_an_ack_waits_until_the_upstream_has_what_it_is_about(tmp_path: Path) -> None:
    bridge = a_bridge()
    async with serving(tmp_path, bridge=bridge) as port, agent(port) as other:
        assert (await other.hello())["bridged"] is True
        await other.send(block(1, 3))
        await stored(port, 3)
        assert await is_silent(other)
        bridge.reached("main", 2)
        assert await is_silent(other)
        assert bridge.records == 3
        bridge.reached("main", 3)
        await other.acked(4)
        assert bridge.records == 0


async def test_without_a_bridge_acks_wait_for_the_disk_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        assert "bridged" not in await other.hello()
        await other.send(block(1, 3))
        await other.acked(4)


async def test_sensors_wait_for_the_disk_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, bridge=a_bridge()) as port, session(port) as sensor:
        await sensor.hello("pi")
        await sensor.send({"n": 1})
        await sensor.acked(2)


async def test_a_hello_waits_until_the_upstream_has_all_that_is_here(tmp_path: Path) -> None:
    bridge = a_bridge()
    async with serving(tmp_path, bridge=bridge) as port:
        async with agent(port) as other:
            await other.hello()
            await other.send(block(1, 3))
            await stored(port, 3)
        async with agent(port) as other, trio.open_nursery() as nursery:
            welcome: list[int] = []

            async def hello() -> None:
                welcome.append((await other.hello())["next"])

            nursery.start_soon(hello)
            await trio.sleep(0.3)
            assert not welcome
            bridge.reached("main", 3)
            await eventually(lambda: welcome == [4], "a welcome")


async def test_an_upstream_that_is_away_is_named_to_whoever_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridged_session, "BRIDGE_S", 0.2)
    monkeypatch.setattr(bridged_session, "LATER_S", 0.2)
    bridge = a_bridge()
    async with serving(tmp_path, bridge=bridge) as port:
        async with agent(port) as other:
            await other.hello()
            await other.send(block(1, 3))
            await stored(port, 3)
        async with agent(port) as other:
            told = await other.hello()
            assert (told["type"], told["code"]) == ("stop", "busy")
            assert 0.2 <= told["retry_after"] <= 0.4
            assert "jetstream" in told["message"]
        assert bridge.turned_away == 1
        # Who has nothing here yet is told nothing by its welcome.
        async with agent(port) as other:
            assert (await other.hello(OTHER))["type"] == "welcome"


async def test_what_was_here_before_and_is_left_out_is_not_acked_before_it_is_there(
    tmp_path: Path,
) -> None:
    bridge = a_bridge()
    async with serving(tmp_path, bridge=bridge) as port:
        async with agent(port) as other:
            await other.hello()
            await other.send(block(1, 3))
            await stored(port, 3)
        source = "aaaaaaaaaaaa/hub/main/resend"
        async with agent(port) as other:
            assert (await other.hello(source, resends=True))["resends"] is True
            await other.send(block(1, 3))
            assert await is_silent(other)
            assert port.log.last_seq("main") == 3
            bridge.reached("main", 3)
            await other.acked(4)


async def test_a_takeover_does_not_wait_for_acks_that_wait_for_the_upstream(
    tmp_path: Path,
) -> None:
    bridge = a_bridge()
    async with serving(tmp_path, bridge=bridge) as port, agent(port) as old:
        await old.hello()
        await old.send(block(1, 3))
        await stored(port, 3)
        async with agent(port) as new, trio.open_nursery() as nursery:
            welcome: list[int] = []

            async def hello() -> None:
                welcome.append((await new.hello())["next"])

            nursery.start_soon(hello)
            # The old one's claim is over, and only the upstream is waited for.
            await eventually(lambda: bridge._newcomers.statistics().tasks_waiting == 1, "a wait")
            bridge.reached("main", 3)
            await eventually(lambda: welcome == [4], "a welcome")
            await new.send(block(4, 1))
            await stored(port, 4)
            assert await is_silent(new)
            bridge.reached("main", 4)
            await new.acked(5)


async def test_a_stop_ends_in_time_and_tells_nothing_that_is_not_there(tmp_path: Path) -> None:
    bridge = a_bridge()
    listen = hurried(close_timeout=0.5)
    async with serving(tmp_path, bridge=bridge, listen=listen) as port, agent(port) as other:
        await other.hello()
        await other.send(block(1, 3))
        await stored(port, 3)
        port.server.stop()
        assert (await other.receive())["type"] == "stop"
        assert (await closed(other.socket))[0] == 1012
    assert bridge.records == 0


async def test_a_stop_tells_what_comes_to_be_there_meanwhile(tmp_path: Path) -> None:
    bridge = a_bridge()
    async with serving(tmp_path, bridge=bridge) as port, agent(port) as other:
        await other.hello()
        await other.send(block(1, 3))
        await stored(port, 3)
        port.server.stop()
        assert await is_silent(other)
        bridge.reached("main", 3)
        await other.acked(4)


async def test_a_bridge_that_is_put_up_is_waited_for_from_then_on(tmp_path: Path) -> None:
    bridge = UpstreamBridge()
    async with serving(tmp_path, bridge=bridge) as port, agent(port) as other:
        assert "bridged" not in await other.hello()
        await other.send(block(1, 3))
        await other.acked(4)
        bridge.choose("jetstream", ("main",), is_whole=True)
        await other.send(block(4, 1))
        await stored(port, 4)
        assert await is_silent(other)
        # What it is told then is what the disk has: its welcome has not said more.
        bridge.choose("")
        await other.acked(5)


async def test_a_session_that_was_promised_the_upstream_ends_with_the_bridge(
    tmp_path: Path,
) -> None:
    bridge = a_bridge()
    async with serving(tmp_path, bridge=bridge) as port:
        async with agent(port) as other:
            await other.hello()
            await other.send(block(1, 3))
            await stored(port, 3)
            bridge.choose("")
            told = await other.receive()
            assert (told["type"], told["code"]) == ("stop", "busy")
            assert "hello again" in told["message"]
        async with agent(port) as other:
            welcome = await other.hello()
            assert (welcome["next"], welcome.get("bridged")) == (4, None)


DONE = {"opening": "o1", "done": 51, "before": []}


@pytest.mark.parametrize(
    "says, goes_on",
    [
        ({"epoch": "another", "bridged": True}, 51),
        ({"epoch": "another"}, 11),
        ({"bridged": True}, 11),
    ],
)
async def test_what_another_bridging_hub_has_acknowledged_is_not_asked_for_again(
    tmp_path: Path, says: dict[str, object], goes_on: int
) -> None:
    async with serving(tmp_path, bridge=a_bridge()) as port, agent(port) as other:
        welcome = await other.hello(SOURCE, first=11, history=DONE, **says)
        assert welcome["next"] == goes_on


async def test_a_hub_that_does_not_bridge_asks_for_all_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        welcome = await other.hello(first=11, history=DONE, epoch="another", bridged=True)
        assert welcome["next"] == 11
