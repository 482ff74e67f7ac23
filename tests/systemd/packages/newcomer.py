"""A newcomer's eyes: ``python -m tests.systemd.packages.newcomer URL TOKEN STREAM``.

Signs in at the page in a real Chromium, follows the stream's name, and waits until its chart has
points; prints how many. Runs where the container's network is.
"""

from __future__ import annotations

import sys

from playwright.sync_api import sync_playwright

PATIENCE_MS = 120_000


def look(url: str, token: str, stream: str) -> int:
    """The points that the chart of ``stream`` has."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-background-networking"],
        )
        # As who goes on after the warning: the browser does not know the authority.
        window = browser.new_context(ignore_https_errors=True)
        window.set_default_timeout(PATIENCE_MS)
        page = window.new_page()
        page.goto(url)
        page.fill("input[name=token]", token)
        page.keyboard.press("Enter")
        page.wait_for_selector("#streams")
        page.click(f"#streams a:text-is('{stream}')")
        page.wait_for_selector("main[data-points]")
        points = 0
        while not points:
            points = int(page.get_attribute("main", "data-points") or "0")
            page.wait_for_timeout(200)
        page.wait_for_selector(".u-over")
        browser.close()
        return points


if __name__ == "__main__":
    print(look(*sys.argv[1:4]))
