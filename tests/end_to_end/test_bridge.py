"""A hub that acknowledges only what JetStream has: agents, a hub and a nats-server, all real."""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from edge_agent.output.printable import grouped
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to, run_command
from tests.forward.sinks.nats.server import NatsServer, Reader

HUB = """
[store]
size = "32MiB"
[log.main]
commit_interval = "20ms"
when_full = "refuse"
[[upstream]]
name = "jetstream"
url = "{url}"
batch_age = "20ms"
batch_records = 200
backoff_base = "20ms"
backoff_max = "200ms"
"""
BRIDGE = HUB.replace('name = "jetstream"', 'name = "jetstream"\nbridge = true')
SITE = """
[store]
size = "32MiB"
[log.main]
commit_interval = "20ms"
[[upstream]]
name = "hub"
url = "{url}/forward"
batch_age = "20ms"
backoff_base = "50ms"
backoff_max = "500ms"
"""
SOME = 1500


class Chain:
    """A site's agent, its hub, and the server behind that."""

    def __init__(self, folder: Path, hub: str = BRIDGE) -> None:
        self.server = NatsServer(folder / "nats")
        self.hub = AgentProcess(folder, "hub", hub.format(url=self.server.url))
        self.site = AgentProcess(folder, "site", SITE.format(url=self.hub.url))
        self._sent = 0

    async def send(self, count: int = SOME) -> None:
        """Records that are durable at the site."""
        async with producer_to(f"{self.site.url}/ingest/t/1", source="pi") as producer:
            await producer.send([{"n": self._sent + n} for n in range(count)])
        self._sent += count

    async def upstream(self, agent: AgentProcess) -> dict[str, Any]:
        (found,) = (await agent.get("/api/status"))["upstreams"]
        return dict(found)

    async def left(self) -> int:
        """How many records the site still keeps for the hub."""
        return int((await self.upstream(self.site))["backlog_records"])

    async def arrives(self) -> None:
        """All that was sent is in the stream, each record once, and acknowledged to the site."""

        async def is_all() -> bool:
            return len(await self.stored()) >= self._sent and not await self.left()

        await eventually(is_all, describe="everything")
        assert await self.stored() == list(range(self._sent))

    async def stored(self) -> list[int]:
        def read() -> list[int]:
            with Reader(self.server.port) as reader:
                return [one["fields"]["n"] for one in reader.records()]

        return await trio.to_thread.run_sync(read)

    async def hub_has(self, count: int) -> None:
        async def has() -> bool:
            return await self.hub.count() >= count

        await eventually(has, describe="at the hub")

    async def order(self, *words: str) -> None:
        """A person's word at the hub."""
        verb, *more = words
        url = f"http://127.0.0.1:{self.hub.http_port}"
        done = await run_command("consumer", verb, "jetstream", *more, "--url", url)
        assert done.returncode == 0, done.stderr

    async def shown(self) -> str:
        """What a person is shown at the hub."""
        url = f"http://127.0.0.1:{self.hub.http_port}"
        return (await run_command("status", "--url", url)).stdout

    async def serve(self, what: str, *more: object) -> None:
        await trio.to_thread.run_sync(getattr(self.server, what), *more)


@asynccontextmanager
async def chain(folder: Path, hub: str = BRIDGE) -> AsyncIterator[Chain]:
    made = Chain(folder, hub)
    try:
        await made.serve("start")
        async with agents(made.hub, made.site):
            yield made
    finally:
        made.server.kill()


async def test_a_hub_that_loses_its_disk_while_the_engine_is_down_loses_no_record(
    tmp_path: Path,
) -> None:
    async with chain(tmp_path) as here:
        await here.send()
        await here.arrives()
        await here.serve("kill")
        await here.send()
        await here.hub_has(2 * SOME)

        async def says() -> bool:
            found = await here.upstream(here.hub)
            return bool(found["bridge"] == {"records": SOME, "turned_away": 0})

        await eventually(says, describe="status")
        waits = "acknowledgements to agents wait for it (bridge)"
        assert f"jetstream: {waits}: {grouped(SOME)} records" in await here.shown()
        assert await here.left() == SOME
        await here.hub.kill()
        shutil.rmtree(here.hub.store)
        await here.hub.start()
        await here.hub_has(SOME)
        assert await here.left() == SOME
        await here.serve("start")
        await here.arrives()
        assert (await here.upstream(here.hub))["bridge"]["records"] == 0


