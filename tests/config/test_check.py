from __future__ import annotations

import pytest

from edge_agent.config import Config, parse
from edge_agent.errors import ConfigError

TLS = 'tls_certificate = "c.pem"\ntls_key = "k.pem"\n'


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    return str(caught.value)


@pytest.mark.parametrize("address", ["0.0.0.0:8765", ":8765", "192.168.1.7:8765", "[::]:1", "pi:1"])
@pytest.mark.parametrize("port", ["listen", "http"])
def test_listening_off_loopback_without_tls_and_tokens_tells_the_fix(
    port: str, address: str
) -> None:
    message = error_of(f'[{port}]\naddress = "{address}"\n')
    assert message.startswith(f"f: {port}.address: expected a loopback address, or TLS and tokens")
    assert f'found "{address}" without TLS and tokens' in message
    assert '"edge-agent tls init DIR" and "edge-agent token add NAME --file FILE"' in message
    assert "listen.insecure = true" in message


def test_listening_off_loopback_wants_both() -> None:
    where = 'address = "0.0.0.0:1"\n'
    assert "without tokens." in error_of(f"[listen]\n{where}{TLS}")
    assert "without TLS." in error_of(f'[listen]\n{where}tokens = "t"\n')
    assert parse(f'[listen]\n{where}{TLS}tokens = "t"\n', "f").listen.tokens == "t"
    assert parse(f"[listen]\n{where}insecure = true\n", "f").listen.insecure


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:8765", "[::1]:8765"])
def test_loopback_needs_neither(address: str) -> None:
    assert parse(f'[listen]\naddress = "{address}"\n', "f").listen.address == address


def test_the_peoples_port_can_be_off_and_the_sensors_cannot() -> None:
    assert parse('[http]\naddress = "off"\n', "f").http.address == "off"
    assert "HOST:PORT" in error_of('[listen]\naddress = "off"\n')
    assert 'or "off"' in error_of('[http]\naddress = "8766"\n')


def test_certificate_and_key_go_together() -> None:
    assert error_of('[listen]\ntls_key = "k"\n').startswith("f: listen.tls_certificate: expected a")
    assert error_of('[listen]\ntls_certificate = "c"\n').startswith("f: listen.tls_key: expected a")


@pytest.mark.parametrize(
    "text, message",
    [
        ('[store]\nsize = "15MiB"', "f: store.size: expected 16MiB to 1TiB, found 15MiB"),
        ("[limits]\nqueries = 0", "f: limits.queries: expected 1 to 1000, found 0"),
        ('[limits]\nwindow_bytes = "512KiB"', "f: limits.window_bytes: expected 1MiB to 1GiB, found 512KiB"),
        ('[limits]\nin_flight_bytes = "512KiB"', "f: limits.in_flight_bytes: expected 1MiB to 1GiB, found 512KiB"),
        ("[store]\ncompression_level = 20", "f: store.compression_level: expected 0 to 19, found 20"),
        ('[listen]\nidle_timeout = "0s"', "f: listen.idle_timeout: expected 1s to 1d, found 0s"),
        ('drain_timeout = "2h"', "f: drain_timeout: expected 100ms to 1h, found 2h"),
        ('[log.main]\ncommit_interval = "2h"', "f: log.main.commit_interval: expected 0s to 1h, found 2h"),
        ('[log.main]\ncommit_interval_max = "2h"', "f: log.main.commit_interval_max: expected 0s to 1h, found 2h"),
        ('[wear]\ncommit_interval_max = "2h"', "f: wear.commit_interval_max: expected 0s to 1h, found 2h"),
        ('[log.main]\nshare = "81%"', "f: log.main.share: expected 1% to 80%, found 81%"),
        ('[limits]\nrecord_bytes = "512KiB"', "f: limits.record_bytes: expected at most store.block_bytes = 256KiB, found 512KiB"),
        ('[limits]\nmessage_bytes = "32KiB"', "f: limits.record_bytes: expected at most limits.message_bytes = 32KiB, found 64KiB"),
        ('[limits]\nmessage_bytes = "16MiB"', "f: limits.message_bytes: expected at most limits.window_bytes = 8MiB, found 16MiB"),
        ('[limits]\nwindow_bytes = "64MiB"', "f: limits.window_bytes: expected at most limits.in_flight_bytes = 32MiB, found 64MiB"),
        ("[limits]\nbatch_records = 200000", "f: limits.batch_records: expected at most limits.window_records = 100000, found 200000"),
        ('[store]\ngroup_bytes = "128KiB"', "f: store.block_bytes: expected at most store.group_bytes = 128KiB, found 256KiB"),
    ],
)  # fmt: skip
def test_limits_are_in_range_and_fit_one_another(text: str, message: str) -> None:
    assert error_of(text) == message


