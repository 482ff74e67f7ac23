"""Numbers and names belong to whoever proved who it is: strangers with good tokens of their own try
to use another's, on real agents, and nobody loses a record.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest

from edge_agent.client import Backoff, Trouble
from edge_agent.security.tokens import add_token
from edge_agent.store import Engine, StoreSettings, encode_runs
from edge_agent.system.clock import SystemClock
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import ForeignBlock, Origin, Run
from edge_agent.wire import Segment
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command
from tests.end_to_end.talking import ForwardingPeer, Peer, forwarding

STORE = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'
NOW_NS = 1_795_341_600_000_000_000
PI7 = "777777777777"
LANE = "hub/main/live"


class Secrets:
    """A hub's tokens file, and the secret of each token."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokens.json"
        self.folder = folder
        self.of: dict[str, str] = {}

    def add(self, name: str, **what: Any) -> str:
        self.of[name] = add_token(self.path, name, **what)
        return self.of[name]

    def file(self, name: str) -> Path:
        path = self.folder / f"{name}.secret"
        path.write_text(self.of[name])
        return path

    @property
    def config(self) -> str:
        return f'[listen]\ntokens = "{self.path}"\n'


def upstream(hub: AgentProcess, token: Path) -> str:
    return (
        f'[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{hub.port}/forward"\n'
        f'token_file = "{token}"\nbackoff_base = "50ms"\nbackoff_max = "200ms"\n'
    )


def block(first: int, count: int, path: Sequence[str], stream: str = "a/b") -> ForeignBlock:
    body = b"".join(msgpack.packb({"n": -first - index}) for index in range(count))
    run = Run(stream, "forged", first, NOW_NS, True, count, body, NOW_NS, NOW_NS)
    raw = encode_runs([run])
    origin = Origin(path[0], "epoch0", "main", first, bytes(16), 1, NOW_NS, True, tuple(path))
    return ForeignBlock(first, first + count - 1, count, 0, len(raw), raw, NOW_NS, NOW_NS, origin)


async def agent_id(agent: AgentProcess) -> str:
    found: str = (await agent.get("/api/status"))["agent"]["id"]
    return found


async def fill(agent: AgentProcess, numbers: range) -> None:
    async with producer_to(f"{agent.url}/ingest/greenhouse/1", source="pi") as producer:
        await producer.send([{"n": n} for n in numbers])
        await producer.flush()


async def arrived(hub: AgentProcess, count: int) -> list[int] | None:
    found = [record["fields"]["n"] for record in await hub.records("greenhouse/**")]
    return found if len(found) >= count else None


async def lane_error(agent: AgentProcess) -> str:
    (shown,) = (await agent.get("/api/status"))["upstreams"]
    return shown["error"] or ""


async def ordered(agent: AgentProcess, secret: Path | None, *arguments: str) -> Any:
    where = ["--url", f"http://127.0.0.1:{agent.http_port}", "--json"]
    where += [] if secret is None else ["--token-file", str(secret)]
    done = await run_command(*arguments, *where)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def refused(peer: ForwardingPeer, told: dict[str, Any], code: str) -> str:
    """It was a stop with ``code``, and then the close; the sentence."""
    while told["type"] == "ack":
        told = await peer.hear()
    assert (told["type"], told["code"]) == ("stop", code), told
    assert await peer.hear_close() == 1008
    message: str = told["message"]
    return message


@pytest.mark.parametrize("numbered", [False, True])
async def test_a_stranger_who_says_an_agents_name_takes_nothing_from_it(
    tmp_path: Path, numbered: bool
) -> None:
    secrets = Secrets(tmp_path)
    for name in ("pi-7", "pi-8"):
        secrets.add(name, forward=True)
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config)
    pi8 = AgentProcess(tmp_path, "pi-8", STORE + upstream(hub, secrets.file("pi-8")))
    async with agents(hub, pi8):
        await fill(pi8, range(1))
        await eventually(partial(arrived, hub, 1))
        await ordered(pi8, None, "consumer", "pause", "hub")
        await fill(pi8, range(1, 1001))
        theirs = f"{await agent_id(pi8)}/{LANE}"
        async with forwarding(hub, secrets.of["pi-7"]) as stranger:
            more = {"epoch": (await hub.get("/api/status"))["agent"]["epoch"], "first": 2}
            told = await stranger.hello(theirs, **(more if numbered else {}))
            if told["type"] == "welcome":
                # What happened before there were owners: one empty range and one block.
                await stranger.say(Segment(2, 1000, "filtered"), block(1001, 1, [PI7]))
                await stranger.hear_ack(1002)
            text = await refused(stranger, told, "forbidden_source")
        assert "belongs to 'pi-8'" in text
        assert f"edge-agent source move agent:{theirs[:12]} --to pi-7" in text
        await ordered(pi8, None, "consumer", "resume", "hub")
        found = await eventually(partial(arrived, hub, 1001), describe="all of pi-8's records")
        assert found == [*range(1001)]


