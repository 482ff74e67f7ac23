"""What the types cannot say: ranges, and keys that must fit one another.

Each check names the key that a person would change first. A mistake that would show only at three
in the morning (a pattern that matches nothing valid, a share that leaves LMDB no headroom) is an
error at start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from edge_agent.config.shape import KIB, MIB, Config, Duration, Rule, Share, Size, Upstream
from edge_agent.config.units import (
    format_duration,
    format_share,
    format_size,
    is_loopback,
    parse_address,
)
from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.streams import compile_pattern, stream_problem
from edge_agent.time_format import parse_format

Where = Callable[[str], str]

#: What a peer agent may always send us in one message (PROTOCOL, "Agent to agent").
FORWARD_MESSAGE_BYTES = 1 * MIB
#: All logs together; the rest is LMDB's headroom, without which a full store cannot be trimmed.
SHARES_MAX = 0.8
_LOGS_MAX = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DAY_S = 86_400.0

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
    "listen.idle_timeout": (1, _DAY_S),
    "listen.close_timeout": (0.1, 60),
    "limits.message_bytes": (1 * KIB, 64 * MIB),
    "limits.record_bytes": (256, 1 * MIB),
    "limits.record_depth": (1, 64),
    "limits.batch_records": (1, 1_000_000),
    "limits.window_records": (1, 10_000_000),
    "limits.window_bytes": (FORWARD_MESSAGE_BYTES, 1024 * MIB),
    "limits.in_flight_bytes": (FORWARD_MESSAGE_BYTES, 1024 * MIB),
    "limits.records_per_second": (0, 1e9),
    "limits.undecodable_in_a_row": (1, 1_000_000),
    "limits.sources": (1, 1_000_000),
    "limits.source_forgotten_after": (3600, 3660 * _DAY_S),
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
    "wear.bytes_per_day_max": (0, 2**50),
    "wear.commit_interval_max": (0, 3600),
    "wear.endurance": (0, 2**60),
}
_LOG_RANGES: dict[str, tuple[float, float]] = {
    "commit_interval": (0, 3600),
    "commit_interval_max": (0, 3600),
    "keep": (1, 3660 * _DAY_S),
    "share": (0.01, SHARES_MAX),
}
_UPSTREAM_RANGES: dict[str, tuple[float, float]] = {
    "batch_bytes": (1 * KIB, FORWARD_MESSAGE_BYTES),
    "batch_records": (1, 1_000_000),
    "batch_age": (0, _DAY_S),
    "in_flight_bytes": (1 * KIB, 256 * MIB),
    "timeout": (0.1, 3600),
    "backoff_base": (0.01, 3600),
    "backoff_max": (0.01, _DAY_S),
}
_RULE_RANGES: dict[str, tuple[float, float]] = {
    "window": (0.1, 366 * _DAY_S),
    "lateness": (0, 366 * _DAY_S),
    "idle": (0.1, 366 * _DAY_S),
    "open_windows": (1, 1_000_000),
}
#: The left one must not exceed the right one.
_ORDER = (
    ("limits.record_bytes", "limits.message_bytes"),
    ("limits.record_bytes", "store.block_bytes"),
    ("limits.message_bytes", "limits.window_bytes"),
    ("limits.window_bytes", "limits.in_flight_bytes"),
    ("limits.batch_records", "limits.window_records"),
    ("store.block_bytes", "store.group_bytes"),
)

_FIX = (
    'Fix: run "edge-agent tls init DIR" and "edge-agent token add NAME --file FILE", then set'
    " listen.tls_certificate, listen.tls_key and listen.tokens (listen.insecure = true does"
    " without, if everybody on that network may read and write)"
)


def check(config: Config, where: Where) -> None:
    """Raise ConfigError for the first thing that does not fit.

    ``where`` turns a dotted key into the place where it was set.
    """
    for key, bounds in _RANGES.items():
        _in_range(_get(config, key), bounds, where(key))
    for smaller, larger in _ORDER:
        left, right = _get(config, smaller), _get(config, larger)
        if left > right:
            expected = f"at most {larger} = {_show(right)}"
            raise ConfigError(where(smaller), expected, _show(left))
    _check_ports(config, where)
    _check_logs(config, where)
    _check_names([upstream.name for upstream in config.upstream], "upstream", where)
    _check_names([rule.name for rule in config.rule], "rule", where)
    for upstream in config.upstream:
        _check_upstream(upstream, _within(where, f"upstream.{upstream.name}"))
    for rule in config.rule:
        _check_rule(rule, _within(where, f"rule.{rule.name}"))


def _within(where: Where, table: str) -> Where:
    return lambda key: where(f"{table}.{key}")


def _check_ports(config: Config, where: Where) -> None:
    listen = config.listen
    if (listen.tls_certificate is None) != (listen.tls_key is None):
        missing = "tls_key" if listen.tls_key is None else "tls_certificate"
        raise ConfigError(
            where(f"listen.{missing}"), "a file, as certificate and key go together", "nothing"
        )
    for key, address in (("listen.address", listen.address), ("http.address", config.http.address)):
        if key == "http.address" and address == "off":
            continue
        try:
            host, _ = parse_address(address)
        except ValueError as error:
            expected = str(error) + (' or "off"' if key == "http.address" else "")
            raise ConfigError(where(key), expected, f'"{address}"') from None
        lacking = [] if listen.tls_certificate else ["TLS"]
        lacking += [] if listen.tokens else ["tokens"]
        if lacking and not is_loopback(host) and not listen.insecure:
            raise ConfigError(
                where(key),
                "a loopback address, or TLS and tokens",
                f'"{address}" without {" and ".join(lacking)}. {_FIX}',
            )


def _check_logs(config: Config, where: Where) -> None:
    _check_names(list(config.log), "log", where)
    if len(config.log) > _LOGS_MAX:
        raise ConfigError(where("log"), f"at most {_LOGS_MAX} logs", str(len(config.log)))
    for name, log in config.log.items():
        for key, bounds in _LOG_RANGES.items():
            if getattr(log, key) is not None:
                _in_range(getattr(log, key), bounds, where(f"log.{name}.{key}"))
        _check_patterns(log.streams, where(f"log.{name}.streams"))
    if round(sum(log.share for log in config.log.values()), 9) > SHARES_MAX:
        found = " + ".join(f"{format_share(log.share)} ({n})" for n, log in config.log.items())
        key = where(f"log.{list(config.log)[-1]}.share")
        raise ConfigError(key, f"all logs together at most {format_share(SHARES_MAX)}", found)


def _check_upstream(upstream: Upstream, where: Where) -> None:
    for key, bounds in _UPSTREAM_RANGES.items():
        _in_range(getattr(upstream, key), bounds, where(key))
    _check_patterns(upstream.streams, where("streams"), at_least_one=True)
    if upstream.backoff_base > upstream.backoff_max:
        expected = f"at most backoff_max = {_show(upstream.backoff_max)}"
        raise ConfigError(where("backoff_base"), expected, _show(upstream.backoff_base))
    if upstream.batch_bytes > upstream.in_flight_bytes:
        expected = f"at most in_flight_bytes = {_show(upstream.in_flight_bytes)}"
        raise ConfigError(where("batch_bytes"), expected, _show(upstream.batch_bytes))
    problem = _url_problem(upstream.url)
    if problem:
        raise ConfigError(where("url"), problem, f'"{upstream.url}"')


def _url_problem(url: str) -> str | None:
    """What was expected instead of ``url``; None where it is good."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in ("ws", "wss", "http", "https") or parts.fragment:
        return '"wss://HOST:PORT/forward" for another agent or "https://HOST/PATH"'
    if parts.username is not None or parts.password is not None:
        return "a URL without user and password (a token belongs into token_file)"
    if parts.scheme in ("ws", "wss") and (parts.path != "/forward" or parts.query):
        return f'"{parts.scheme}://{parts.netloc}/forward", another agent\'s port for agents'
    return None


