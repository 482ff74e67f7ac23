"""A year of real hourly temperatures, sent through everything that can go wrong.

The file is ``seattle-temps.csv`` of the package vega_datasets. Count, minimum, mean and maximum as
the hub tells them, and the hub's daily windows, must equal those computed from the file. Meanwhile
the agent is killed three times, ``send`` once, and the uplink is cut five times.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.end_to_end.relay import cut_for, uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.patience import PATIENCE_S
from tests.preloaded import Forked, nest

STREAM = "weather/seattle"
#: Where the package lies: importing it imports pandas, and takes as long as a hundred tests.
VEGA = find_spec("vega_datasets")
assert VEGA is not None and VEGA.origin is not None
CSV = Path(VEGA.origin).with_name("_data") / "seattle-temps.csv"
STORE = '[store]\nsize = "32MiB"\n[log.main]\ncommit_interval = "50ms"\n'
WINDOW = f"""
[[rule]]
name = "daily"
streams = ["{STREAM}"]
window = "1d"
into = "daily/{{stream}}"
lateness = "1h"
idle = "1h"
"""
UPSTREAM = """
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:{port}/forward"
batch_age = "50ms"
backoff_base = "50ms"
backoff_max = "300ms"
"""


def send_command(url: str, path: Path) -> tuple[str, ...]:
    return (
        "send", str(path), "--url", f"{url}/ingest/{STREAM}",
        "--time-column", "date", "--time-format", "%Y/%m/%d %H:%M", "--tz", "UTC",
    )  # fmt: skip


@pytest.fixture(scope="module")
def temperatures() -> list[tuple[str, float]]:
    """Day and temperature of every row."""
    with CSV.open(newline="") as file:
        return [(row["date"].split()[0], float(row["temp"])) for row in csv.DictReader(file)]


def expected_days(temperatures: list[tuple[str, float]]) -> dict[str, dict[str, float]]:
    days: dict[str, list[float]] = defaultdict(list)
    for day, value in temperatures:
        days[day.replace("/", "-")].append(value)
    return {
        day: {
            "temp_count": len(values),
            "temp_min": min(values),
            "temp_max": max(values),
            "temp_mean": statistics.fmean(values),
            "temp_last": values[-1],
        }
        for day, values in days.items()
    }


def last_word(folder: Path) -> Path:
    path = folder / "next-year.csv"
    path.write_text("date,temp\n2011/02/01 00:00,40.0\n")
    return path


async def check_hub(hub: AgentProcess, temperatures: list[tuple[str, float]]) -> None:
    """Everything the hub is asked equals what the file says."""
    values = [value for _, value in temperatures]
    answer = await hub.get("/api/query", stream=STREAM, aggregate="temp")
    (summary,) = answer["aggregates"].values()
    assert summary["count"] == len(values) == 8759
    assert summary["min"] == min(values)
    assert summary["max"] == max(values)
    assert summary["mean"] == pytest.approx(statistics.fmean(values), rel=1e-12)

    records = await hub.records(STREAM)
    assert [record["fields"]["temp"] for record in records] == values

    # A record of the next year moves the watermark past the last day.
    await run_command(*send_command(hub.url, last_word(hub.folder)))
    days = expected_days(temperatures)

    async def all_days() -> list[dict[str, Any]] | None:
        found = await hub.records(f"daily/{STREAM}")
        return found if len(found) >= len(days) else None

    windows = await eventually(all_days, describe="daily windows at the hub")
    found = {record["time"][:10]: record["fields"] for record in windows}
    assert len(windows) == len(days)
    assert found.keys() == days.keys()
    for day, window in days.items():
        mean = pytest.approx(window["temp_mean"], rel=1e-12)
        assert found[day] == {**window, "temp_mean": mean}


async def test_a_year_of_temperatures_arrives_at_the_hub_as_it_is_in_the_file(
    tmp_path: Path, temperatures: list[tuple[str, float]]
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE + WINDOW)
    agent = AgentProcess(tmp_path, "agent", STORE + UPSTREAM.format(port=hub.port))
    async with agents(hub, agent):
        sent = await run_command(*send_command(agent.url, CSV))
        assert sent.returncode == 0, sent.stderr

        async def arrived() -> bool:
            return await hub.count(STREAM) >= len(temperatures)

        await eventually(arrived, describe="all records at the hub")
        await check_hub(hub, temperatures)


@contextmanager
def sending(url: str, path: Path) -> Iterator[Forked]:
    """``edge-agent send`` in the background."""
    process = nest().fork(["edge_agent", *send_command(url, path)])
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


async def test_kills_and_cuts_change_nothing_of_what_arrives(
    tmp_path: Path, temperatures: list[tuple[str, float]]
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE + WINDOW)
    # Small windows and messages, so that there is a middle in which to be killed.
    slow = "[limits]\nwindow_records = 200\nbatch_records = 100\n"
    async with agents(hub), uplink(hub.port) as relay:
        config = STORE + slow + UPSTREAM.format(port=relay.port)
        agent = AgentProcess(tmp_path, "agent", config)
        async with agents(agent):
            with sending(agent.url, CSV) as first:
                await reached(agent, 800)
                first.kill()
            with sending(agent.url, CSV) as process:
                for step in range(1, 6):
                    await reached(agent, 800 + step * 1200)
                    await cut_for(relay, 0.1)
                    if step in (1, 3, 5):
                        await agent.kill()
                        await agent.start()
                with trio.fail_after(60):
                    assert await process.ended() == 0

            async def arrived() -> bool:
                return await hub.count(STREAM) >= len(temperatures)

            await eventually(arrived, describe="all records at the hub")
            await check_hub(hub, temperatures)
            assert relay.cuts == 5


async def reached(agent: AgentProcess, count: int) -> None:
    """Wait until the agent holds ``count`` records."""

    async def enough() -> bool:
        logs = (await agent.get("/api/status"))["logs"]
        return int(logs[0]["last_seq"]) >= count

    await eventually(enough, describe=f"{count} records at the agent")
