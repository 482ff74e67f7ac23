"""What rules derive while the agent is killed again and again is what an undisturbed one derives.

``EDGE_AGENT_TEST_KILLS`` says how often it is killed; each time costs a second.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import trio

from edge_agent.net.backoff import Backoff
from tests.end_to_end.keys import STORE
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to

KILLS = int(os.environ.get("EDGE_AGENT_TEST_KILLS", "6"))
STREAMS = 5
#: As many as are under way for as long as the kills take.
RECORDS = 500 * KILLS
RULES = """
[[rule]]
name = "minutes"
streams = ["s/*"]
window = "1m"
into = "minutes/{stream}"
lateness = "30s"

[[rule]]
name = "smooth"
streams = ["s/*"]
window = "5m"
every = "1m"
into = "smooth/{stream}"
lateness = "30s"

[[rule]]
name = "high"
streams = ["s/*"]
into = "high/{stream}"
alarm = { field = "a.t", above = 70, clear_below = 30, hold = "5s" }

[[rule]]
name = "drop"
streams = ["s/*"]
into = "drop/{stream}"
alarm = { field = "a.t", fall = 60, per = "1m", clear_below = 20 }

[[rule]]
name = "often"
streams = ["high/**"]
window = "10m"
into = "often/{stream}"
fields = ["value"]
lateness = "30s"
derived = true
"""
START_S = 1_780_308_000


def sent() -> list[tuple[str, dict[str, Any]]]:
    """Records of a wandering value, some out of order."""
    seeded, values = random.Random(7), [50.0] * STREAMS
    found = []
    for number in range(RECORDS):
        one = seeded.randrange(STREAMS)
        values[one] = min(100.0, max(0.0, values[one] + seeded.gauss(0, 12)))
        at = START_S + number / STREAMS * 2 - seeded.choice((0, 0, 0, 20))
        value = round(values[one], 1)
        found.append((f"s/{one}", {"time": at, "t": value, "a": {"t": value}}))
    # Another day: every window before it closes.
    last = {"time": START_S + 86_400, "t": 0, "a": {"t": 0}}
    return found + [(f"s/{one}", last) for one in range(STREAMS)]


async def send(agent: AgentProcess, *, slowly: bool) -> None:
    pace = Backoff(base=0.05, maximum=0.1)
    url = f"{agent.url}/ingest/other"
    async with producer_to(url, source="pi", backoff=pace) as producer:
        for number, (stream, record) in enumerate(sent()):
            await producer.send(record, stream=stream)
            if slowly and number % 100 == 0:
                await producer.flush()
        await producer.flush()


async def derived(agent: AgentProcess) -> dict[str, list[tuple[str, Any]]]:
    """By stream, in order."""
    found: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for record in sorted(await agent.records(), key=lambda record: int(record["seq"])):
        if record["source"].startswith("$rule/"):
            found[record["stream"]].append((record["time"], record["fields"]))
    return found


async def test_kills_at_any_moment_change_nothing_of_what_is_derived(tmp_path: Path) -> None:
    killed = AgentProcess(tmp_path, "killed", STORE + RULES)
    whole = AgentProcess(tmp_path, "whole", STORE + RULES)
    seeded = random.Random(11)
    async with agents(killed):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: send(killed, slowly=True))
            for _ in range(KILLS):
                await trio.sleep(seeded.random() * 0.3)
                await killed.kill()
                await killed.start()
        async with agents(whole):
            await send(whole, slowly=False)
            assert len(await whole.records("s/*")) == RECORDS + STREAMS

            async def is_settled() -> bool:
                expected = await derived(whole)
                found = await derived(killed)
                names = {"minutes", "smooth", "high", "drop", "often"}
                return found == expected and {name.split("/")[0] for name in found} == names

            await eventually(is_settled, describe="the same of both")
