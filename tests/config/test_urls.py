from __future__ import annotations

import pytest

from edge_agent.config.urls import proxy_problem, shown_url, upstream_url_problem

SHOWN = [
    ("wss://hub.example:8765/forward", "wss://hub.example:8765/forward"),
    ("https://me:s3cret@hub.example/in", "https://hub.example/in"),
    ("https://hub.example/in?key=s3cret", "https://hub.example/in?…"),
    ("https://hooks.example/services/T0/B0/s3cret", "https://hooks.example/services/…/…/…"),
    ("https://logs.example/v1/input/s3cret", "https://logs.example/v1/input/…"),
    ("https://logs.example/hunter", "https://logs.example/…"),
    ("https://h:9200/_bulk", "https://h:9200/_bulk"),
    ("http://[::1]:80/api/v2/write", "http://[::1]:80/api/v2/write"),
    ("http://h/in#s3cret", "http://h/in"),
    ("http://h/a\x1b[31m", "http://h/…"),
    ("http://[::1", "…"),
    ("s3cret", "…"),
    ("//s3cret@h/x", "…"),
    ("", "…"),
]


@pytest.mark.parametrize("url, shown", SHOWN)
def test_nothing_that_may_be_a_secret_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url", ["wss://h/forward", "ws://h:1/forward", "https://h", "http://h:1/a/b?c=d"]
)
def test_good_urls_of_upstreams(url: str) -> None:
    assert upstream_url_problem(url) is None


@pytest.mark.parametrize(
    "url",
    ["", "h", "mqtt://h", "https://", "https://h:x/", "wss://h/x", "wss://h/forward?a", "http://h/#f",
     "http://u:p@h/", "http://h/\n", "http://[::1"],
)  # fmt: skip
def test_bad_urls_of_upstreams(url: str) -> None:
    assert upstream_url_problem(url) is not None


@pytest.mark.parametrize("proxy", ["http://p:3128", "http://p", "http://[::1]:1/", "environment"])
def test_good_proxies(proxy: str) -> None:
    assert proxy_problem(proxy) is None


@pytest.mark.parametrize(
    "proxy", ["", "p:3128", "https://p:1", "socks5://p:1", "http://u:p@p:1", "http://p/x", "http://p:x"]
)  # fmt: skip
def test_bad_proxies(proxy: str) -> None:
    assert proxy_problem(proxy) is not None
