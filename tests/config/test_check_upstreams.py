from __future__ import annotations

import pytest

from edge_agent.config import parse
from edge_agent.errors import ConfigError

UPSTREAM = '[log.alarms]\nstreams = ["a/**"]\nshare = "10%"\n[[upstream]]\nname = "hub"\n'
UPSTREAM += 'url = "wss://h/forward"\n'


@pytest.mark.parametrize(
    "more, told",
    [
        ('logs = ["alarm"]', 'logs: expected names of logs that are configured, found "alarm"'),
        ('windows = ["1-4"]', 'windows: expected a window such as "01:00-04:00"'),
        ('windows = ["mo 01:00-04:00"]', "windows: expected days such as mon-fri or sat,sun"),
        ('always = ["alarms"]', "always: expected this key only beside windows, found none"),
        (
            'windows = ["01:00-04:00"]\nlogs = ["main"]\nalways = ["alarms"]',
            'always: expected logs that it is sent at all (logs), found "alarms"',
        ),
        ('start = "newest"', 'start: expected "oldest", "now", a time such as'),
    ],
)
def test_what_does_not_fit_is_told(more: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(UPSTREAM + more, "x.toml")
    assert f"upstream.hub.{told}" in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        'logs = ["alarms"]\nstart = "now"',
        'windows = ["01:00-04:00", "sat,sun 00:00-24:00"]\nalways = ["alarms"]',
        'start = "2026-11-22T10:00:00Z"',
        'start = "-7d"',
    ],
)
def test_what_fits_loads(more: str) -> None:
    (upstream,) = parse(UPSTREAM + more, "x.toml").upstream
    assert upstream.name == "hub"


TWO = """
[log.alarms]
streams = ["a/**"]
share = "10%"
[[upstream]]
name = "a"
url = "{0}"
{1}
[[upstream]]
name = "b"
url = "{2}"
{3}
"""
NAMED = 'mqtt = { client_id = "pi-7" }'
EACH = 'mqtt = { client_id = "pi-7-{log}" }'
BY_LOG = ('logs = ["main"]\n', 'logs = ["alarms"]\n')


@pytest.mark.parametrize(
    "places, told",
    [
        (("nats://n", "", "nats://o,n:4222", 'streams = ["b/**"]'), 'subject: expected another'),
        (("nats://n", "", "nats+tls://n", 'logs = ["main"]'), "subject: expected another than"),
        (("mqtt://m", NAMED, "mqtt://m:1883", NAMED), "client_id: expected another than that of"),
        (("mqtt://m", BY_LOG[0] + NAMED, "mqtt://m", BY_LOG[1] + NAMED), "client_id: expected"),
        (("mqtt://m", EACH, "mqtt://m", BY_LOG[1] + EACH), "client_id: expected another than"),
    ],
)  # fmt: skip
def test_two_that_would_be_taken_for_one_another_are_told(
    places: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TWO.format(*places), "x.toml")
    assert f".{told}" in str(caught.value) and "of upstream a, found" in str(caught.value)


@pytest.mark.parametrize(
    "places",
    [
        ("nats://n", "", "nats://o", ""),
        ("nats://n", "", "nats://n", 'nats = { subject = "b.{agent}.{log}" }'),
        ("nats://n", BY_LOG[0], "nats://n", BY_LOG[1]),
        ("nats://n", "", "nats://n", 'token_file = "other"'),
        ("mqtt://m", "", "mqtt://m", ""),
        ("mqtt://m", NAMED, "mqtt://o", NAMED),
        ("mqtt://m", BY_LOG[0] + EACH, "mqtt://m", BY_LOG[1] + EACH),
        ("wss://h/forward", "", "wss://h/forward", 'streams = ["b/**"]'),
    ],
)
def test_two_that_are_told_apart_there_load(places: tuple[str, ...]) -> None:
    assert len(parse(TWO.format(*places), "x.toml").upstream) == 2


BRIDGE = '[log.main]\nwhen_full = "refuse"\n[[upstream]]\nname = "js"\n'
BRIDGE += 'url = "nats://127.0.0.1:4222"\nbridge = true\n'


@pytest.mark.parametrize(
    "more, told",
    [
        ('order = "live first"', 'order: expected "in order" beside bridge, found "live first"'),
        ("required = false", "required: expected true beside bridge, found false"),
        ('start = "now"', 'start: expected "oldest" beside bridge, found "now"'),
        ('send = "1m means"', 'send: expected "records" beside bridge, found "1m means"'),
        ('windows = ["01:00-04:00"]', "windows: expected nothing beside bridge, found some"),
        ('max_age = "7d"', "max_age: expected nothing beside bridge, found some"),
        ('batch_age = "40s"', "batch_age: expected at most 2 s beside bridge, found 40 s"),
    ],
)
def test_what_could_pass_a_record_over_does_not_go_with_a_bridge(more: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(BRIDGE + more, "x.toml")
    assert f"upstream.js.{told}" in str(caught.value)


def test_a_bridge_needs_a_log_that_discards_nothing_and_another_machine() -> None:
    for given, told in (
        (
            BRIDGE.replace("refuse", "discard-oldest"),
            'bridge: expected when_full = "refuse" of log',
        ),
        (BRIDGE.replace("nats://127.0.0.1:4222", "file:///var/out"), "another machine's disk"),
        (
            BRIDGE + BRIDGE.partition("[[")[2].join(("[[", "")).replace('"js"', '"two"'),
            "upstream.two.bridge: expected one upstream only that bridges, which is js",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            parse(given, "x.toml")
        assert told in str(caught.value)


def test_a_bridge_goes_in_order_and_only_its_own_logs_have_to_refuse() -> None:
    assert not parse(BRIDGE, "x.toml").upstream[0].live_first
    kafka = BRIDGE.replace("nats://127.0.0.1:4222", "kafka://127.0.0.1:9092")
    assert not parse(kafka, "x.toml").upstream[0].live_first
    assert parse(kafka.replace("bridge = true\n", ""), "x.toml").upstream[0].live_first
    more = 'logs = ["main"]\n[log.debug]\nstreams = ["debug/**"]\nshare = "10%"\n'
    assert parse(BRIDGE + more, "x.toml").upstream[0].bridge