def _check_rule(rule: Rule, where: Where) -> None:
    given = [
        name
        for name in ("rename", "drop", "redact", "time", "window")
        if getattr(rule, name) is not None
    ]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        key = where(given[1] if given else "rename")
        raise ConfigError(key, "exactly one of rename, drop, redact, time and window", found)
    for name in ("rename", "drop", "redact"):
        if name in given and not getattr(rule, name):
            raise ConfigError(where(name), "at least one field", "none")
    if rule.time is not None:
        _check_rule_time(rule.time, where)
    for key, bounds in _RULE_RANGES.items():
        if getattr(rule, key) is not None:
            _in_range(getattr(rule, key), bounds, where(key))
    _check_patterns(rule.streams, where("streams"), at_least_one=True)
    if rule.window is None:
        for key in ("into", "fields", "derived"):
            if getattr(rule, key):
                raise ConfigError(where(key), "this key only beside window", _show(given[0]))
    elif rule.into is None:
        raise ConfigError(where("into"), 'a stream such as "{stream}/1h"', "nothing")
    elif stream_problem(rule.into.replace("{stream}", "x")) is not None:
        raise ConfigError(
            where("into"), 'a stream name in which "{stream}" may stand', f'"{rule.into}"'
        )


def _check_rule_time(given: Mapping[str, str], where: Where) -> None:
    for key in given:
        if key not in ("key", "format", "zone"):
            raise ConfigError(where(f"time.{key}"), "key, format or zone", f'"{key}"')
    if not given or given.get("key") in ("", "stream"):
        raise ConfigError(where("time.key"), "a field other than stream", "none")
    parse_format(
        given.get("format"),
        given.get("zone"),
        form_key=where("time.format"),
        zone_key=where("time.zone"),
    )


def _check_names(names: Sequence[str], group: str, where: Where) -> None:
    for index, name in enumerate(names):
        if not _NAME.fullmatch(name):
            expected = "a name of 1 to 64 letters, digits, '.', '_' and '-'"
            raise ConfigError(where(f"{group}.{name}"), expected, f'"{name}"')
        if name in names[:index]:
            raise ConfigError(where(f"{group}.{name}"), "a name of its own", f'"{name}" twice')


def _check_patterns(patterns: Sequence[str], where: str, *, at_least_one: bool = False) -> None:
    if at_least_one and not patterns:
        raise ConfigError(where, 'at least one pattern, such as "**"', "none")
    for pattern in patterns:
        try:
            compile_pattern(pattern)
        except ProtocolError as error:
            raise ConfigError(where, "patterns of stream names", error.message) from None


def _in_range(value: float, bounds: tuple[float, float], where: str) -> None:
    low, high = (type(value)(bound) for bound in bounds)
    if not low <= value <= high:
        raise ConfigError(where, f"{_show(low)} to {_show(high)}", _show(value))


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
