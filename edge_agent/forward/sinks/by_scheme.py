"""Which sink an upstream gets, by the kind that the scheme of its URL says.

A sink's module is imported when the first upstream of its kind is made: an agent loads no library
for a kind that it has not. What a kind needs beyond what every agent has is an extra of the
package, and named in the error where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from edge_agent.clock import Clock
from edge_agent.commit import RunBlocking
from edge_agent.config import Upstream, shown_url
from edge_agent.dial import Dial, dial_tcp
from edge_agent.errors import ConfigError
from edge_agent.forward.sink import ClockNews, Sink, SinkParts
from edge_agent.store import Identity

#: Kind to the module in ``sinks`` that has its ``make``.
_MODULES: Final = {
    "agent": "agent.sink",
    "http": "http.sink",
    "influx": "influx.sink",
    "postgres": "postgres.sink",
}
#: Kind to the extra that it needs, and the library that the extra brings.
_EXTRAS: Final[dict[str, tuple[str, str]]] = {"postgres": ("postgres", "psycopg")}


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
    """The sink of one log for ``upstream``; the rest is as in `SinkParts`.

    Raises:
        ConfigError: no sink for this scheme, or a library that its kind needs is not installed.
    """
    at = f"upstream {upstream.name}: url"
    module = _MODULES.get(upstream.kind)
    if module is None:
        raise ConfigError(at, "wss://, https:// or another scheme", shown_url(upstream.url))
    try:
        found = import_module(f"edge_agent.forward.sinks.{module}")
    except ModuleNotFoundError as error:
        extra, library = _EXTRAS.get(upstream.kind, ("", ""))
        if not library or (error.name or "").partition(".")[0] != library:
            raise
        expected = f'the library {library}: pip install "trio-edge-agent[{extra}]"'
        raise ConfigError(at, expected, "none") from None
    make = cast(Callable[[SinkParts], Sink], found.make)
    return make(SinkParts(upstream, log, identity, clock, run_blocking, dial, news))
