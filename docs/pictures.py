"""The pictures of the page (``make pictures``): an agent with invented streams, seen in Chromium.

Takes about a minute, as sparklines grow by a value a second.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import websocket
from playwright.sync_api import ViewportSize, sync_playwright

from benchmarks.processes import Agent

FOLDER = Path(__file__).parent / "pictures"
STREAMS = ("barn/door", "barn/north", "greenhouse/1", "greenhouse/2", "house/attic", "house/cellar")
SPARK_S = 45
WIDTH = 1000
NOISE = random.Random(1)


def measured(stream: str, when: float) -> dict[str, Any]:
    """What a sensor would say: warm by day, and a pump that runs at times."""
    place = STREAMS.index(stream)
    day = 2 * math.pi * (when / 86_400 - 0.3)
    wave = math.sin(when / 8 + place) / 3
    record: dict[str, Any] = {
        "time": when,
        "temp_c": round(16 + place + 5 * math.sin(day) + wave + NOISE.gauss(0, 0.2), 2),
        "humidity_pct": round(62 - 14 * math.sin(day) + NOISE.gauss(0, 1), 1),
    }
    if stream.startswith("greenhouse"):
        runs = when % 7200 < 1500
        record["pump"] = {"power_w": round(max(0.0, 180 * runs + NOISE.gauss(3, 3)), 1)}
    return record


def fill(agent: Agent) -> None:
    """Three days of the past, then what comes second by second."""
    lines = {}
    begun = time.time()
    for stream in STREAMS:
        url = f"ws://127.0.0.1:{agent.port}/ingest/{stream}"
        lines[stream] = websocket.create_connection(url, timeout=30)
        for age in range(3 * 86_400, 0, -300 if stream != "greenhouse/1" else -60):
            lines[stream].send(json.dumps(measured(stream, begun - age)))
    for _ in range(SPARK_S):
        for stream, line in lines.items():
            line.send(json.dumps(measured(stream, time.time())))
        time.sleep(1)
    for line in lines.values():
        line.close()


def take(agent: Agent) -> None:
    """The overview by day, a chart by night."""
    FOLDER.mkdir(exist_ok=True)
    here = f"http://127.0.0.1:{agent.http_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        size: ViewportSize = {"width": WIDTH, "height": 640}
        page = browser.new_page(viewport=size, timezone_id="Europe/Berlin", locale="en-GB")
        page.goto(f"{here}/")
        page.screenshot(path=FOLDER / "overview.png")
        page.emulate_media(color_scheme="dark")
        page.goto(f"{here}/stream/greenhouse/1?last=24h&fields=temp_c,pump.power_w")
        page.wait_for_selector("main[data-points]")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=FOLDER / "chart.png")
        browser.close()


def main() -> None:
    """Make both."""
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(Path(folder))
        try:
            fill(agent)
            agent.get("/api/query?step=1h&stream=greenhouse/1")
            take(agent)
        finally:
            agent.stop()


if __name__ == "__main__":
    main()
