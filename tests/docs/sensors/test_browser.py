"""The page of docs/sensors/browser.md in a real Chromium, served from an origin of its own."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.docs.sensors.sensors import filled_in
from tests.end_to_end.keys import STORE, Keys
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("chromium")
PAGE = "sensors/browser.md"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of requests."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's pages at an origin."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def press(visits: Sequence[tuple[str, int, str]]) -> None:
    """Open each page, press its button so often, and wait for what it shows."""
    from playwright.sync_api import expect, sync_playwright

    # Making an authority known to Chromium takes a database of certificates, and a tool of its own:
    # so it is told not to look. The agent's TLS is real.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--ignore-certificate-errors"],
        )
        page = browser.new_page()
        for url, times, shown in visits:
            page.goto(url)
            for _ in range(times):
                page.click("#measure")
            expect(page.locator("#state")).to_contain_text(shown, timeout=PATIENCE_S * 1000)
        browser.close()


async def test_a_page_writes_with_a_token_or_from_a_listed_origin_alone(
    tmp_path: Path, keys: Keys
) -> None:
    (html,), (toml,) = examples_of(PAGE, "html"), examples_of(PAGE, "toml")
    pages = tmp_path / "pages"
    pages.mkdir()
    with served(pages) as origin:
        secured = AgentProcess(tmp_path, "secured", STORE + keys.listen)
        listing = AgentProcess(
            tmp_path, "listing", STORE + toml.code.replace("http://127.0.0.1:8000", origin)
        )
        strict = AgentProcess(tmp_path, "strict", STORE)
        code = html.code.replace("AGAIN_MS = 5000", "AGAIN_MS = 100")
        (pages / "secured.html").write_text(filled_in(code, secured.port, keys))
        for agent in (listing, strict):
            plain = code.replace("wss://greenhouse.local:8765", agent.url)
            (pages / f"{agent.name}.html").write_text(plain.replace("PUT-THE-TOKEN-HERE", ""))
        async with agents(secured, listing, strict):
            stored = "0 kept, 3 stored"
            visits = [(f"{origin}/{agent.name}.html", 3, stored) for agent in (secured, listing)]
            visits.append((f"{origin}/strict.html", 1, "not connected: 1006"))
            await trio.to_thread.run_sync(press, visits)
            for agent in (secured, listing):
                assert [one["stream"] for one in await agent.records()] == ["greenhouse/1"] * 3
            assert await strict.count() == 0

            async def told() -> bool:
                peers = (await strict.get("/api/status"))["refused"]
                return "origin" in {one["reason"] for one in peers}

            await eventually(told, describe="the refusal in the status")
