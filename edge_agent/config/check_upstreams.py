"""What must fit together in one upstream, beside its ranges and how it is asked (`urls`)."""

from __future__ import annotations

from collections.abc import Container, Iterator

from edge_agent.config.upstreams import Upstream
from edge_agent.config.urls import Problem
from edge_agent.config.windows import parse_window
from edge_agent.errors import ProtocolError
from edge_agent.moments import parse_moment


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
