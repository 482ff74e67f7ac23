"""The page in a real Chromium, in front of real agents: what a person sees and can do there.

The tests share one browser and one agent, whose streams have the same records all the time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.processes import Agent
from edge_agent.security.tokens import add_token, revoke_token
from tests.ops.page.chromium import NARROW, address, measured, opened, send, shows, until
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.needs("chromium")

STREAMS = 30
#: What the first view may bring over the network.
FIRST_VIEW_BYTES = 100 * 1024
NAME_OF_FOCUS = "document.activeElement.textContent || document.activeElement.value"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent with two days of one stream, and a record of each of many others."""
    agent = Agent(tmp_path_factory.mktemp("shown"))
    try:
        now = time.time()
        send(agent, "greenhouse/1", [measured(now - age) for age in range(2 * 86_400, 0, -120)])
        for number in range(STREAMS):
            send(agent, f"barn/{number}/bme280", [measured(now)])
        deadline = time.monotonic() + PATIENCE_S
        while len(agent.get("/api/streams")["streams"]) <= STREAMS:
            assert time.monotonic() < deadline, "the streams were never looked at"
            time.sleep(0.1)
        # The process that answers is started by the first question.
        agent.get("/api/query?step=1h&stream=greenhouse/1")
        yield agent
    finally:
        agent.stop()


def test_a_chart_shows_the_points_of_a_stream_and_zooming_asks_for_more_of_them(
    browser: Browser, shown: Agent
) -> None:
    with opened(browser, address(shown, "/stream/greenhouse/1")) as page:
        assert 700 <= shows(page, "2m") <= 722
        assert [one.inner_text() for one in page.query_selector_all("h2")][:2] == [
            "temp in °C", "air.humidity in %",
        ]  # fmt: skip
        assert "greatest 25 °C" in page.inner_text("#charts")
        assert "Europe/Berlin" in page.inner_text("#told")
        # An eighth of the day, marked with the mouse.
        box = page.locator(".u-over").first.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.625, middle, steps=5)
        page.mouse.up()
        assert 80 <= shows(page, "15s") <= 100
        assert "from=" in page.url
        page.go_back()
        shows(page, "2m")
        page.click("text=7 days")
        assert page.url.endswith("last=7d")
        assert shows(page, "15m") > 180
        # Each step stands for several records; the words above are about the records.
        newest = shown.get("/api/query?stream=greenhouse/1&order=newest&limit=1&from=-1d")
        assert f"last {newest['records'][0]['fields']['temp_c']:g} °C" in page.inner_text("#charts")
        # The same figures as a table, and for programs.
        page.click("summary")
        assert "°C" not in page.inner_text("caption") and page.locator("tbody tr").count() > 180
        told = page.evaluate("fetch(document.getElementById('address').value).then(a => a.text())")
        assert told.splitlines()[0].startswith("time,stream,temp_c_min,temp_c_mean")


@pytest.mark.parametrize("view", ["", "?last=7d&fields=temp_c,`a*~b`", "?from=1&to=9000.5&x=1"])
def test_the_first_question_of_a_chart_is_asked_once(
    browser: Browser, shown: Agent, view: str
) -> None:
    with opened(browser, address(shown, "/"), is_still=True) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address(shown, f"/stream/greenhouse/1{view}"))
        page.wait_for_selector("main[data-points]")
        page.wait_for_load_state("networkidle")
        first = [url for url in asked if "/api/query" in url and "limit=1" not in url]
        assert len(first) == 1, first


def test_a_chart_can_be_moved_and_its_fields_chosen_by_keyboard_alone(
    browser: Browser, shown: Agent
) -> None:
    with opened(browser, address(shown, "/stream/greenhouse/1?last=24h")) as page:
        shows(page, "2m")
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(page.evaluate(NAME_OF_FOCUS))
            if page.evaluate("document.activeElement.className") == "plot":
                break
        assert {"To the content", "1 year", "← Earlier", "temp_c"} <= set(reached), reached
        page.keyboard.press("+")
        shows(page, "1m")
        before = page.url
        page.keyboard.press("ArrowLeft")
        until(page, f"location.href !== {json.dumps(before)}")
        page.focus('input[value="temp_c"]')
        page.keyboard.press("Space")
        until(page, "document.querySelectorAll('section.chart').length === 1")
        assert "fields=air.humidity_pct" in page.url


def test_streams_are_found_by_their_names_and_lead_to_their_charts(
    browser: Browser, shown: Agent
) -> None:
    with opened(browser, address(shown, "/")) as page:
        assert page.locator("#streams tbody th.name").count() == STREAMS + 1
        page.fill("input[type=search]", "green")
        until(page, "document.querySelectorAll('#streams tbody th.name').length === 1")
        assert page.url.endswith("?q=green")
        # Fresh news leave alone whoever is on a link.
        page.focus("#streams a")
        page.evaluate("window.focused = document.activeElement")
        until(page, "document.getElementById('fresh').textContent !== ''")
        assert page.evaluate("document.activeElement === window.focused")
        page.keyboard.press("Enter")
        shows(page, "2m")
        assert page.url.endswith("/stream/greenhouse/1")