async def test_without_bridge_the_hub_acknowledges_what_is_on_its_disk(tmp_path: Path) -> None:
    async with chain(tmp_path, HUB) as here:
        await here.serve("kill")
        await here.send()

        async def is_done() -> bool:
            return not await here.left()

        await eventually(is_done, describe="acknowledged")
        assert (await here.upstream(here.hub))["bridge"] is None
        await here.serve("start")
        await here.arrives()


async def test_kills_of_the_hub_leave_every_record_in_the_stream_once(tmp_path: Path) -> None:
    async with chain(tmp_path) as here:
        for turn in range(4):
            await here.send()

            async def some(least: int = turn * SOME + 1) -> bool:
                return len(await here.stored()) >= least

            await eventually(some, describe="some of it")
            await here.hub.kill()
            if turn == 1:
                await here.serve("end", signal.SIGKILL)
                await here.serve("start")
            await here.hub.start()
        await here.arrives()


async def test_a_hub_that_was_restarted_promises_nothing_before_the_engine_is_back(
    tmp_path: Path,
) -> None:
    async with chain(tmp_path) as here:
        await here.serve("kill")
        await here.send()
        await here.hub_has(SOME)
        # Also a stop that waits for what is under way says nothing that is not so.
        assert await here.hub.stop() == 0
        assert await here.left() == SOME
        await here.hub.start()

        async def is_put_off() -> bool:
            found = await here.upstream(here.site)
            return "jetstream" in (found["error"] or "")

        await eventually(is_put_off, describe="a refusal that names the upstream")
        assert await here.left() == SOME
        assert (await here.upstream(here.hub))["bridge"]["turned_away"] >= 1
        await here.serve("start")
        await here.arrives()


async def test_a_reload_takes_the_bridge_away_and_puts_it_up_again(tmp_path: Path) -> None:
    async with chain(tmp_path) as here:

        async def is_done() -> bool:
            return not await here.left()

        async def reload(config: str, *, bridges: bool) -> None:
            here.hub.config = config.format(url=here.server.url)
            here.hub.write_config()
            assert here.hub.process is not None
            here.hub.process.send_signal(signal.SIGHUP)

            async def is_taken_up() -> bool:
                found = await here.upstream(here.hub)
                return (found["bridge"] is not None) is bridges

            await eventually(is_taken_up, describe="the reload")

        await here.serve("kill")
        await here.send()
        await here.hub_has(SOME)
        assert await here.left() == SOME
        await reload(HUB, bridges=False)
        await eventually(is_done, describe="acknowledged by the disk")
        await reload(BRIDGE, bridges=True)
        await here.send()
        await here.hub_has(2 * SOME)
        assert await here.left() == SOME
        await here.serve("start")
        await here.arrives()


async def test_an_order_to_skip_counts_as_there_and_a_pause_waits(tmp_path: Path) -> None:
    async with chain(tmp_path) as here:
        await here.send()
        await here.arrives()
        await here.order("pause")
        await here.send()
        await here.hub_has(2 * SOME)
        assert await here.left() == SOME
        await here.order("skip", "--to", "end", "--yes")

        async def is_done() -> bool:
            return not await here.left()

        await eventually(is_done, describe="skipped")
        assert await here.stored() == list(range(SOME))


async def test_what_the_upstream_is_not_sent_passes_with_the_rest(tmp_path: Path) -> None:
    for_others = BRIDGE.replace("bridge = true", 'bridge = true\nstreams = ["other/**"]')
    async with chain(tmp_path, for_others) as here:
        await here.send()
        await here.hub_has(SOME)

        async def is_done() -> bool:
            return not await here.left()

        await eventually(is_done, describe="acknowledged")
        assert await here.stored() == []


async def test_a_hub_bridges_to_a_hub_as_well(tmp_path: Path) -> None:
    top = AgentProcess(tmp_path, "top", SITE.partition("[[upstream]]")[0])
    hub = AgentProcess(tmp_path, "hub", BRIDGE.format(url=f"{top.url}/forward"))
    site = AgentProcess(tmp_path, "site", SITE.format(url=hub.url))

    async def left() -> int:
        (found,) = (await site.get("/api/status"))["upstreams"]
        return int(found["backlog_records"])

    async def is_done() -> bool:
        return not await left()

    async with agents(hub, site):
        async with producer_to(f"{site.url}/ingest/t/1", source="pi") as producer:
            await producer.send([{"n": n} for n in range(SOME)])

        async def is_at_the_hub() -> bool:
            return await hub.count() == SOME

        await eventually(is_at_the_hub, describe="at the hub")
        assert await left() == SOME
        async with agents(top):
            await eventually(is_done, describe="acknowledged")
            assert await top.count() == SOME
