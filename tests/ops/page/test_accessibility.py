"""The page for those who do not see it, or see it otherwise, or have no mouse: axe-core finds
nothing, what is read and said aloud makes sense, and nobody is taken from where they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import websocket

from benchmarks.processes import Agent
from edge_agent.security.tokens import add_token
from tests.ops.page.chromium import NARROW, QUICK, address, measured, opened, send, shows, until
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.needs("chromium")

#: All that is said of a page in trouble: an alarm, an upstream that is not there, quarantine.
TROUBLE = """
[[upstream]]
name = "hub"
url = "ws://127.0.0.1:9/forward"

[[rule]]
name = "hot"
streams = ["greenhouse/*"]
alarm = { field = "temp_c", above = 30 }
"""
#: WCAG 2.2 at level AA, and what its makers recommend beyond it.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: What a page that is enlarged to 400 % of 1,280 pixels has left (WCAG 1.4.10).
ENLARGED = 320
CHART = "/stream/greenhouse/1"
LOOKS: list[dict[str, Any]] = [
    {"color_scheme": "light", "viewport": {"width": 1100, "height": 800}},
    {"color_scheme": "dark", "viewport": {"width": NARROW, "height": 800}},
    {"forced_colors": "active", "viewport": {"width": ENLARGED, "height": 640}},
]
looks = pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "forced"])


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent that has something to say in each part of its page."""
    agent = Agent(tmp_path_factory.mktemp("troubled"), QUICK + TROUBLE)
    try:
        now = time.time()
        hot = [measured(now - age) for age in range(86_400, 60, -600)]
        send(agent, "greenhouse/1", [*hot, measured(now - 20) | {"temp_c": 40}])
        for number in range(4):
            send(agent, f"barn/{number}", [measured(now)])
        send(agent, "strange", [{"n" * 150: 1, "\u202e<b>": 2}])
        send(agent, "barn/1", [{"time": "noon"}], refused=True)
        with pytest.raises(websocket.WebSocketBadStatusException):
            send(agent, "../nowhere", [])
        deadline = time.monotonic() + PATIENCE_S
        while (
            not all(agent.get("/api/status")[part] for part in ("alarms", "refused", "journal"))
            or not agent.get("/api/streams?stream=barn/3")["streams"]
        ):
            assert time.monotonic() < deadline, "something of it never happened"
            time.sleep(0.1)
        yield agent
    finally:
        agent.stop()


def faults(page: Page) -> list[str]:
    """What axe-core finds, each with where it is."""
    from axe_playwright_python.sync_playwright import Axe

    only = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]}
    found = Axe().run(page, options=only).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['html']}" for one in found for node in one["nodes"]
    ]


@looks
def test_nothing_is_found_on_any_page(
    browser: Browser, troubled: Agent, look: dict[str, Any]
) -> None:
    with opened(browser, address(troubled, "/"), **look) as page:
        for part in ("alarms", "upstreams", "quarantine", "refused", "journal"):
            assert page.locator(f"#{part} tbody tr").count(), part
        assert faults(page) == []
        page.goto(address(troubled, CHART))
        shows(page, "2m")
        page.click("summary")
        page.wait_for_selector("caption")
        assert faults(page) == []


def test_nothing_is_found_where_there_is_nothing(browser: Browser, troubled: Agent) -> None:
    with opened(browser, address(troubled, "/?q=nobody")) as page:
        assert page.inner_text("#found").startswith("0 of")
        assert faults(page) == []
        page.goto(address(troubled, "/stream/no/such"))
        assert shows(page, "2m") == 0
        assert faults(page) == []


def test_nothing_is_found_where_one_signs_in_and_on_an_empty_page(
    browser: Browser, tmp_path: Path
) -> None:
    secret = add_token(file := tmp_path / "tokens.json", "g", read=["**"])
    config = f'[listen]\ntokens = "{file}"\ninsecure = true\n'
    agent = Agent(tmp_path / "agent", config, http_host="0.0.0.0")
    try:
        with opened(browser, address(agent, "/"), refused="401") as page:
            assert faults(page) == []
            page.fill("input[name=token]", "none of ours")
            page.keyboard.press("Enter")
            page.wait_for_selector("[role=alert]")
            assert faults(page) == []
            page.fill("input[name=token]", secret)
            page.keyboard.press("Enter")
            page.wait_for_selector("#streams")
            assert faults(page) == []
    finally:
        agent.stop()


def test_what_has_no_name_or_too_little_contrast_would_be_found(
    browser: Browser, troubled: Agent
) -> None:
    with opened(browser, address(troubled, "/")) as page:
        page.evaluate("document.querySelector('input').parentElement.replaceWith("
                      "document.querySelector('input'))")  # fmt: skip
        assert [one.split(":")[0] for one in faults(page)] == ["label"]
        page.reload()
        page.evaluate("document.querySelector('#streams table').style.color = '#aaa'")
        assert {one.split(":")[0] for one in faults(page)} == {"color-contrast"}