@pytest.mark.parametrize("path", ["/", "/stream/greenhouse/1"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_wider_than_the_screen(
    browser: Browser, shown: Agent, path: str, scheme: Any
) -> None:
    size = {"width": NARROW, "height": 800}
    with opened(browser, address(shown, path), viewport=size, color_scheme=scheme) as page:
        if path != "/":
            shows(page, "2m")
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("path", ["/", "/stream/greenhouse/1"])
def test_the_first_view_is_small(browser: Browser, shown: Agent, path: str) -> None:
    sizes: list[int] = []
    with opened(browser, address(shown, path), sizes, is_still=True) as page:
        page.wait_for_load_state("networkidle")
    assert 1_000 < sum(sizes) < FIRST_VIEW_BYTES


def test_a_token_is_given_once_and_links_work_after_it(browser: Browser, tmp_path: Path) -> None:
    secret = add_token(file := tmp_path / "tokens.json", "g", read=["**"])
    config = f'[listen]\ntokens = "{file}"\ninsecure = true\n'
    agent = Agent(tmp_path / "agent", config, http_host="0.0.0.0")
    try:
        with opened(browser, address(agent, "/stream/greenhouse/1?last=1h")) as page:
            assert "greenhouse" not in page.inner_text("main")
            page.fill("input[name=token]", secret)
            page.keyboard.press("Enter")
            page.wait_for_selector("main[data-stream]")
            assert page.url.endswith("/stream/greenhouse/1?last=1h")
            until(page, "document.getElementById('told').textContent !== ''")
            page.click("text=All streams")
            (cookie,) = page.context.cookies()
            assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
            assert secret not in cookie["value"]
            page.click("text=Sign out")
            page.wait_for_selector("input[name=token]")
            assert page.context.cookies() == []
            page.fill("input[name=token]", secret)
            page.click("text=Look in")
            page.wait_for_selector("#streams")
            revoke_token(file, "g")
            page.wait_for_selector("input[name=token]")
    finally:
        agent.stop()


def test_a_stream_of_words_shows_them(browser: Browser, tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    try:
        now = time.time()
        door: list[dict[str, Any]] = [
            {"time": now - 600, "door": {"state": "open"}, "by": "<b>Ada</b>", "locked": False},
            {"time": now - 300, "door": {"state": "closed"}, "note": None, "list": ["a"]},
        ]
        send(agent, "front", door)
        send(agent, "both", [{"time": now - 60, "t": 20}, {"t": 21, "mode": "a" * 600}])
        with opened(browser, address(agent, "/stream/front?last=1h")) as page:
            page.wait_for_selector("main[data-points]")
            assert "no numbers, and the texts" in page.inner_text("#told")
            # Unfolded already, as there is nothing else.
            titles = page.locator("#texts thead th").all_inner_texts()
            assert titles == ["Time", "door.state", "by", "locked"]
            cells = page.locator("#texts tbody tr").all()
            assert [row.locator("td").all_inner_texts() for row in cells] == [
                ["closed", "", ""], ["open", "<b>Ada</b>", "false"],
            ]  # fmt: skip
            assert page.inner_text("#texts caption") == "2 records with texts, of all 2 records."
            # Who folds it is not asked again, and what comes is there when it is unfolded.
            page.click("#texts summary")
            send(agent, "front", [{"door": {"state": "ajar"}}])
            page.wait_for_selector("#texts td:has-text('ajar')", state="attached")
            assert not page.evaluate("document.getElementById('texts').open")
        narrow = {"width": NARROW, "height": 800}
        with opened(browser, address(agent, "/?q=both"), viewport=narrow) as page:
            page.wait_for_selector("#streams td.values:has-text('mode')")
            # All that is kept of it is told to who points at it, in lines on a narrow screen.
            values = page.locator("#streams td.values")
            assert values.inner_text() == f"t 21 mode {'a' * 30}…"
            title = values.locator(".long").get_attribute("title") or ""
            assert title == "a" * 79 + "…"
            assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
        with opened(browser, address(agent, "/")) as page:
            front = page.locator("#streams tr:has-text('front') td.values")
            assert front.inner_text() == "door.state ajar"
        with opened(browser, address(agent, "/stream/both?last=1h")) as page:
            page.wait_for_selector("main[data-points]")
            assert "a point for each" in page.inner_text("#told")
            assert not page.evaluate("document.getElementById('texts').open")
            page.click("#texts summary")
            page.wait_for_selector("#texts td")
            assert page.locator("#texts td").all_inner_texts() == ["a" * 500 + "…"]
            assert page.evaluate("document.documentElement.scrollWidth") <= 1100
        with opened(browser, address(agent, "/stream/nobody?last=1h")) as page:
            page.wait_for_selector("main[data-points]")
            assert "nothing was measured" in page.inner_text("#told")
            page.click("#texts summary")
            assert page.inner_text("#texts caption") == "No texts, true or false in all 0 records."
    finally:
        agent.stop()
