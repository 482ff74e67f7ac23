"""Three boots of one board, each wrong in its own way, before the eyes of a hub."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.end_to_end.clocked_agent import set_clock
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.end_to_end.talking import metric
from tests.end_to_end.test_clock_jump import AGENT, HUB, retention_has_looked
from tests.patience import PATIENCE_S

COUNT = 5
HOUR_S = 3600
WINDOW = """[[rule]]
name = "w"
streams = ["pi"]
window = "1s"
idle = "1s"
lateness = "0s"
into = "{{stream}}/1s"
"""


def is_since(began_s: float, record: dict[str, Any]) -> bool:
    """Whether its time, as it is shown, is one since then."""
    return began_s - 1 <= datetime.fromisoformat(record["time"]).timestamp() <= time.time() + 1


async def test_each_boot_is_put_right_by_its_own_error_and_the_one_never_set_is_marked(
    tmp_path: Path,
) -> None:
    clock, began_s = tmp_path / "clock", time.time()
    booted_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    right_s = int(time.time()) - booted_s
    # What the wall clock is off by when it wakes, and whether it is ever set.
    boots = [(10 - booted_s, False), (right_s + 3 * HOUR_S, True), (20 - booted_s, True)]
    hub = AgentProcess(tmp_path, "hub", HUB)
    agent = AgentProcess(tmp_path, "agent", (AGENT + WINDOW).format(port=hub.port))
    agent.module = ("tests.end_to_end.clocked_agent",)
    agent.environment = {"EDGE_AGENT_TEST_CLOCK": str(clock)}

    sent = 0

    async def send() -> None:
        nonlocal sent
        async with producer_to(f"{agent.url}/ingest/pi", source="pi") as sensor:
            for _ in range(COUNT):
                sent += 1
                await sensor.send({"n": sent})
            await sensor.flush(PATIENCE_S)

    async def forwarded() -> bool:
        return len(await hub.records("pi")) == sent

    async def summarised() -> bool:
        found = await agent.records("pi/1s")
        return sent == sum(int(record["fields"]["n_count"]) for record in found)

    async with agents(hub):
        for number, (wall_s, is_set) in enumerate(boots, 1):
            set_clock(clock, wall_s=wall_s, synced=False, number=number)
            async with agents(agent):
                await send()
                # Uncorrected, because nobody knows better yet.
                await eventually(forwarded, describe="what was sent at the hub")
                if is_set:
                    set_clock(clock, wall_s=right_s, synced=True, number=number)
                    await send()
                    await eventually(forwarded, describe="what was sent at the hub")
                await retention_has_looked(clock)
                for name in ("records_discarded_total", "records_trimmed_total"):
                    assert await metric(agent, name) == 0
                held = await agent.records("pi")
                recent = await agent.records("pi", **{"from": "-10m"})
                # The windows of a boot end when its board falls silent, or with the next boot.
                if number == len(boots):
                    await eventually(summarised, describe="windows of every boot")
                aggregates = await agent.records("pi/1s")

        async def put_right() -> bool:
            words = [record["time_quality"] for record in await hub.records("pi")]
            return words.count("corrected") == 2 * COUNT

        await eventually(put_right, describe="the notes about both clocks at the hub")
        arrived = await hub.records("pi")

    assert [record["fields"]["n"] for record in held] == [*range(1, sent + 1)]
    words = ["unsynced", "corrected", "synced", "corrected", "synced"]
    assert [record["time_quality"] for record in held[::COUNT]] == words
    told = ("time", "time_quality", "fields")
    assert [[record[key] for key in told] for record in arrived] == [
        [record[key] for key in told] for record in held
    ]
    assert {record["time"][:4] for record in held[:COUNT]} == {"1970"}
    assert all(is_since(began_s, record) for record in held[COUNT:])
    # Order is seq; the boots that are known are in order of time as well.
    times = [record["time"] for record in held[COUNT:]]
    assert times == sorted(times)
    # A question by time finds what it should, and by the times of now.
    assert [record["seq"] for record in recent] == [record["seq"] for record in held[COUNT:]]
    # Windows by a clock not set are told as such, and make nothing late that comes after.
    assert any(record["fields"].get("clock_unset") for record in aggregates)
    assert any(
        "clock_unset" not in record["fields"] and is_since(began_s, record) for record in aggregates
    )
