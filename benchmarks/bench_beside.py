"""What upstreams cost one another, a hub, and an agent that has nothing to send.

- **A dead second upstream**: the same drain with and without one at which nobody answers, one after
  the other in turns, so that what else the machine does meets both alike.
- **Ten agents into one hub**: their backlogs are made first, the hub comes last; the rate is that
  of all together, from the last look that found the hub empty until it holds everything.
- **Idle memory**: RssAnon of an agent with one upstream of a kind that cannot be reached, less that
  of an agent with none. A record waits for it: a kind may load what it needs when there is first
  something to send. A kind whose library is not there is left out, and said so. PostgreSQL, whose
  library is the largest, is also measured where it is connected and has sent that record.
- **A NATS leaf node** that stored messages while there was no hub, as a peer of the drain to a hub
  (`bench_drain`); that of MQTT, Mosquitto's bridge, stands in ``bench_upstreams``.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks import bench_drain
from benchmarks.bench_drain import DIGESTED
from benchmarks.ports import free_port
from benchmarks.processes import Agent
from benchmarks.section import Section
from benchmarks.table import markdown, number
from benchmarks.upstreams import leaf
from benchmarks.upstreams.servers import postgres_folder, postgresql

AGENTS: Final = 10
_DEAD: Final = '[[upstream]]\nname = "dead"\nurl = "ws://127.0.0.1:1/forward"\n'
#: Kind to its URL, what else its configuration needs, and a library that it does not go without.
KINDS: Final = {
    "agent": ("ws://127.0.0.1:1/forward", "", ""),
    "http": ("http://127.0.0.1:1/in", "", ""),
    "influx": ("http://127.0.0.1:1/write?db=x", 'format = "line"', ""),
    "nats": ("nats://127.0.0.1:1", "", ""),
    "mqtt": ("mqtt://127.0.0.1:1", "", ""),
    "postgres": ("postgresql://edge@127.0.0.1:1/edge", "", "psycopg"),
    "kafka": ("kafka://127.0.0.1:1", "", "confluent_kafka"),
}
_SETTLED_S: Final = 10.0


def section(folder: Path, tiny: bool) -> Section:
    """Three tables, and the goals."""
    rounds, records = (1, 5_000) if tiny else (7, 2_000_000)
    ratio = dead_second(folder / "dead", records, rounds)
    each = 2_000 if tiny else 500_000
    agents = 2 if tiny else AGENTS
    rate = many_agents(folder / "ten", each, agents)
    memory, lacking = idle_memory(folder / "idle", 0.5 if tiny else _SETTLED_S, tiny=tiny)
    rows = [
        ("records per CPU second with a dead second upstream, of those without", f"{ratio:.3f}"),
        (f"{agents} agents into one hub, {each:,} records each, records/s", number(rate)),
        *((f"idle upstream of the kind {kind}, RssAnon", f"{mb:.1f} MB") for kind, mb in memory),
    ]
    try:
        peer = leaf.run(folder / "leaf", records=1_000 if tiny else 1_000_000)[
            "messages_per_second"
        ]
        rows.append(("peer of a drain to a hub: a NATS leaf node, messages/s", number(peer)))
    except FileNotFoundError as error:
        lacking.append(f"a NATS leaf node: not installed: {error}")
    text = "## Upstreams beside one another, and idle\n\n" + markdown(("what", "figure"), rows)
    text += "".join(f"\n{line}\n" for line in lacking)
    figures = {
        "dead_second": 1 - ratio,
        "ten_agents": rate,
        "idle_upstream": max((mb for _, mb in memory), default=0.0),
    }
    return Section(text, figures)


def dead_second(folder: Path, records: int, rounds: int) -> float:
    """Records per CPU second of agent and hub with a dead upstream beside, as part of those
    without: the median over pairs of runs, of which each other one begins with the other way.
    """
    ratios = []
    for n in range(rounds):
        found: dict[str, float] = {}
        for beside in ("", _DEAD) if n % 2 == 0 else (_DEAD, ""):
            found[beside] = bench_drain.run(folder, records=records, beside=beside).efficiency
        ratios.append(found[_DEAD] / found[""])
    return statistics.median(ratios)


def many_agents(folder: Path, records: int, agents: int = AGENTS) -> float:
    """Records a second that a hub takes from so many agents, ``records`` from each."""
    port = free_port()
    config = (
        f'{DIGESTED}[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{port}/forward"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n'
    )
    with ExitStack() as running:
        for n in range(agents):
            bench_drain.fill(folder / f"{n}" / "data", records, 1_000)
            running.callback(Agent(folder / f"{n}", config, http=False).stop)
        hub = Agent(folder / "hub", port=port)
        running.callback(hub.stop)
        first, _ = bench_drain.wait_for(hub, 1)
        _, last = bench_drain.wait_for(hub, agents * records)
    return agents * records / (last - first)


def idle_memory(
    folder: Path, settled_s: float, *, tiny: bool = False
) -> tuple[list[tuple[str, float]], list[str]]:
    """MB that an upstream of each kind takes while it cannot be reached, and PostgreSQL's also when
    it is connected; and what was left out.
    """
    found, lacking = [], []
    none = _memory(folder / "none", "", settled_s)
    for kind, (url, more, library) in _kinds(tiny):
        if library and importlib.util.find_spec(library) is None:
            lacking.append(f"{kind}: not installed: {library}")
            continue
        config = f'[[upstream]]\nname = "far"\nurl = "{url}"\n{more}\n'
        found.append((kind, _memory(folder / kind, config, settled_s) - none))
        if library == "psycopg" and not postgres_folder().is_dir():
            lacking.append(f"{kind}, connected: no server is installed")
        elif library == "psycopg":
            connected = _connected_postgres(folder / "connected", settled_s)
            found.append((f"{kind}, connected", connected - none))
    return found, lacking


def _connected_postgres(folder: Path, settled_s: float) -> float:
    folder.mkdir(parents=True)
    secret = folder / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    with postgresql(free_port()) as server:
        upstream = f'[[upstream]]\nname = "far"\nurl = "{server.url}"\n'
        used = _memory(folder, f'{upstream}password_file = "{secret}"\n', settled_s)
        assert server.psql("SELECT count(*) FROM records") == "1"
    return used


def _kinds(tiny: bool) -> Iterator[tuple[str, tuple[str, str, str]]]:
    yield from list(KINDS.items())[: 1 if tiny else None]


def _memory(folder: Path, config: str, settled_s: float) -> float:
    bench_drain.fill(folder / "data", 1, 1)
    agent = Agent(folder, config)
    try:
        time.sleep(settled_s)
        return agent.memory_mb()
    finally:
        agent.stop()
