"""A real agent with streams, and its page in a window of Chromium."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import websocket

from benchmarks.processes import Agent
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: Each record that a test sends is waited for by itself.
QUICK = '[store]\nsize = "16MiB"\n[log.main]\ncommit_interval = "10ms"\n'
#: A telephone's width.
NARROW = 390


def measured(when: float) -> dict[str, Any]:
    """A record: temperature and humidity go with the time of day."""
    day = 2 * math.pi * when / 86_400
    return {
        "time": when,
        "temp_c": round(20 + 5 * math.sin(day), 2),
        "air": {"humidity_pct": round(50 - 10 * math.sin(day), 1)},
    }


def send(
    agent: Agent, stream: str, records: list[dict[str, Any]], *, refused: bool = False
) -> None:
    """As a sensor does, and wait until they are kept, or set aside where they are ``refused``."""
    url = f"ws://127.0.0.1:{agent.port}/ingest/{stream}"
    connection = websocket.create_connection(url, timeout=PATIENCE_S)
    count = _set_aside if refused else _committed
    wanted = count(agent) + len(records)
    for record in records:
        connection.send(json.dumps(record))
    connection.close()
    # Nothing is acknowledged in the plain way, and the goodbye waits for no commit.
    deadline = time.monotonic() + PATIENCE_S
    while count(agent) < wanted:
        assert time.monotonic() < deadline, stream
        time.sleep(0.01)


def _committed(agent: Agent) -> int:
    return sum(log["committed"] for log in agent.get("/api/status")["logs"])


def _set_aside(agent: Agent) -> int:
    return len(agent.get("/api/quarantine")["entries"])


@contextmanager
def opened(
    browser: Browser,
    url: str,
    sizes: list[int] | None = None,
    refused: str = "",
    *,
    is_still: bool = False,
    **context: Any,
) -> Iterator[Page]:
    """A page in a window of its own; ``sizes`` gets those of all bodies. At the end nothing was
    complained about but that the agent answered ``refused``, where it was meant to, and nothing was
    asked of anybody else. ``is_still``: its clock stands, so that nothing is asked for again,
    however long the first view takes.
    """
    context.setdefault("viewport", {"width": 1100, "height": 800})
    window = browser.new_context(timezone_id="Europe/Berlin", locale="en-GB", **context)
    window.set_default_timeout(PATIENCE_S * 1000)
    complaints: list[str] = []
    window.add_init_script(
        "addEventListener('securitypolicyviolation', (event) =>"
        " console.error('policy', event.violatedDirective, event.blockedURI))"
    )
    page = window.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    own = url.split("/")[2]
    page.on(
        "request",
        lambda asked: None if asked.url.split("/")[2] == own else complaints.append(asked.url),
    )
    if sizes is not None:
        page.on("requestfinished", lambda asked: sizes.append(asked.sizes()["responseBodySize"]))
    if is_still:
        page.clock.install(time=(now_s := time.time()))
        page.clock.pause_at(now_s + 1)
    page.goto(url)
    try:
        yield page
        assert [one for one in complaints if not refused or refused not in one] == []
    finally:
        window.close()


def until(page: Page, expression: str) -> None:
    """Wait until an expression holds there. (The page's policy forbids `Page.wait_for_function`,
    which makes code of text in the page.)
    """
    deadline = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def address(agent: Agent, path: str) -> str:
    return f"http://127.0.0.1:{agent.http_port}{path}"


def shows(page: Page, step: str) -> int:
    """Wait until the chart has points of this step; how many."""
    page.wait_for_selector(f'main[data-step="{step}"]')
    return int(page.get_attribute("main", "data-points") or "")