def test_all_logs_together_leave_lmdb_its_headroom() -> None:
    assert error_of('[log.alarms]\nshare = "20%"\n') == (
        "f: log.main.share: expected all logs together at most 80%, found 20% (alarms) + 70% (main)"
    )
    assert len(parse('[log.alarms]\nshare = "10%"\n', "f").log) == 2


def test_the_number_of_logs_is_bounded() -> None:
    many = "".join(f'[log.l{n}]\nshare = "1%"\n' for n in range(40))
    assert "at most 32 logs" in error_of(many)


@pytest.mark.parametrize(
    "text",
    ['[log.main]\nstreams = ["a*"]', '[[upstream]]\nname="x"\nurl="https://x/"\nstreams=["a//b"]',
     '[[rule]]\nname = "x"\nstreams = ["***"]\ndrop = "record"'],
)  # fmt: skip
def test_patterns_must_compile(text: str) -> None:
    assert "streams: expected patterns of stream names, found " in error_of(text)


def test_patterns_of_what_metrics_show_must_compile() -> None:
    wrong = error_of('[http]\nexpose = ["greenhouse/*", "tank/lev*"]\n')
    assert wrong.startswith("f: http.expose: expected patterns of stream names, found ")
    assert parse('[http]\nexpose = ["greenhouse/*"]\n', "f").http.expose == ("greenhouse/*",)


@pytest.mark.parametrize(
    "text",
    [
        '[[upstream]]\nname="x"\nurl="https://x/"\nstreams=[]',
        '[[rule]]\nname="x"\nstreams=[]\ndrop="record"',
    ],
)
def test_an_upstream_or_rule_for_nothing_is_a_mistake(text: str) -> None:
    assert 'at least one pattern, such as "**"' in error_of(text)


@pytest.mark.parametrize("group", ["upstream", "rule"])
@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "$x", "x" * 65])
def test_names_are_plain(group: str, name: str) -> None:
    text = f'[[{group}]]\nname = "{name}"\nurl = "https://x/"\n'
    if group == "rule":
        text = f'[[rule]]\nname = "{name}"\nstreams = ["a"]\ndrop = "record"\n'
    assert "expected a name of 1 to 64 letters" in error_of(text)


def with_upstream(lines: str) -> str:
    return f'[[upstream]]\nname = "x"\n{lines}\n'


@pytest.mark.parametrize(
    "url",
    [
        "ws://h:1/forward",
        "wss://h/forward",
        "http://h",
        "https://h/a/b?c=d",
        "ws://[::1]:1/forward",
    ],
)
def test_good_urls(url: str) -> None:
    assert parse(with_upstream(f'url = "{url}"'), "f").upstream[0].url == url