async def test_a_stranger_cannot_throw_an_agent_or_a_sensor_out(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    for name in ("pi-7", "pi-8"):
        secrets.add(name, forward=True, write=["**"], sources=["**"])
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config)
    pi8 = AgentProcess(tmp_path, "pi-8", STORE + upstream(hub, secrets.file("pi-8")))
    async with agents(hub, pi8), await Peer.open(hub, token=secrets.of["pi-8"]) as sensor:
        # It has sent nothing yet, and still the name is its own.
        assert await sensor.hello("oven") == 1
        await fill(pi8, range(1))
        await eventually(partial(arrived, hub, 1))
        async with forwarding(hub, secrets.of["pi-7"]) as stranger:
            told = await stranger.hello(f"{await agent_id(pi8)}/{LANE}")
            await refused(stranger, told, "forbidden_source")
        async with await Peer.open(hub, token=secrets.of["pi-7"]) as stranger_too:
            await stranger_too.say({"type": "hello", "source": "oven"})
            assert (await stranger_too.hear())["code"] == "forbidden_source"
        await sensor.say({"n": 1})
        await sensor.hear_ack(2)
        (shown,) = (await pi8.get("/api/status"))["upstreams"]
        assert (shown["connected"], shown["failures"]) == (True, 0)


async def test_nobody_uses_up_anothers_numbers(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    for name in ("a", "b"):
        secrets.add(name, write=["greenhouse/**"], sources=["**"])
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config)
    told: list[Trouble] = []
    async with agents(hub):
        pace = Backoff(base=0.05, maximum=0.1, slow=0.2)
        make = partial(producer_to, f"{hub.url}/ingest/greenhouse/1", source="oven", backoff=pace)
        buffer = tmp_path / "oven.buffer"
        async with make(token=secrets.of["b"], buffer_path=buffer) as producer:
            await producer.send([{"n": n} for n in range(50)])
            await producer.flush()
        async with await Peer.open(hub, "/ingest/greenhouse/1", token=secrets.of["a"]) as stranger:
            await stranger.say({"type": "hello", "source": "oven"})
            answer = await stranger.hear()
            if answer["type"] == "welcome":
                await stranger.say([{"n": -n} for n in range(50)])
                await stranger.hear_ack(101)
            assert answer["code"] == "forbidden_source"
            assert "oven belongs to 'b', not to 'a'" in answer["message"]
        # Our own client in the stranger's place: it keeps what it has and says why.
        other = make(
            token=secrets.of["a"], on_error=told.append, buffer_path=tmp_path / "a",
            close_timeout=0.05,
        )  # fmt: skip
        async with other:
            await other.send({"n": 1000})
            await eventually(lambda: _two(told), describe="the refusal, twice")
        assert {(one.kind, one.code) for one in told} == {("refused", "forbidden_source")}
        assert "edge-agent source move oven --to a" in told[0].message
        assert other.unacked == 1
        async with make(token=secrets.of["b"], buffer_path=buffer) as producer:
            await producer.send([{"n": n} for n in range(50, 100)])
            await producer.flush()
        assert await arrived(hub, 100) == [*range(100)]


async def _two(told: list[Trouble]) -> bool:
    return len(told) > 1


