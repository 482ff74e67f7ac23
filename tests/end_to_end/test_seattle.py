"""A year of real hourly temperatures, sent through everything that can go wrong.

The file is ``seattle-temps.csv`` of the package vega_datasets. Count, minimum, mean and maximum as
the hub tells them, the hub's daily windows, its sliding ones and its alarm must equal those
computed from the file, the last two by pandas. Meanwhile the agent is killed three times, the hub
twice, ``send`` once, and the uplink is cut five times.
"""

from __future__ import annotations

import csv
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import trio
import vega_datasets

from tests.end_to_end.relay import cut_for, uplink
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command

STREAM = "weather/seattle"
CSV = Path(vega_datasets.data.seattle_temps.filepath)
STORE = '[store]\nsize = "32MiB"\n[log.main]\ncommit_interval = "50ms"\n'
WINDOW = f"""
[[rule]]
name = "daily"
streams = ["{STREAM}"]
window = "1d"
into = "daily/{{stream}}"
lateness = "1h"
idle = "1h"

[[rule]]
name = "smooth"
streams = ["{STREAM}"]
window = "1d"
every = "6h"
into = "smooth/{{stream}}"
lateness = "1h"

[[rule]]
name = "hot"
streams = ["{STREAM}"]
into = "hot"
alarm = {{ field = "temp", above = 65, clear_below = 58, hold = "2h" }}
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


@pytest.fixture(scope="module")
def series() -> pd.Series[float]:
    """The temperatures by their times."""
    frame = pd.read_csv(CSV)
    times = pd.to_datetime(frame["date"], format="%Y/%m/%d %H:%M", utc=True)
    return pd.Series(frame["temp"].to_numpy(), index=times)


def expected_smooth(series: pd.Series[float]) -> dict[str, dict[str, float]]:
    """A window of a day for each multiple of six hours."""
    day, found = pd.Timedelta(days=1), {}
    first, last = series.index[0].floor("6h") - day, series.index[-1]
    for start in pd.date_range(first, last, freq="6h"):
        within = series[(series.index >= start) & (series.index < start + day)]
        if len(within):
            found[start.strftime("%Y-%m-%dT%H:%M:%SZ")] = {
                "temp_count": len(within),
                "temp_min": within.min(),
                "temp_max": within.max(),
                "temp_mean": pytest.approx(within.mean(), rel=1e-12),
                "temp_last": within.iloc[-1],
            }
    return found


def expected_alarms(series: pd.Series[float]) -> list[tuple[str, str, float]]:
    """When it is on: from two hours above 65 without a break, to below 58."""
    above = series > 65
    runs = (above != above.shift()).cumsum()
    began = series.index.to_series().groupby(runs.to_numpy()).transform("first")
    lasted = series.index.to_series() - began >= pd.Timedelta(hours=2)
    state = pd.Series(np.nan, index=series.index)
    state[(above & lasted).to_numpy()] = 1
    state[(series < 58).to_numpy()] = 0
    state = state.ffill().fillna(0)
    changes = state[state != state.shift(fill_value=0)]
    return [
        (time.strftime("%Y-%m-%dT%H:%M:%SZ"), "on" if is_on else "off", float(series[time]))
        for time, is_on in changes.items()
    ]


def last_word(folder: Path) -> Path:
    path = folder / "next-year.csv"
    path.write_text("date,temp\n2011/02/01 00:00,40.0\n")
    return path


async def check_hub(
    hub: AgentProcess, temperatures: list[tuple[str, float]], series: pd.Series[float]
) -> None:
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

    # What is derived of the same records may come a commit later.
    smooth = expected_smooth(series)

    async def all_smooth() -> list[dict[str, Any]] | None:
        found = await hub.records(f"smooth/{STREAM}")
        return found if len(found) >= len(smooth) else None

    windows = await eventually(all_smooth, describe="sliding windows at the hub")
    assert len(windows) == len(smooth) > 1400
    assert {record["time"]: record["fields"] for record in windows} == smooth

    alarms = expected_alarms(series)
    told = sorted(await hub.records("hot"), key=lambda record: int(record["seq"]))
    assert len(alarms) > 50
    assert [(r["time"], r["fields"]["state"], r["fields"]["value"]) for r in told] == alarms
    assert {record["fields"]["of"] for record in told} == {STREAM}


async def test_a_year_of_temperatures_arrives_at_the_hub_as_it_is_in_the_file(
    tmp_path: Path, temperatures: list[tuple[str, float]], series: pd.Series[float]
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE + WINDOW)
    agent = AgentProcess(tmp_path, "agent", STORE + UPSTREAM.format(port=hub.port))
    async with agents(hub, agent):
        sent = await run_command(*send_command(agent.url, CSV))
        assert sent.returncode == 0, sent.stderr.decode()

        async def arrived() -> bool:
            return await hub.count(STREAM) >= len(temperatures)

        await eventually(arrived, describe="all records at the hub")
        await check_hub(hub, temperatures, series)


@contextmanager
def sending(url: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``edge-agent send`` in the background."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", *send_command(url, path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def test_kills_and_cuts_change_nothing_of_what_arrives(
    tmp_path: Path, temperatures: list[tuple[str, float]], series: pd.Series[float]
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
                first.send_signal(signal.SIGKILL)
            with sending(agent.url, CSV) as process:
                for step in range(1, 6):
                    await reached(agent, 800 + step * 1200)
                    await cut_for(relay, 0.1)
                    if step in (1, 3, 5):
                        await agent.kill()
                        await agent.start()
                    else:
                        await hub.kill()
                        await hub.start()
                with trio.fail_after(60):
                    while process.poll() is None:
                        await trio.sleep(0.05)
                assert process.returncode == 0

            async def arrived() -> bool:
                return await hub.count(STREAM) >= len(temperatures)

            await eventually(arrived, describe="all records at the hub")
            await check_hub(hub, temperatures, series)
            assert relay.cuts == 5


async def reached(agent: AgentProcess, count: int) -> None:
    """Wait until the agent holds ``count`` records."""

    async def enough() -> bool:
        logs = (await agent.get("/api/status"))["logs"]
        return int(logs[0]["last_seq"]) >= count

    await eventually(enough, describe=f"{count} records at the agent")