@pytest.mark.parametrize(
    "url, expected",
    [
        ("", "wss://HOST:PORT/forward"),
        ("hub:8765", "wss://HOST:PORT/forward"),
        ("mqtt2://hub", "wss://HOST:PORT/forward"),
        ("https://", "wss://HOST:PORT/forward"),
        ("https://h:99999/", "wss://HOST:PORT/forward"),
        ("https://[::1/", "wss://HOST:PORT/forward"),
        ("https://h/#x", "wss://HOST:PORT/forward"),
        ("https://me:secret@h/", "without user and password"),
        ("ws://hub:8765", '"ws://hub:8765/forward"'),
        ("wss://hub/ingest/x", '"wss://hub/forward"'),
    ],
)
def test_bad_urls(url: str, expected: str) -> None:
    message = error_of(with_upstream(f'url = "{url}"'))
    assert message.startswith("f: upstream.x.url: expected ")
    assert expected in message


@pytest.mark.parametrize(
    "lines, expected",
    [
        ('backoff_base = "10m"', "upstream.x.backoff_base: expected at most backoff_max = 5m"),
        ('in_flight_bytes = "512KiB"', "upstream.x.batch_bytes: expected at most in_flight_bytes"),
        ('batch_bytes = "2MiB"', "upstream.x.batch_bytes: expected 1KiB to 1MiB, found 2MiB"),
    ],
)
def test_an_upstreams_limits_fit_one_another(lines: str, expected: str) -> None:
    assert expected in error_of(with_upstream(f'url = "https://h/"\n{lines}'))


def with_rule(lines: str) -> str:
    return f'[[rule]]\nname = "x"\nstreams = ["a"]\n{lines}\n'


@pytest.mark.parametrize(
    "lines, expected",
    [
        ("", "schema, pseudonymise, truncate, profile, hook, time, window and alarm, found none"),
        ('drop = "record"\nredact = ["a"]', "hook, time, window and alarm, found drop and redact"),
        ("rename = {}", "rule.x.rename: expected at least one field, found none"),
        ("drop = []", "rule.x.drop: expected at least one field, found none"),
        ("redact = []", "rule.x.redact: expected at least one field, found none"),
        ('rename = {ts = "time"}', "f: rule.x.rename: expected a field other than time and stream"),
        ('drop = ["stream"]', 'rule.x.drop: expected a field other than time and stream, found "stream"'),
        ('redact = ["time"]', "rule.x.redact: expected a field other than time and stream"),
        ('drop = "record"\ninto = "b"', "rule.x.into: expected this key only beside window"),
        ('drop = "record"\nfields = ["b"]', "rule.x.fields: expected this key only beside window"),
        ('window = "1h"', 'rule.x.into: expected a stream such as "{stream}/1h", found nothing'),
        ('window = "1h"\ninto = "$x"', "rule.x.into: expected a stream name in which"),
        ('window = "1h"\ninto = "{sensor}"', "rule.x.into: expected a stream name in which"),
        ('window = "0s"\ninto = "b"', "rule.x.window: expected 100ms to 366d, found 0s"),
        ('window = "1h"\ninto = "b"\nopen_windows = 0', "rule.x.open_windows: expected 1 to"),
    ],
)  # fmt: skip
def test_a_rule_has_exactly_one_action_and_what_belongs_to_it(lines: str, expected: str) -> None:
    assert expected in error_of(with_rule(lines))


def test_the_defaults_pass_every_check() -> None:
    assert parse("", "f") == Config()


def test_a_kind_without_a_second_lane_goes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    given = '[[upstream]]\nname = "a"\nurl = "ws://h/forward"\n'
    for order in ("live first", "newest first"):
        assert parse(given + f'order = "{order}"', "f").upstream[0].live_first
    assert not parse(given + 'order = "in order"', "f").upstream[0].live_first
    assert parse(given, "f").upstream[0].live_first
    for module in ("check", "upstreams"):
        monkeypatch.setattr(f"edge_agent.config.{module}.TWO_LANES", frozenset())
    assert not parse(given, "f").upstream[0].live_first
    assert error_of(given + 'order = "live first"') == (
        'f: upstream.a.order: expected none, or "in order", found "live first" for ws://'
    )
