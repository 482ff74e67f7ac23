"""Checks of keys of one upstream that must fit together; `urls` checks its URL."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from edge_agent.config.queue_tables import NatsTable
from edge_agent.config.sending import rule_name, step_of
from edge_agent.config.shape import LogConfig
from edge_agent.config.upstreams import PORTS, Upstream
from edge_agent.config.urls import Problem, servers_of
from edge_agent.config.windows import parse_window
from edge_agent.errors import ProtocolError
from edge_agent.values.moments import parse_moment


def upstream_problems(upstream: Upstream, logs: Container[str]) -> Iterator[Problem]:
    """All that does not fit of which logs an upstream is sent, from where on, and when."""
    for key in ("logs", "always"):
        for name in getattr(upstream, key):
            if name not in logs:
                yield Problem(key, "names of logs that are configured", f'"{name}"')
            elif key == "always" and upstream.logs and name not in upstream.logs:
                yield Problem(key, "logs that it is sent at all (logs)", f'"{name}"')
    for window in upstream.windows:
        try:
            parse_window(window)
        except ValueError as error:
            yield Problem("windows", str(error), f'"{window}"')
    if upstream.always and not upstream.windows:
        yield Problem("always", "this key only beside windows", "none")
    if upstream.start not in ("oldest", "now"):
        try:
            parse_moment(upstream.start, 0)
        except ProtocolError:
            expected = '"oldest", "now", a time such as "2026-11-22T10:00:00Z", or an age: "-7d"'
            yield Problem("start", expected, f'"{upstream.start}"')


#: What is not sent yet is waited for by agents that come back, for some seconds.
_BRIDGE_AGE_S = 2.0


def bridge_problems(
    upstreams: Sequence[Upstream], logs: Mapping[str, LogConfig]
) -> Iterator[tuple[str, Problem]]:
    """All by which an upstream that bridges could pass over a record that it never had, or be given
    it too late for anybody to wait for, by the name of the upstream.
    """
    bridging = [one for one in upstreams if one.bridge]
    for one in bridging[1:]:
        expected = f"one upstream only that bridges, which is {bridging[0].name}"
        yield one.name, Problem("bridge", expected, "another")
    for one in bridging:
        yield from ((one.name, problem) for problem in _beside_bridge(one))
        for name in one.logs or logs:
            if name in logs and logs[name].when_full != "refuse":
                full = f'when_full = "refuse" of log {name}, of which none may be discarded unsent'
                yield one.name, Problem("bridge", full, f'"{logs[name].when_full}"')


def _beside_bridge(one: Upstream) -> Iterator[Problem]:
    if one.kind == "file":
        expected = "an upstream that has records on another machine's disk"
        yield Problem("bridge", expected, "file://")
    if not one.required:
        yield Problem("required", "true beside bridge", "false")
    if one.order not in (None, "in order"):
        yield Problem("order", '"in order" beside bridge', f'"{one.order}"')
    if one.start != "oldest":
        yield Problem("start", '"oldest" beside bridge', f'"{one.start}"')
    if one.send != "records":
        yield Problem("send", '"records" beside bridge', f'"{one.send}"')
    for key in ("windows", "max_age"):
        if getattr(one, key):
            yield Problem(key, "nothing beside bridge", "some")
    if (age_s := float(one.batch_age)) > _BRIDGE_AGE_S:
        most = f"at most {_BRIDGE_AGE_S:g} s beside bridge"
        yield Problem("batch_age", most, f"{age_s:g} s")


def sending_problems(
    upstreams: Sequence[Upstream], rules: Container[str]
) -> Iterator[tuple[str, Problem]]:
    """All that does not fit of what upstreams are sent instead of records, by their names."""
    seen: dict[float, Upstream] = {}
    for one in upstreams:
        try:
            step = step_of(one.send)
        except ValueError as error:
            yield one.name, Problem("send", str(error), f'"{one.send}"')
            continue
        if step is None:
            continue
        if not 1 <= step <= 366 * 86_400:
            yield one.name, Problem("send", "means over 1s to 366d", f'"{one.send}"')
        if rule_name(step) in rules:
            expected = f"no rule called {rule_name(step)}, as the one behind this key is"
            yield one.name, Problem("send", expected, "one")
        first = seen.setdefault(step, one)
        if first.streams != one.streams:
            expected = f"the streams of {first.name}, as one rule sums up for both"
            yield one.name, Problem("streams", expected, "others")


def place_problems(upstreams: Sequence[Upstream]) -> Iterator[tuple[str, Problem]]:
    """Upstreams that would be taken for one another where they arrive, by the name of the later.

    A stream's last message under a subject says how far an upstream is: of two under one subject,
    each would leave out what the other has sent. A broker ends the connection of a client when
    another comes by its name.
    """
    for later, one in enumerate(upstreams):
        key, name = _name_there(one)
        for other in upstreams[:later]:
            if name is None or (key, name) != _name_there(other) or not _meet(one, other):
                continue
            if "{log}" in name and one.logs and other.logs and not {*one.logs} & {*other.logs}:
                continue
            yield one.name, Problem(key, f"another than that of upstream {other.name}", f'"{name}"')


def _name_there(upstream: Upstream) -> tuple[str, str | None]:
    """By which key and which text the server tells it from others; None where it cannot clash."""
    if upstream.kind == "nats":
        return "nats.subject", (upstream.nats or NatsTable()).subject
    if upstream.kind == "mqtt":
        return "mqtt.client_id", None if upstream.mqtt is None else upstream.mqtt.client_id
    return "", None


def _meet(one: Upstream, other: Upstream) -> bool:
    """Whether both are at one server, as one user: another user may be of another account."""
    if (one.user, one.token_file) != (other.user, other.token_file):
        return False
    there, others = ({*servers_of(each.url, PORTS[each.scheme])} for each in (one, other))
    return bool(there & others)