def test_tables_are_named_and_each_row_by_what_it_is_about(
    browser: Browser, troubled: Agent
) -> None:
    with opened(browser, address(troubled, "/")) as page:
        for part in ("Alarms that are on", "Upstreams", "Store", "Card", "Refused peers"):
            assert page.get_by_role("table", name=part, exact=True).count() == 1, part
        assert page.get_by_role("rowheader", name="greenhouse/1, chart", exact=True).count() == 1
        assert page.get_by_role("rowheader", name="hub").count() == 1
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName)")
        assert levels[0] == "H1" and set(levels[1:]) == {"H2"}


def test_a_chart_has_a_name_that_stays_and_its_numbers_as_words(
    browser: Browser, troubled: Agent
) -> None:
    with opened(browser, address(troubled, CHART)) as page:
        shows(page, "2m")
        chart = page.get_by_role("img", name="Chart of temp in °C. Arrow keys move in time")
        described = "chart => chart.ariaDescribedByElements.map(e => e.textContent).join()"
        assert "greatest 40 °C" in chart.evaluate(described)
        other = page.get_by_role("img", name="Chart of air.humidity in %.")
        assert "greatest 60 %" in other.evaluate(described)


def test_who_is_on_a_stream_stays_on_it_while_others_come_and_go(
    browser: Browser, tmp_path: Path
) -> None:
    agent = Agent(tmp_path, QUICK)
    try:
        send(agent, "m/1", [measured(time.time())])
        send(agent, "m/9", [measured(time.time())])
        with opened(browser, address(agent, "/")) as page:
            page.wait_for_selector('a[aria-label="m/9, chart"]')
            page.focus('a[aria-label="m/9, chart"]')
            page.evaluate("window.focused = document.activeElement")
            # They stand before it: in its group, in none, which leaves no groups, and in another.
            for name in ("m/3", "a/1", "a/2"):
                send(agent, name, [measured(time.time())])
                page.wait_for_selector(f'a[aria-label="{name}, chart"]')
                if name == "m/3":
                    assert page.evaluate("document.activeElement === window.focused")
                assert page.evaluate("document.activeElement.ariaLabel") == "m/9, chart"
            names = page.locator("#streams tbody a").evaluate_all(
                "all => all.map(a => a.ariaLabel)"
            )
            assert [name.split(",")[0] for name in names] == ["a/1", "a/2", "m/1", "m/3", "m/9"]
            page.fill("input[type=search]", "m/")
            until(page, "document.querySelectorAll('#streams tbody a').length === 3")
            assert page.inner_text("#found") == "3 of 5 found"
    finally:
        agent.stop()


def test_nothing_is_said_aloud_by_itself_while_nothing_happens(
    browser: Browser, troubled: Agent
) -> None:
    with opened(browser, address(troubled, "/")) as page:
        until(page, "document.getElementById('fresh').textContent !== ''")
        page.evaluate("""{
          window.said = [];
          window.renewed = 0;
          for (const place of document.querySelectorAll("[role=status], [aria-live]")) {
            new MutationObserver(() => window.said.push(place.textContent)).observe(
              place, { childList: true, characterData: true, subtree: true });
          }
          new MutationObserver(() => window.renewed++).observe(
            document.getElementById("agent"), { characterData: true, subtree: true });
        }""")
        # The time of the agent is on it, and so each look at it changes something.
        until(page, "window.renewed >= 2")
        assert page.evaluate("window.said") == []
        page.click("#pause")
        assert page.evaluate("window.said") == ["Not refreshed."]


def test_a_chart_that_goes_on_by_itself_can_be_stopped(browser: Browser, troubled: Agent) -> None:
    with opened(browser, address(troubled, f"{CHART}?last=1h")) as page:
        shows(page, "5s")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        # While it goes on, who reads the table stays where they are.
        page.click("summary")
        page.wait_for_selector("#table tbody tr")
        page.evaluate("window.reading = document.querySelector('#table tbody tr')")
        with page.expect_request_finished(lambda request: "/api/streams" in request.url):
            page.wait_for_timeout(100)
        assert page.evaluate("window.reading === document.querySelector('#table tbody tr')")
        page.click("text=Stop refreshing")
        page.wait_for_load_state("networkidle")
        asked.clear()
        page.wait_for_timeout(4000)  # It would have asked after three.
        assert asked == []
        with page.expect_request(lambda request: "/api/query" in request.url):
            page.click("text=Go on refreshing")
        assert page.inner_text("#fresh") == ""


@pytest.mark.parametrize("path", ["/", CHART, "/stream/strange"])
def test_enlarged_to_the_utmost_nothing_has_to_be_moved_sideways(
    browser: Browser, troubled: Agent, path: str
) -> None:
    size = {"width": ENLARGED, "height": 640}
    with opened(browser, address(troubled, path), viewport=size, is_still=True) as page:
        if path != "/":
            shows(page, "2m")
            page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= ENLARGED


def test_where_the_system_chooses_the_colours_what_is_pressed_still_differs(
    browser: Browser, troubled: Agent
) -> None:
    with opened(browser, address(troubled, CHART), forced_colors="active") as page:
        shows(page, "2m")
        pressed, other = (
            page.locator(f"button[aria-pressed={state}]").first.evaluate(
                "button => getComputedStyle(button).backgroundColor"
            )
            for state in ("true", "false")
        )
        assert pressed != other
