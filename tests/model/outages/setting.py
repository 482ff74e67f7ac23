"""Who listens where in a simulation, and what each agent's configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.model.outages.plan import Shape

PORTS: Final = {1: "hub", 2: "agent", 3: "other", 4: "middle", 80: "http"}

_EVERYBODY: Final = """
drain_timeout = "5s"
[listen]
address = "127.0.0.1:{port}"
idle_timeout = "40s"
[http]
address = "off"
[store]
path = "{folder}"
size = "16MiB"
compression_level = 0
[log.main]
keep = "3660d"
commit_interval = "{interval}ms"
when_full = "{full}"
share = "{share}"
"""
_UPWARD: Final = """
[[upstream]]
name = "up"
url = "ws://127.0.0.1:{above}/forward"
backoff_base = "500ms"
backoff_max = "20s"
timeout = "10s"
batch_age = "200ms"
order = "{order}"
backlog_after = "10s"
"""
_WEB: Final = """
[[upstream]]
name = "web"
url = "http://127.0.0.1:80/in"
backoff_base = "500ms"
backoff_max = "20s"
timeout = "10s"
batch_age = "1s"
batch_records = 40
compression = "{compression}"
order = "{order}"
backlog_after = "10s"
"""


def configuration(shape: Shape, name: str, folder: Path) -> str:
    """The TOML of the machine ``name``."""
    ports = {each: port for port, each in PORTS.items()}
    order = shape.order
    small = bool(shape.full) and name != "hub"
    text = _EVERYBODY.format(
        port=ports[name],
        folder=folder,
        interval=shape.commit_interval_ms,
        full=shape.full if small else "discard-oldest",
        share="1%" if small else "70%",
    )
    if name != "hub":
        above = "middle" if shape.middle and name != "middle" else "hub"
        text += _UPWARD.format(above=ports[above], order=order)
    if name == "agent" and shape.http:
        compression = "gzip" if shape.commit_interval_ms else "none"
        text += _WEB.format(compression=compression, order=order)
    return text
