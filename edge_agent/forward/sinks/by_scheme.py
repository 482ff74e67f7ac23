"""The choice of a sink for an upstream, by the kind that the scheme of its URL says.

A sink's module is imported when the first upstream of its kind is made: an agent loads no library
for a kind that it has not. What a kind needs beyond what every agent has is an extra of the
package, and named in the error where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final, cast

from edge_agent.commit import RunBlocking
from edge_agent.config import Upstream, shown_url, sink_package
from edge_agent.errors import ConfigError
from edge_agent.extras import library_needed
from edge_agent.forward.link.pacing import LinkPace, PacedSink, paced
from edge_agent.forward.own_sink import own_sink
from edge_agent.forward.probing import ProbeStep, probe_by_opening
from edge_agent.forward.sink import ClockNews, Sink, SinkParts
from edge_agent.net.dial import Dial, dial_tcp
from edge_agent.store import Identity
from edge_agent.system.clock import Clock

#: Kind to the module in ``sinks`` that has its ``make``.
_MODULES: Final = {
    "agent": "agent.sink",
    "file": "file.sink",
    "http": "http.sink",
    "influx": "influx.sink",
    "postgres": "postgres.sink",
    "nats": "nats.sink",
    "kafka": "kafka.sink",
    "mqtt": "mqtt.sink",
}
#: Kind to the extra that it needs, and the module that the extra brings.
_EXTRAS: Final[dict[str, tuple[str, str]]] = {
    "postgres": ("postgres", "psycopg"),
    "kafka": ("kafka", "confluent_kafka"),
}
#: Kinds whose library makes its own connections, so that only whole batches keep a pace.
_DIAL_THEMSELVES: Final = frozenset(("kafka", "postgres"))


def make_sink(
    upstream: Upstream,
    log: str,
    *,
    identity: Identity,
    clock: Clock,
    run_blocking: RunBlocking,
    dial: Dial = dial_tcp,
    news: ClockNews | None = None,
    pace: LinkPace | None = None,
) -> Sink:
    """The sink of one log for ``upstream``; ``pace`` is the one of all its sinks, the rest is as in
    `SinkParts`.

    Raises:
        ConfigError: no sink for this scheme, or a library that its kind needs is not installed.
    """
    if pace is not None:
        dial = paced(dial, pace)
    parts = SinkParts(upstream, log, identity, clock, run_blocking, dial, news)
    if upstream.kind not in _MODULES and sink_package(upstream.scheme) is not None:
        # What it dials, nobody here knows.
        return own_sink(parts) if pace is None else PacedSink(own_sink(parts), pace)
    make = cast(Callable[[SinkParts], Sink], _module_of(upstream).make)
    sink = make(parts)
    return PacedSink(sink, pace) if pace and upstream.kind in _DIAL_THEMSELVES else sink


async def probe_sink(
    upstream: Upstream,
    size: int,
    *,
    identity: Identity,
    clock: Clock,
    run_blocking: RunBlocking,
    dial: Dial = dial_tcp,
) -> list[ProbeStep]:
    """What only its kind can tell of an upstream: see `edge_agent.forward.probing`.

    Raises:
        ConfigError: as `make_sink`.
    """
    parts = SinkParts(upstream, "probe", identity, clock, run_blocking, dial)
    if upstream.kind in _MODULES:
        probe = getattr(_module_of(upstream), "probe", None)
        if probe is not None:
            told: list[ProbeStep] = await probe(parts, size)
            return told
    made = make_sink(
        upstream, "probe", identity=identity, clock=clock, run_blocking=run_blocking, dial=dial
    )
    return await probe_by_opening(made)


def _module_of(upstream: Upstream) -> ModuleType:
    at = f"upstream {upstream.name}: url"
    module = _MODULES.get(upstream.kind)
    if module is None:
        raise ConfigError(at, "wss://, https:// or another scheme", shown_url(upstream.url))
    extra, library = _EXTRAS.get(upstream.kind, ("", ""))
    if library and find_spec(library) is None:
        raise ConfigError(at, library_needed(extra), "none")
    return import_module(f"edge_agent.forward.sinks.{module}")
