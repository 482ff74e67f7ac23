from __future__ import annotations

import pytest

from edge_agent.config import parse, render_toml
from edge_agent.config.urls import (
    header_name_problem,
    header_value_problem,
    proxy_problem,
    servers_of,
    shown_url,
    upstream_url_problem,
)
from edge_agent.errors import ConfigError

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
    ("file:///mnt/usb/my\x1bstick", "file:///mnt/usb/my…stick"),
    ("//s3cret@h/x", "…"),
    ("", "…"),
    ("spool:///var/s3cret?k=s3cret", "spool://…"),
]


@pytest.mark.parametrize("url, shown", SHOWN)
def test_nothing_that_may_be_a_secret_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "wss://h/forward",
        "ws://h:1/forward",
        "https://h",
        "http://h:1/a/b?c=d",
        "mqtt://h",
        "mqtts://h:8883/",
        "file:///mnt/x",
    ],
)
def test_good_urls_of_upstreams(url: str) -> None:
    assert upstream_url_problem(url) is None


@pytest.mark.parametrize(
    "url",
    ["", "h", "mqtt2://h", "mqtt://h/x", "mqtts://", "https://", "https://h:x/", "wss://h/x", "wss://h/forward?a", "http://h/#f",
     "http://u:p@h/", "http://h/\n", "http://[::1", "http://a..b/", "http://h:0/", "nats://a..b:1", "file:///x%00",
     "file:///x%0a", "https://" + "ä" * 300],
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


@pytest.mark.parametrize("name", ["X-Api-Key", "Authorization", "User-Agent", "accept", "x_y.z"])
def test_good_names(name: str) -> None:
    assert header_name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "A B", "A:", "A\r\nB", "Ä", "Host", "content-LENGTH", "Content-Type", "Idempotency-Key",
     "Transfer-Encoding", "Proxy-Authorization", "Sec-WebSocket-Key", "Upgrade", "x" * 101],
)  # fmt: skip
def test_names_that_are_none_or_not_a_persons_to_set(name: str) -> None:
    assert header_name_problem(name) is not None


@pytest.mark.parametrize("value", ["a", "Splunk 0-1-2", "ApiKey a==", "x" * 4096])
def test_good_values(value: str) -> None:
    assert header_value_problem(value) is None


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "a\r\nHost: x", "a\0", "ä", "x" * 4097])
def test_values_that_would_not_stay_a_value(value: str) -> None:
    assert header_value_problem(value) is not None


def with_upstream(lines: str, url: str = "https://h/in") -> str:
    return f'[[upstream]]\nname = "x"\nurl = "{url}"\n{lines}\n'


GOOD = [
    'accept = "status"', 'accept = "json"', 'accept = "text: stored "', 'proxy = "environment"',
    'proxy = "http://p:1"\nproxy_auth_file = "f"', 'tls_certificate = "c"\ntls_key = "k"',
    'headers = { "X-A" = "b", Authorization = { file = "/k" } }', "headers = {}",
]  # fmt: skip


@pytest.mark.parametrize("lines", GOOD)
def test_what_can_be_said_of_a_request_is_shown_and_read_again(lines: str) -> None:
    config = parse(with_upstream(lines), "f")
    assert parse(render_toml(config), "rendered") == config


BAD = [
    ('accept = "anything"', "accept: expected", '"text:WORD"'),
    ('accept = "text:"', "accept: expected", '"text:WORD"'),
    ('proxy = "http://me:s3cret@p:1"', "proxy: expected", "proxy_auth_file"),
    ('proxy = "socks5://p:1"', "proxy: expected", "http://HOST:PORT"),
    ('proxy_auth_file = "f"', "proxy: expected", "a proxy"),
    ('tls_key = "k"', "tls_certificate: expected", "go together"),
    ('headers = { Host = "s3cret" }', "headers.Host: expected", "does not send itself"),
    ('headers = { A = "s3cret\\r\\nHost: b" }', "headers.A: expected", "one line"),
    ("headers = { A = 1 }", "headers: expected", "file ="),
    ('headers = { A = { fil = "s3cret" } }', "headers: expected", "file ="),
    ('headers = { X-A = "1", x-a = "2" }', "headers.x-a: expected", "once"),
    (
        'token_file = "f"\nheaders = { authorization = "s3cret" }',
        "authorization: expected",
        "either",
    ),
    ('user = "me"', "password_file: expected", "go together"),
    ('password_file = "f"', "user: expected", "go together"),
    ('user = "a:b"\npassword_file = "f"', "user: expected", "colon"),
    ('user = "a"\npassword_file = "f"\ntoken_file = "g"', "user: expected", "either"),
]