async def test_nobody_says_another_agents_origin_streams_or_clock(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    for name in ("pi-7", "pi-8"):
        secrets.add(name, forward=True)
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config)
    pi8 = AgentProcess(tmp_path, "pi-8", STORE + upstream(hub, secrets.file("pi-8")))
    async with agents(hub, pi8):
        await fill(pi8, range(1))
        await eventually(partial(arrived, hub, 1))
        theirs = await agent_id(pi8)
        at = 1
        for path in ([theirs], [theirs, PI7]):
            async with forwarding(hub, secrets.of["pi-7"]) as stranger:
                assert (await stranger.hello(f"{PI7}/{LANE}"))["next"] == at
                note = ClockNote(theirs, b"b" * 16, 5, 2**63 - 1)
                late = ClockNote(theirs, b"c" * 16, 5, 1)
                # What stands before it is kept.
                await stranger.say(block(at, 2, [PI7]), notes=[note, late])
                at += 2
                await stranger.say(block(at, 1, path))
                text = await refused(stranger, await stranger.hear(), "forbidden_origin")
            if len(path) > 1:
                assert "belongs to 'pi-8'" in text and "source move" in text
        async with forwarding(hub, secrets.of["pi-7"]) as stranger:
            await stranger.hello(f"{PI7}/{LANE}")
            await stranger.say(block(at, 1, [PI7], f"$agents/{theirs}/health"))
            told = await stranger.hear()
            assert (told["type"], told["code"], told["at"]) == ("nack", "forbidden_stream", at)
        forged = [one["fields"]["n"] for one in await hub.records() if one["source"] == "forged"]
        assert forged == [-1, -2, -3, -4]
        assert await hub.records(f"$agents/{theirs}/health") == []
        await hub.stop()
        assert not [boot for boot in clocks(hub) if boot[0] == theirs]
        await hub.start()


def clocks(hub: AgentProcess) -> dict[tuple[str, bytes], int]:
    """What a stopped agent knows of the clocks of others."""
    engine = Engine.open(
        hub.store, StoreSettings(size=16 << 20), clock=SystemClock(), entropy=os.urandom
    )
    try:
        return dict(engine.clock_offsets())
    finally:
        engine.close()


async def test_junk_about_clocks_pushes_nobody_elses_out(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    for name in ("pi-7", "pi-8"):
        secrets.add(name, forward=True)
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config)
    ours, boot = "888888888888", b"8" * 16
    async with agents(hub):
        for name, agent, notes in (
            ("pi-8", ours, [ClockNote(ours, boot, 77, 5)]),
            ("pi-7", PI7, [ClockNote(PI7, bytes(14) + n.to_bytes(2), 5, 1) for n in range(2250)]),
        ):
            async with forwarding(hub, secrets.of[name]) as peer:
                await peer.hello(f"{agent}/{LANE}")
                for begin in range(0, len(notes), 200):
                    await peer.say(notes=notes[begin : begin + 200])
                await peer.say(block(1, 1, [agent]))
                await peer.hear_ack(2)
        await hub.stop()
        known = clocks(hub)
        assert known[ours, boot] == 77
        assert len([one for one in known if one[0] == PI7]) == 256
        await hub.start()


async def test_one_token_cannot_take_every_place(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    for name in ("mallory", "good"):
        secrets.add(name, forward=True, write=["**"], sources=["**"])
    secrets.add("me", read=["**"], admin=True)
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config + "[limits]\nsources = 40\n")
    async with agents(hub):
        welcome, answer = 0, {}
        for n in range(45):
            async with await Peer.open(hub, token=secrets.of["mallory"]) as peer:
                await peer.say({"type": "hello", "source": f"s{n}"})
                answer = await peer.hear()
                if answer["type"] != "welcome":
                    break
                welcome += 1
                await peer.say({"n": n})
                # Who is welcome is not refused with its first record.
                await peer.hear_ack(2)
        assert welcome == 20
        assert (answer["type"], answer["code"]) == ("stop", "too_many_sources")
        assert "too many sources of mallory" in answer["message"]
        async with await Peer.open(hub, token=secrets.of["good"]) as peer:
            assert await peer.hello("oven") == 1
            await peer.say({"n": 1})
            await peer.hear_ack(2)
        async with forwarding(hub, secrets.of["good"]) as link:
            assert (await link.hello(f"{PI7}/{LANE}"))["type"] == "welcome"
        health = (await hub.get("/api/status"))["health"]
        assert health["status"] == "degraded"
        assert [one["code"] for one in health["reasons"]] == ["too_many_sources"]
        assert "Too many sources of mallory" in health["reasons"][0]["message"]
        done = await run_command(
            "doctor", "--offline", "--config", str(hub.write_config()), "--data", str(hub.store)
        )
        assert "too many sources of mallory" not in done.stderr
        shown = await ordered(hub, secrets.file("me"), "source", "list", "--owner", "mallory")
        assert len(shown) == 20


