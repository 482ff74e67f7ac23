"""What stands around the page: one policy, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re

from edge_agent.ops.page.frame import CSP
from edge_agent.ops.page.page import render_locked, render_page
from tests.ops.page.test_page import NOW_NS, read
from tests.ops.pictures import STATUS


def test_its_policy_allows_exactly_its_own_style_and_script() -> None:
    html = render_page(STATUS, [], NOW_NS).decode()
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in CSP
    assert "default-src 'none'" in CSP and "unsafe" not in CSP


def test_nothing_comes_from_elsewhere_and_nothing_is_styled_in_place() -> None:
    for page in (render_page(STATUS, [], NOW_NS), render_locked()):
        for tag, attributes in read(page).tags:
            assert "style" not in attributes and not any(key.startswith("on") for key in attributes)
            for key in ("src", "href"):
                assert (attributes.get(key) or "/").startswith("/"), (tag, attributes)


def test_a_browser_without_script_reloads_it() -> None:
    assert b'<noscript><meta http-equiv="refresh" content="5"></noscript>' in render_locked()