@pytest.mark.parametrize("lines, where, expected", BAD)
def test_a_request_that_cannot_be_made_is_a_mistake_of_the_configuration(
    lines: str, where: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_upstream(lines), "f")
    message = str(caught.value)
    assert where in message and expected in message and "s3cret" not in message


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="token_file") as caught:
        parse(with_upstream("", "https://me:s3cret@h/in"), "f")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["file://", "file:mnt", "file://stick/mnt", "file:///a?b", "file:///a#b", "file:///\n"]
)
def test_a_folder_is_named_by_its_whole_path(url: str) -> None:
    assert "file:///FOLDER" in (upstream_url_problem(url) or "")


@pytest.mark.parametrize(
    "url, lines, said",
    [
        ("https://h/x", "file = { mounted = true }", "file: expected a URL with file://"),
        ("file:///x", 'http = { method = "PUT" }', "http: expected a URL with http:// or https://"),
        ("file:///x", 'format = "json"', 'format: expected "ndjson" or "csv" or "parquet"'),
        ("https://h/x", 'format = "csv"', 'format: expected "msgpack" or "json" or'),
        ("https://h/x", 'http = { template = "{x}" }', "http.template: expected one of"),
        ("https://h/x", 'http = { template = "{fields}", envelope = "[]" }', "http.envelope"),
        ("https://h/x", 'http = { envelope = "[{records}]" }', "http.template: expected a templ"),
        ("https://h/x", 'http = { content_type = "a\\nb" }', "http.content_type: expected one li"),
        (
            "https://h/x",
            'format = "cloudevents"\nhttp = { template = "{fields}" }',
            "as a template says itself",
        ),
        ("file:///x", 'file = { age = "2d" }', "file.age: expected 0s to 1d"),
        ("file:///x", 'file = { aeg = "2d" }', '"age" \\(did you mean that\\?\\)'),
    ],
)
def test_what_a_kind_does_not_know_is_a_mistake_of_the_configuration(
    url: str, lines: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(f'[[upstream]]\nname = "x"\nurl = "{url}"\n{lines}\n', "f")


def test_another_agent_acknowledges_by_number() -> None:
    with pytest.raises(ConfigError, match="by number"):
        parse(with_upstream('accept = "status"', "wss://h/forward"), "f")


def test_a_queue_has_several_servers() -> None:
    url = "nats://one,two:4223,[::1]:4224/"
    assert upstream_url_problem(url) is None
    assert servers_of(url, 4222) == [("one", 4222), ("two", 4223), ("::1", 4224)]
    assert shown_url(url) == url
    assert shown_url("nats://me:s3,cret@one,[::1/key-0123456789abcdef,two") == "nats://one,…,two"


@pytest.mark.parametrize(
    "url",
    ["nats://", "nats://one,,two", "kafka://one:x", "nats://one/topic", "kafka://one?x=1",
     "nats+tls://one two", "nats://me:s3cret@one"],
)  # fmt: skip
def test_what_names_no_servers_of_a_queue(url: str) -> None:
    assert upstream_url_problem(url)


def test_a_table_of_a_kind_goes_with_a_url_of_that_kind() -> None:
    with pytest.raises(ConfigError, match="nats: expected a URL with nats://"):
        parse(with_upstream("nats = { stream = 'X' }", "https://h/in"), "f")
    with pytest.raises(ConfigError, match=r"nats\.subject: expected parts"):
        parse(with_upstream("nats = { subject = 'x' }", "nats://h"), "f")
    with pytest.raises(ConfigError, match=r"kafka\.topic: expected 1 to 249"):
        parse(with_upstream("kafka = { topic = 'x y' }", "kafka://h"), "f")