async def test_a_source_is_moved_on_a_running_agent_and_forgotten_on_a_stopped_one(
    tmp_path: Path,
) -> None:
    secrets = Secrets(tmp_path)
    for name in ("a", "b b"):
        secrets.add(name, write=["**"], sources=["**"])
    secrets.add("me", admin=True)
    admin = secrets.file("me")
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config)
    async with agents(hub):
        async with await Peer.open(hub, token=secrets.of["a"]) as old:
            await old.hello("oven")
            await old.say([{"n": n} for n in range(5)])
            await old.hear_ack(6)
            async with await Peer.open(hub, token=secrets.of["b b"]) as peer:
                await peer.say({"type": "hello", "source": "oven"})
                told = await peer.hear()
            # What the sentence says to do, is what does it.
            words = shlex.split(told["message"].partition("edge-agent ")[2])
            (moved,) = await ordered(hub, admin, *words)
            assert (moved["source"], moved["owner"], moved["next"]) == ("oven", "b b", 1)
            assert await old.hear_close() in (1012, 1008)
        async with await Peer.open(hub, token=secrets.of["b b"]) as peer:
            # Nothing that the other used up is told to be its own.
            epoch = (await hub.get("/api/status"))["agent"]["epoch"]
            assert await peer.hello("oven", epoch=epoch, first=3) == 3
            await peer.say({"n": 100})
            await peer.hear_ack(4)
        async with await Peer.open(hub, token=secrets.of["a"]) as old:
            await old.say({"type": "hello", "source": "oven"})
            assert "belongs to 'b b'" in (await old.hear())["message"]
        await hub.stop()
        where = ["--config", str(hub.write_config()), "--data", str(hub.store)]
        done = await run_command("source", "forget", "oven", "--yes", *where)
        assert done.returncode == 0, done.stderr
        await hub.start()
        async with await Peer.open(hub, token=secrets.of["a"]) as old:
            assert await old.hello("oven") == 1
        async with await Peer.open(hub, token=secrets.of["b b"]) as peer:
            await peer.say({"type": "hello", "source": "oven"})
            assert await peer.hear_close() == 1008


async def test_an_agent_that_comes_another_way_keeps_everything_until_it_is_moved(
    tmp_path: Path,
) -> None:
    secrets, at_site = Secrets(tmp_path), Secrets(tmp_path / "site-tokens")
    at_site.folder.mkdir()
    for name in ("pi", "site"):
        secrets.add(name, forward=True)
    secrets.add("me", admin=True)
    admin = secrets.file("me")
    at_site.add("pi", forward=True)
    hub = AgentProcess(tmp_path, "hub", STORE + secrets.config)
    site = AgentProcess(
        tmp_path, "site", STORE + at_site.config + upstream(hub, secrets.file("site"))
    )
    pi = AgentProcess(tmp_path, "pi", STORE + upstream(hub, secrets.file("pi")))
    async with agents(hub, site, pi):
        await fill(pi, range(10))
        await eventually(partial(arrived, hub, 10))
        await pi.stop()
        pi.config = STORE + upstream(site, at_site.file("pi")).replace('"hub"', '"site"')
        await pi.start()
        await fill(pi, range(10, 20))

        async def told() -> bool:
            return "belongs to 'pi'" in await lane_error(site)

        await eventually(told, describe="the refusal in the site's status")
        assert f"source move agent:{await agent_id(pi)} --to site" in await lane_error(site)
        (lane,) = (await site.get("/api/status"))["upstreams"]
        assert lane["backlog_records"] >= 10
        await ordered(hub, admin, "source", "move", f"agent:{await agent_id(pi)}", "--to", "site")
        found = await eventually(partial(arrived, hub, 30), describe="the new records, too")
        # The first ten came both ways: another upstream is sent what is held.
        assert sorted(set(found)) == [*range(20)]
