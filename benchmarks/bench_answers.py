"""Questions about history over HTTP: a running agent answers on a connection that is kept.

The agent is started on a store that was filled before. Each question is asked several times, its
answer read whole and its rows counted; the median counts, the first (which starts the process that
answers) stands apart. Memory is RssAnon: of the agent before the first question, and of the process
that answers after the last one. The page's chart of a day is timed in Chromium, from opening its
address to its points, each time in a window that has seen nothing. Then records come in, 1,000 a
second, in turn with nobody asking and with `ASKERS` who ask without a pause; what counts is by how
much the acks' p99 is longer.
"""

from __future__ import annotations

import http.client
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlencode

from benchmarks.processes import Agent, Load

REPEATS = 31
CHARTS = 9
#: So long after its start nothing is left to be done.
SETTLED_S = 3.0
#: Acks are not to wait for anything but their commit: with the interval of a second that is the
#: default, nothing else would be seen.
CONFIG = '[store]\nsize = "1GiB"\n[log.main]\ncommit_interval = "20ms"\n'
ASKERS = 10
RATE = 1000.0
CHROMIUM = Path("/usr/bin/chromium")
#: Milliseconds since the navigation began, when the chart has its points.
_NOTE_POINTS = """
new MutationObserver((_, watching) => {
  if (!document.querySelector("main[data-points]")) return;
  watching.disconnect();
  requestAnimationFrame(() => { window.pointsAt = performance.now(); });
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-points"] });
"""
_HOUR_S, _DAY_S = 3600, 86_400


def questions(end_s: int, day_s: int) -> dict[str, tuple[dict[str, object], int]]:
    """By name: the parameters without a stream, and how many rows the answer has."""
    one: dict[str, object] = {"to": end_s}
    return {
        "raw": (one | {"from": end_s - _HOUR_S, "fields": "t,h,p,v"}, _HOUR_S),
        "means": (one | {"from": end_s - day_s, "fields": "t", "step": "1m"}, -(-day_s // 60)),
        "newest": (one | {"from": end_s - day_s, "order": "newest", "limit": 1000}, 1000),
    }


def run(
    folder: Path,
    asked: Mapping[str, tuple[dict[str, object], int]],
    streams: Sequence[str],
    *,
    load_s: float,
    rounds: int,
) -> dict[str, float]:
    """Median seconds of each question to an agent on ``folder / "data"``, megabytes, and acks' p99
    in ms without questions (``alone_ms``) and with them (``beside_ms``).
    """
    agent = Agent(folder, CONFIG)
    try:
        time.sleep(SETTLED_S)
        found = {"idle_mb": agent.memory_mb()}
        connection = http.client.HTTPConnection("127.0.0.1", agent.http_port, timeout=60)
        for name, (parameters, rows) in asked.items():
            samples = []
            for number in range(REPEATS + 1):
                # Of another stream each time: what was asked before may be kept.
                stream = {"stream": streams[number % len(streams)]}
                took, body = ask(connection, stream | parameters)
                samples.append(took)
                if number == 0:
                    _counted(name, json.loads(body), rows)
            found.setdefault("first", samples[0])
            found[name] = statistics.median(samples[1:])
        connection.close()
        found["worker_mb"] = _memory_mb(_worker_of(agent.process.pid))
        means = {"stream": streams[0]} | asked["means"][0]
        found["chart_ms"] = _first_chart(agent, means)
        found |= _acks(agent, "/api/query?" + urlencode(means), load_s, rounds)
        return found
    finally:
        agent.stop()


def ask(
    connection: http.client.HTTPConnection, parameters: Mapping[str, object]
) -> tuple[float, bytes]:
    """Seconds until a question's answer was there as a whole, and the answer."""
    path = "/api/query?" + urlencode(parameters)
    began = time.perf_counter()
    connection.request("GET", path)
    body = connection.getresponse().read()
    return time.perf_counter() - began, body


def _first_chart(agent: Agent, asked: Mapping[str, object]) -> float:
    """Median milliseconds until the chart of a day stands; NaN without Chromium."""
    if not CHROMIUM.exists():
        return math.nan
    from playwright.sync_api import sync_playwright

    end_s = int(str(asked["to"]))
    view = urlencode({"from": end_s - _DAY_S, "to": end_s, "fields": asked["fields"]})
    address = f"http://127.0.0.1:{agent.http_port}/stream/{asked['stream']}?{view}"
    took = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(CHARTS):
            window = browser.new_context(viewport={"width": 1100, "height": 800})
            page = window.new_page()
            page.add_init_script(_NOTE_POINTS)
            page.goto(address)
            page.wait_for_selector("main[data-points]")
            page.wait_for_timeout(50)  # a frame, and what it draws
            took.append(float(page.evaluate("window.pointsAt")))
            window.close()
        browser.close()
    return statistics.median(took)


def _counted(name: str, answer: dict[str, list[object]], rows: int) -> None:
    found = len(answer.get("rows") or answer.get("records") or ())
    # The last record of a second may lie behind the end, with its jitter.
    if abs(found - rows) > 1:
        raise SystemExit(f"{name}: {found} rows over HTTP, {rows} expected")


def _worker_of(pid: int) -> int:
    # A process is the child of the thread that started it.
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"edge_agent.questions.answering" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise SystemExit("no process answers")


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _acks(agent: Agent, path: str, seconds: float, rounds: int) -> dict[str, float]:
    samples: dict[str, list[float]] = {"alone_ms": [], "beside_ms": []}
    for number in range(rounds):
        for name, askers in (("alone_ms", 0), ("beside_ms", ASKERS)):
            load = Load(
                agent.port, module="benchmarks.latency_load", rate=RATE, seconds=seconds,
                source=f"{name}-{number}",
            )  # fmt: skip
            with _asking(agent.http_port, path, askers):
                samples[name].append(load.run()["p99_ms"])
    return {name: statistics.median(values) for name, values in samples.items()}


@contextmanager
def _asking(port: int, path: str, askers: int) -> Iterator[None]:
    """So many ask, each again once it has its answer."""
    over = Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not over.is_set():
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()

    threads = [Thread(target=ask) for _ in range(askers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
