"""Which sink an upstream gets, by the scheme of its URL.

A sink's module is imported when the first upstream of its kind is made: an agent loads no library
for a kind that it has not.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from edge_agent.clock import Clock
from edge_agent.commit import RunBlocking
from edge_agent.config import Upstream, shown_url
from edge_agent.dial import Dial, dial_tcp
from edge_agent.errors import ConfigError
from edge_agent.forward.sink import ClockNews, Sink
from edge_agent.store import Identity


def make_sink(
    upstream: Upstream,
    log: str,
    *,
    identity: Identity,
    clock: Clock,
    run_blocking: RunBlocking,
    dial: Dial = dial_tcp,
    news: ClockNews | None = None,
) -> Sink:
    """The sink of one log for ``upstream``, by the scheme of its URL.

    Args:
        upstream: its configuration, checked.
        log: name of the log.
        identity: who we are.
        clock: for dates that an upstream names.
        run_blocking: where long computations go.
        dial: opens byte streams.
        news: of clocks that were not set, for upstreams that can be told later.

    Raises:
        ConfigError: no sink for this scheme.
    """
    scheme = urlsplit(upstream.url).scheme
    if scheme in ("ws", "wss"):
        from edge_agent.forward.sinks.agent.sink import WebSocketSink

        return WebSocketSink(
            upstream,
            log,
            identity=identity,
            dial=dial,
            clock=clock,
            run_blocking=run_blocking,
            news=news,
        )
    if scheme in ("http", "https"):
        from edge_agent.forward.sinks.http.sink import HttpSink

        return HttpSink(
            upstream, identity=identity, clock=clock, run_blocking=run_blocking, dial=dial
        )
    raise ConfigError(
        f"upstream {upstream.name}: url",
        "ws://, wss://, http:// or https://",
        shown_url(upstream.url),
    )
