"""A board without a clock wakes in 1970; later its clock is set. No record may pay for that."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from tests.end_to_end.clocked_agent import passes, set_clock
from tests.end_to_end.relay import uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, producer_to
from tests.end_to_end.talking import metric
from tests.patience import PATIENCE_S

HUB = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "20ms"\n'
#: Age retention does not wait for this upstream: nothing but what is known of the clock protects
#: the backlog.
AGENT = (
    HUB + 'keep = "1h"\n[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:{port}/forward"\n'
    'required = false\nbatch_age = "20ms"\nbackoff_base = "50ms"\nbackoff_max = "200ms"\n'
)
COUNT = 30
HOUR_S = 3600


async def retention_has_looked(clock: Path) -> None:
    """Wait for a whole pass of retention that began after this was called."""
    before = passes(clock)

    async def check() -> bool:
        return passes(clock) >= before + 2

    await eventually(check, describe="a pass of retention")


async def test_a_clock_that_jumps_from_1970_to_today_erases_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    clock, began_s = tmp_path / "clock", time.time()
    booted_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    # Wakes ten seconds after midnight, 1 January 1970, as boards without a battery do.
    set_clock(clock, wall_s=10 - booted_s, synced=False)
    hub = AgentProcess(tmp_path, "hub", HUB)
    async with agents(hub), uplink(hub.port) as relay:
        relay.cut()
        agent = AgentProcess(tmp_path, "agent", AGENT.format(port=relay.port))
        agent.module = ("tests.end_to_end.clocked_agent",)
        agent.environment = {"EDGE_AGENT_TEST_CLOCK": str(clock)}
        async with (
            agents(agent),
            producer_to(f"{agent.url}/ingest/pi", source="pi", numbered=True) as sensor,
        ):

            async def send(first: int, last: int) -> None:
                for n in range(first, last + 1):
                    await sensor.send({"n": n})
                await sensor.flush(PATIENCE_S)

            async def at_the_hub() -> bool:
                return len(await hub.records("pi")) >= 2 * COUNT

            await send(1, COUNT)
            early = await agent.records("pi")
            assert [record["fields"]["n"] for record in early] == [*range(1, COUNT + 1)]
            assert {record["time"][:10] for record in early} == {"1970-01-01"}
            assert {record["synced"] for record in early} == {False}
            assert {record["time_quality"] for record in early} == {"unsynced"}

            # Today, as far as this machine knows; and, so that no calm after a step protects
            # anything any more, twenty minutes on the boot clock later.
            today_s = int(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
            set_clock(clock, wall_s=today_s, synced=True)
            await send(COUNT + 1, COUNT + 20)
            set_clock(clock, wall_s=today_s + 1200, boot_s=1200, synced=True)
            await send(COUNT + 21, 2 * COUNT)
            await retention_has_looked(clock)
            held = await agent.records("pi")
            assert [record["fields"]["n"] for record in held] == [*range(1, 2 * COUNT + 1)]
            assert all("synced" not in record for record in held[COUNT:])
            # And they are put right: they were sent since this test began.
            first = datetime.fromisoformat(held[0]["time"]).timestamp()
            assert began_s - 1 <= first <= time.time() + 1
            assert [record["time"] for record in held] == sorted(record["time"] for record in held)
            words = [record["time_quality"] for record in held]
            assert words == ["corrected"] * COUNT + ["synced"] * COUNT

            relay.restore()
            await eventually(at_the_hub, describe="everything at the hub")

            async def put_right() -> bool:
                first, *_ = await hub.records("pi")
                return bool(first["time_quality"] == "corrected")

            await eventually(put_right, describe="the note about the clock at the hub")
            arrived = await hub.records("pi")
            assert [record["fields"]["n"] for record in arrived] == [*range(1, 2 * COUNT + 1)]
            assert [record["time"] for record in arrived] == [record["time"] for record in held]
            assert [record.get("synced") for record in arrived[:COUNT]] == [False] * COUNT
            assert [record["time_quality"] for record in arrived] == words
            for name in ("records_discarded_total", "records_trimmed_total"):
                assert await metric(agent, name) == 0

            # Retention was awake all the time: two hours later, by a set clock, all of it goes.
            later_s = 1200 + 2 * HOUR_S
            set_clock(clock, wall_s=today_s + later_s, boot_s=later_s, synced=True)
            await retention_has_looked(clock)
            assert await agent.records("pi") == []
