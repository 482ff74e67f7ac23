"""Checks that types cannot make: ranges, and keys that must fit one another.

Each problem names the key that a person would change first. A mistake that would show only at three
in the morning (a pattern that matches nothing valid, a share that leaves LMDB no headroom) is an
error at start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from edge_agent.config.check_mqtt import lacks_devices
from edge_agent.config.check_rules import ACTIONS, rule_mistakes
from edge_agent.config.check_upstreams import (
    bridge_problems,
    place_problems,
    sending_problems,
    upstream_problems,
)
from edge_agent.config.derived_rules import circle_of, derived_problems
from edge_agent.config.quantities import KIB, MIB, Duration, Share, Size
from edge_agent.config.shape import Config, Rule
from edge_agent.config.units import (
    format_duration,
    format_share,
    format_size,
    parse_address,
)
from edge_agent.config.upstreams import TWO_LANES, Upstream
from edge_agent.config.urls import request_problems
from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.net.access import is_loopback
from edge_agent.values.record import DAY_S
from edge_agent.values.stream_names import compile_pattern
from edge_agent.values.time_format import parse_format

Where = Callable[[str], str]
Problem = tuple[ConfigError, Sequence[str]]
"""What to say, and the keys that it is about."""

#: What a peer agent may always send us in one message (docs/protocol.md, "From agent to agent").
FORWARD_MESSAGE_BYTES = 1 * MIB
#: All logs together; the rest is LMDB's headroom, without which a full store cannot be trimmed.
SHARES_MAX = 0.8
LOGS_MAX = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: The same in words.
NAME_EXPECTED = "a name of 1 to 64 letters, digits, '.', '_' and '-'"

#: Key to lowest and highest sensible value; both belong to the range.
_RANGES: dict[str, tuple[float, float]] = {
    "drain_timeout": (0.1, 3600),
    "listen.connections": (1, 100_000),
    "listen.unproved": (1, 100_000),
    "listen.unproved_per_address": (1, 100_000),
    "http.connections": (1, 10_000),
    "http.unproved": (1, 10_000),
    "http.unproved_per_address": (1, 10_000),
    "listen.handshake_timeout": (0.1, 3600),
    "listen.idle_timeout": (1, DAY_S),
    "listen.close_timeout": (0.1, 60),
    "limits.message_bytes": (1 * KIB, 64 * MIB),
    "limits.record_bytes": (256, 1 * MIB),
    "limits.record_values": (1 * KIB, 1 * MIB),
    "limits.record_depth": (1, 64),
    "limits.batch_records": (1, 1_000_000),
    "limits.window_records": (1, 10_000_000),
    "limits.window_bytes": (FORWARD_MESSAGE_BYTES, 1024 * MIB),
    "limits.in_flight_bytes": (FORWARD_MESSAGE_BYTES, 1024 * MIB),
    "limits.records_per_second": (0, 1e9),
    "limits.undecodable_in_a_row": (1, 1_000_000),
    "limits.sources": (1, 1_000_000),
    "limits.source_forgotten_after": (3600, 3660 * DAY_S),
    "limits.query_records": (1, 10_000_000),
    "limits.query_seconds": (0.01, 3600),
    "limits.queries": (1, 1000),
    "limits.subscriptions": (0, 100_000),
    "limits.subscription_bytes": (64 * KIB, 256 * MIB),
    "store.size": (16 * MIB, 2**40),
    "store.block_bytes": (4 * KIB, 256 * KIB),
    "store.group_bytes": (4 * KIB, 64 * MIB),
    "store.group_records": (1, 10_000_000),
    "store.compression_level": (0, 19),
    "store.reopen_after": (0.01, 60),
    "store.quarantine_share": (0.001, 0.1),
    "store.scrub_interval": (0, 366 * 86_400),
    "history.share": (0.01, 1.0),
    "history.keep": (3600, 3660 * DAY_S),
    "history.keep_minutes": (2 * DAY_S, 3660 * DAY_S),
    "history.keep_hours": (2 * DAY_S, 36_600 * DAY_S),
    "wear.bytes_per_day_max": (0, 2**50),
    "wear.commit_interval_max": (0, 3600),
    "wear.endurance": (0, 2**60),
}
_LOG_RANGES: dict[str, tuple[float, float]] = {
    "commit_interval": (0, 3600),
    "commit_interval_max": (0, 3600),
    "keep": (1, 3660 * DAY_S),
    "share": (0.01, SHARES_MAX),
    "priority": (-100, 100),
}
_UPSTREAM_RANGES: dict[str, tuple[float, float]] = {
    "batch_bytes": (1 * KIB, FORWARD_MESSAGE_BYTES),
    "batch_records": (1, 1_000_000),
    "batch_age": (0, DAY_S),
    "in_flight_bytes": (1 * KIB, 256 * MIB),
    "bytes_per_second": (0, 1024 * MIB),
    "timeout": (0.1, 3600),
    "backlog_after": (1, 366 * DAY_S),
    "max_age": (1, 3660 * DAY_S),
    "backoff_base": (0.01, 3600),
    "backoff_max": (0.01, DAY_S),
}
_FILE_RANGES: dict[str, tuple[float, float]] = {"age": (0, DAY_S), "keep_bytes": (0, 2**50)}
_RULE_RANGES: dict[str, tuple[float, float]] = {
    "max_silence": (0, 366 * DAY_S),
    "hook_budget": (0.0001, 1),
    "window": (0.1, 366 * DAY_S),
    "every": (0.1, 366 * DAY_S),
    "lateness": (0, 366 * DAY_S),
    "idle": (0.1, 366 * DAY_S),
    "open_windows": (1, 1_000_000),
}
_ALARM_RANGES: dict[str, tuple[float, float]] = {
    "per": (0.1, 366 * DAY_S),
    "absent": (0.1, 366 * DAY_S),
    "hold": (0, 366 * DAY_S),
}
_NATS_RANGES: dict[str, tuple[float, float]] = {
    "max_bytes": (1 * MIB, 2**62),
    "max_age": (1, 100 * 366 * DAY_S),
    "message_bytes": (256, 64 * MIB),
    "message_records": (1, 100_000),
}
_MQTT_RANGES: dict[str, tuple[float, float]] = {
    "keep_alive": (5, 18 * 3600),
    "in_flight": (1, 65_535),
    "message_bytes": (256, 256 * MIB),
    "messages_per_second": (0.01, 1e6),
    "sas_lifetime": (60, 366 * DAY_S),
}
#: By the table of a kind of upstream.
_KIND_RANGES = {"file": _FILE_RANGES, "nats": _NATS_RANGES, "mqtt": _MQTT_RANGES}
#: The left one must not exceed the right one.
ORDER = (
    ("limits.record_bytes", "limits.message_bytes"),
    ("limits.record_bytes", "store.block_bytes"),
    ("limits.message_bytes", "limits.window_bytes"),
    ("limits.window_bytes", "limits.in_flight_bytes"),
    ("limits.batch_records", "limits.window_records"),
    ("store.block_bytes", "store.group_bytes"),
    ("history.keep", "history.keep_minutes"),
    ("history.keep_minutes", "history.keep_hours"),
)
#: The same within one upstream.
UPSTREAM_ORDER = (("backoff_base", "backoff_max"), ("batch_bytes", "in_flight_bytes"))

#: What lets a port listen off loopback.
_PROTECTION = ("listen.tls_certificate", "listen.tls_key", "listen.tokens", "listen.insecure")
_FIX = (
    'Fix: run "edge-agent tls init DIR" and "edge-agent token add NAME --file FILE", then set'
    " listen.tls_certificate, listen.tls_key and listen.tokens (listen.insecure = true does"
    " without, if everybody on that network may read and write)"
)


def limits_of(table: str, key: str, kind: type) -> str:
    """The range of a key of ``listen``, ``log``, ``upstream`` …, of values of ``kind``, in words;
    "" where it has none.
    """
    own = {
        "log": _LOG_RANGES, "upstream": _UPSTREAM_RANGES, "rule": _RULE_RANGES,
        "alarm": _ALARM_RANGES, **_KIND_RANGES,
    }  # fmt: skip
    ranges = own.get(table, _RANGES)
    bounds = ranges.get(key if table in own or not table else f"{table}.{key}")
    return "" if bounds is None else _range(bounds, kind)


def _range(bounds: tuple[float, float], kind: type) -> str:
    return " to ".join(_show(kind(bound)) for bound in bounds)


def problems(config: Config, where: Where) -> Iterator[Problem]:
    """Everything that does not fit, each with the keys that it is about.

    ``where`` turns a dotted key into the place where it was set.
    """
    beyond = set()
    for key, bounds in _RANGES.items():
        for problem in _in_range(_get(config, key), bounds, key, where):
            beyond.add(key)
            yield problem
    for smaller, larger in ORDER:
        left, right = _get(config, smaller), _get(config, larger)
        if left > right and not beyond & {smaller, larger}:
            expected = f"at most {larger} = {_show(right)}"
            yield ConfigError(where(smaller), expected, _show(left)), (smaller, larger)
    yield from _about_ports(config, where)
    yield from _about_patterns(config.http.expose, "http.expose", where)
    yield from _about_logs(config, where)
    yield from _about_names([upstream.name for upstream in config.upstream], "upstream", where)
    yield from _about_names([rule.name for rule in config.rule], "rule", where)
    for upstream in config.upstream:
        yield from _about_upstream(upstream, f"upstream.{upstream.name}", where)
        for key, expected, found in upstream_problems(upstream, config.log):
            yield _problem(f"upstream.{upstream.name}.{key}", where, expected, found)
        if (lacking := lacks_devices(upstream, len(config.log))) is not None:
            yield _problem(f"upstream.{upstream.name}.mqtt.client_id", where, *lacking)
    rules = {rule.name for rule in config.rule}
    among = chain(
        sending_problems(config.upstream, rules),
        place_problems(config.upstream),
        bridge_problems(config.upstream, config.log),
    )
    for name, (key, expected, found) in among:
        yield _problem(f"upstream.{name}.{key}", where, expected, found)
    for rule in config.rule:
        yield from _about_rule(rule, f"rule.{rule.name}", where)
    if circle := circle_of(config.rule):
        expected = "rules that do not feed one another in a circle"
        yield _problem(f"rule.{circle[0]}.derived", where, expected, " -> ".join(circle))


def _about_ports(config: Config, where: Where) -> Iterator[Problem]:
    listen, places = config.listen, []
    if (listen.tls_certificate is None) != (listen.tls_key is None):
        missing = "tls_key" if listen.tls_key is None else "tls_certificate"
        expected = "a file, as certificate and key go together"
        yield ConfigError(where(f"listen.{missing}"), expected, "nothing"), _PROTECTION
    for key, address in (("listen.address", listen.address), ("http.address", config.http.address)):
        if key == "http.address" and address == "off":
            continue
        try:
            host, port = parse_address(address)
        except ValueError as error:
            expected = str(error) + (' or "off"' if key == "http.address" else "")
            yield _problem(key, where, expected, f'"{address}"')
            continue
        places.append((host, port))
        lacking = [] if listen.tls_certificate else ["TLS"]
        lacking += [] if listen.tokens else ["tokens"]
        if lacking and not is_loopback(host) and not listen.insecure:
            found = f'"{address}" without {" and ".join(lacking)}. {_FIX}'
            expected = "a loopback address, or TLS and tokens"
            yield ConfigError(where(key), expected, found), (key, *_PROTECTION)
    if len(places) == 2 and _collide(*places):
        expected = f"another port than listen.address = {listen.address}"
        found = f'"{config.http.address}"'
        yield (
            ConfigError(where("http.address"), expected, found),
            ("http.address", "listen.address"),
        )


def _collide(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two listeners cannot both have their address."""
    if one[1] != other[1] or one[1] == 0:
        return False
    hosts = {one[0].lower(), other[0].lower()}
    if len(hosts) == 1 or "" in hosts:
        return True
    if "localhost" in hosts and all(map(is_loopback, hosts)):
        return True
    # An address of all addresses, of its own kind.
    sixes = [":" in host for host in hosts]
    return ("0.0.0.0" in hosts and not any(sixes)) or ("::" in hosts and all(sixes))


