"""A fleet in small: many agents, a hub, JetStream behind it, and outages.

``python -m benchmarks.fleet --agents 1000`` starts a hub (a real agent) and a nats-server, a few
real agents that forward to the hub, and speaks the rest as sessions of their own, which send as
agents do: a burst of what waited. The hub is killed as often as asked; everybody comes back. At the
end all that was sent has been acked, and JetStream has every record once.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import tempfile
import time
from base64 import b64decode
from functools import partial
from pathlib import Path

import trio

from benchmarks.light_client import LightClient
from benchmarks.peers.nats import ask
from benchmarks.peers.peer import program
from benchmarks.ports import free_port
from benchmarks.processes import Agent, Load, Server

HUB = """
[listen]
connections = {connections}
[[upstream]]
name = "jetstream"
url = "nats://127.0.0.1:{nats}"
backoff_max = "1s"
"""
SITE = """
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{hub}/forward"
backoff_max = "1s"
"""
TIMEOUT_S = 300.0


def run(
    folder: Path, *, agents: int = 50, real: int = 2, records: int = 100, outages: int = 2
) -> dict[str, float]:
    """One fleet, from its start until everything has arrived.

    Args:
        folder: for all stores; empty.
        agents: in all.
        real: of these, real agents.
        records: of each agent, between two outages.
        outages: how often the hub is killed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * agents + 1000), hard))
    nats, hub_port = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nats.conf").write_text(
        f'listen: "127.0.0.1:{nats}"\njetstream {{ store_dir: "{folder / "js"}" }}\n'
    )
    command = [program("nats-server"), "--config", str(folder / "nats.conf")]
    server = Server(command, nats, folder / "nats")
    config = HUB.format(connections=agents + 100, nats=nats)
    sites: list[Agent] = []
    hub = Agent(folder / "hub", config, port=hub_port)
    try:
        idle_mb = hub.memory_mb()
        sites += [
            Agent(folder / f"site{n}", SITE.format(hub=hub_port), http=False) for n in range(real)
        ]
        fleet = [
            LightClient(hub_port, f"a/{n}", f"127.0.{1 + n % 250}.1", random.Random(n))
            for n in range(agents - real)
        ]
        seconds, peak_mb, hub = trio.run(_live, hub, config, fleet, sites, records, outages)
        expected = agents * records * (outages + 1)
        payload_bytes = _arrived(nats, expected)
        return {
            "agents": agents,
            "records": expected,
            "records_per_second": expected / seconds,
            "seconds": seconds,
            "hub_idle_mb": idle_mb,
            "hub_peak_mb": peak_mb,
            "hub_kb_per_connection": (peak_mb - idle_mb) * 1000 / agents,
            "stream_bytes_per_record": payload_bytes / expected,
        }
    finally:
        for one in (*sites, hub, server):
            one.stop(signal.SIGTERM)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _live(
    hub: Agent,
    config: str,
    fleet: list[LightClient],
    sites: list[Agent],
    records: int,
    outages: int,
) -> tuple[float, float, Agent]:
    peak_mb = 0.0
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for one in fleet:
            nursery.start_soon(one.run)
        for round_ in range(outages + 1):
            if round_:
                await trio.to_thread.run_sync(hub.stop, signal.SIGKILL)
            for one in fleet:
                one.put(*({"n": round_ * records + n, "t": 21.5} for n in range(records)))
            for n, site in enumerate(sites):
                load = Load(site.port, records=records, batch=10, connections=1, source=f"r{n}")
                await trio.to_thread.run_sync(load.run)
            if round_:
                again = partial(Agent, hub.folder, config, port=hub.port)
                hub = await trio.to_thread.run_sync(again)
            goal = records * (round_ + 1)
            with trio.fail_after(TIMEOUT_S):
                while any(one.acked < goal for one in fleet):
                    await trio.sleep(0.1)
                    peak_mb = max(peak_mb, hub.memory_mb())
        nursery.cancel_scope.cancel()
    return time.perf_counter() - began, peak_mb, hub


def _arrived(nats: int, expected: int) -> int:
    """Bytes in the stream, once it has as many records as were sent; it is read for that."""
    deadline = time.monotonic() + TIMEOUT_S
    found, seq, size = 0, 1, 0
    while found < expected:
        state = ask(nats, "$JS.API.STREAM.INFO.EDGE", {})["state"]
        assert isinstance(state, dict)
        size = int(state["bytes"])
        for at in range(seq, int(state["last_seq"]) + 1):
            got = ask(nats, "$JS.API.STREAM.MSG.GET.EDGE", {"seq": at})["message"]
            assert isinstance(got, dict)
            found += _lines(got["data"])
            seq = at + 1
        if time.monotonic() > deadline:
            raise SystemExit(f"{found} of {expected} records in the stream")
        time.sleep(0.1)
    if found != expected:
        raise SystemExit(f"{found} records in the stream, {expected} were sent")
    return size


def _lines(data: object) -> int:
    return b64decode(str(data)).count(b"\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("agents", 50), ("real", 2), ("records", 100), ("outages", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(Path(folder) / "fleet", **given), indent=2))


if __name__ == "__main__":
    main()