def _about_logs(config: Config, where: Where) -> Iterator[Problem]:
    yield from _about_names(list(config.log), "log", where)
    if len(config.log) > LOGS_MAX:
        yield _problem("log", where, f"at most {LOGS_MAX} logs", str(len(config.log)))
    for name, log in config.log.items():
        for key, bounds in _LOG_RANGES.items():
            yield from _in_range(getattr(log, key), bounds, f"log.{name}.{key}", where)
        yield from _about_patterns(log.streams, f"log.{name}.streams", where)
    shares = [log.share for log in config.log.values()]
    low, high = _LOG_RANGES["share"]
    if round(sum(shares), 9) > SHARES_MAX and all(low <= share <= high for share in shares):
        found = " + ".join(f"{format_share(log.share)} ({n})" for n, log in config.log.items())
        key = f"log.{list(config.log)[-1]}.share"
        expected = f"all logs together at most {format_share(SHARES_MAX)}"
        yield ConfigError(where(key), expected, found), [f"log.{n}.share" for n in config.log]


def _about_upstream(upstream: Upstream, at: str, where: Where) -> Iterator[Problem]:
    beyond = set()
    for key, bounds in _UPSTREAM_RANGES.items():
        for problem in _in_range(getattr(upstream, key), bounds, f"{at}.{key}", where):
            beyond.add(key)
            yield problem
    for name, ranges in _KIND_RANGES.items():
        table = getattr(upstream, name)
        for key, bounds in ranges.items() if table is not None else ():
            yield from _in_range(getattr(table, key), bounds, f"{at}.{name}.{key}", where)
    yield from _about_patterns(upstream.streams, f"{at}.streams", where, at_least_one=True)
    for smaller, larger in UPSTREAM_ORDER:
        left, right = getattr(upstream, smaller), getattr(upstream, larger)
        if left > right and not beyond & {smaller, larger}:
            error = ConfigError(
                where(f"{at}.{smaller}"), f"at most {larger} = {_show(right)}", _show(left)
            )
            yield error, (f"{at}.{smaller}", f"{at}.{larger}")
    if upstream.order not in (None, "in order") and upstream.kind not in TWO_LANES:
        # Whatever names a session there would be the same for two lanes at once.
        found = f'"{upstream.order}" for {upstream.scheme}://'
        yield _problem(f"{at}.order", where, 'none, or "in order"', found)
    for key, expected, found in request_problems(upstream):
        yield _problem(f"{at}.{key}", where, expected, found)


def _about_rule(rule: Rule, at: str, where: Where) -> Iterator[Problem]:
    given = [name for name in ACTIONS if getattr(rule, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        key = where(f"{at}.{given[1] if given else 'rename'}")
        every = f"{', '.join(ACTIONS[:-1])} and {ACTIONS[-1]}"
        error = ConfigError(key, f"exactly one of {every}", found)
        yield error, [f"{at}.{name}" for name in ACTIONS]
    else:
        for own, expected, found in rule_mistakes(rule, given[0]):
            yield _problem(f"{at}.{own}", where, expected, found)
        for own, expected, found in derived_problems(rule, given[0]):
            yield _problem(f"{at}.{own}", where, expected, found)
    if rule.time is not None:
        yield from _about_rule_time(rule.time, f"{at}.time", where)
    for key, bounds in _RULE_RANGES.items():
        yield from _in_range(getattr(rule, key), bounds, f"{at}.{key}", where)
    yield from _about_patterns(rule.streams, f"{at}.streams", where, at_least_one=True)
    if rule.alarm is not None:
        for key, bounds in _ALARM_RANGES.items():
            yield from _in_range(getattr(rule.alarm, key), bounds, f"{at}.alarm.{key}", where)


def _about_rule_time(given: Mapping[str, str], at: str, where: Where) -> Iterator[Problem]:
    for key in given:
        if key not in ("key", "format", "zone"):
            yield _problem(f"{at}.{key}", where, "key, format or zone", f'"{key}"')
    if not given or given.get("key") in ("", "stream"):
        yield _problem(f"{at}.key", where, "a field other than stream", "none")
    for form, zone in ((given.get("format"), None), (None, given.get("zone"))):
        try:
            parse_format(form, zone, form_key=where(f"{at}.format"), zone_key=where(f"{at}.zone"))
        except ConfigError as error:
            yield error, (at,)


def _about_names(names: Sequence[str], group: str, where: Where) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if not _NAME.fullmatch(name):
            yield _problem(f"{group}.{name}", where, NAME_EXPECTED, f'"{name}"')
        if name in names[:index]:
            yield _problem(f"{group}.{name}", where, "a name of its own", f'"{name}" twice')


def _about_patterns(
    patterns: Sequence[str], key: str, where: Where, *, at_least_one: bool = False
) -> Iterator[Problem]:
    if at_least_one and not patterns:
        yield _problem(key, where, 'at least one pattern, such as "**"', "none")
    for pattern in patterns:
        try:
            compile_pattern(pattern)
        except ProtocolError as error:
            yield _problem(key, where, "patterns of stream names", error.message)


def _in_range(
    value: float | None, bounds: tuple[float, float], key: str, where: Where
) -> Iterator[Problem]:
    if value is not None and not bounds[0] <= value <= bounds[1]:
        yield _problem(key, where, _range(bounds, type(value)), _show(value))


def _problem(key: str, where: Where, expected: str, found: str) -> Problem:
    return ConfigError(where(key), expected, found), (key,)


def _get(config: Config, key: str) -> float:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    assert isinstance(value, (int, float))
    return value


def _show(value: object) -> str:
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, Size):
        return format_size(value)
    if isinstance(value, Share):
        return format_share(value)
    return str(value)
