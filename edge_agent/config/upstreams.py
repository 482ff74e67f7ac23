"""What the configuration says of upstreams: one table for each, and in it one for its kind.

The scheme of the URL says what kind an upstream is (`KINDS`). What only one kind has stands in a
table of that kind's name: ``[upstream.mqtt]`` behind ``[[upstream]]``.
"""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct, field

from edge_agent.config.mqtt_table import MqttTable
from edge_agent.config.quantities import MIB, Duration, Size

#: Scheme of a URL to the kind of upstream, which is also the name of its table where it has one.
KINDS: Final = {
    "ws": "agent",
    "wss": "agent",
    "http": "http",
    "https": "http",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
}
#: Scheme to the port of a URL that names none.
PORTS: Final = {"ws": 80, "wss": 443, "http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
#: The tables of kinds.
TABLES: Final[tuple[str, ...]] = ("mqtt",)
#: Schemes that speak over TLS.
TLS_SCHEMES: Final = frozenset(("wss", "https", "mqtts"))


class SecretFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A value that stands in a file, in one line: ``{ file = "/etc/edge-agent/key" }``."""

    file: str


class Upstream(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where records go. ``ws``/``wss`` URLs speak to another agent, ``http``/``https`` POST,
    ``mqtt``/``mqtts`` publish at a broker.

    ``headers`` go with every request; the value of a secret one stands in a file of one line.
    ``accept`` says which answer of an HTTP upstream counts as taken: ``"auto"`` takes what APIs
    answer (nothing, JSON, a word such as ok) and no page for people, ``"json"`` JSON alone,
    ``"text:WORD"`` this text alone, ``"status"`` any 2xx whatever its body says. Files are read
    again when they change.
    """

    name: str  # names the position that is kept for it
    url: str  # wss://HOST:PORT/forward, or https://HOST/PATH
    streams: tuple[str, ...] = ("**",)  # patterns
    token_file: str | None = None  # one line; sent as Authorization: Bearer
    user: str | None = None  # together with password_file; http: Authorization: Basic
    password_file: str | None = None  # one line; for kinds and services that ask for both
    ca_file: str | None = None  # PEM; instead of the system's certificate authorities
    tls_certificate: str | None = None  # PEM; ours, where the upstream asks for one
    tls_key: str | None = None  # PEM; together with tls_certificate
    headers: dict[str, str | SecretFile] = field(default_factory=dict)  # name = "value" or a file
    proxy: str | None = None  # "http://HOST:PORT", or "environment": HTTPS_PROXY, NO_PROXY
    proxy_auth_file: str | None = None  # USER:PASSWORD in one line, for the proxy
    accept: str = "auto"  # http: what counts as taken: auto, json, text:WORD, status
    format: Literal["msgpack", "json", "ndjson"] = "ndjson"  # http: msgpack, json, ndjson
    compression: Literal["none", "gzip", "zstd"] = "gzip"  # http: none, gzip, zstd
    batch_bytes: Size = Size(1 * MIB)  # one send
    batch_records: int = 10_000  # one send
    batch_age: Duration = Duration(1)  # how long the first record of a batch may wait
    in_flight_bytes: Size = Size(4 * MIB)  # sent and not yet acknowledged
    timeout: Duration = Duration(30)  # without a byte that moves, in either direction
    backoff_base: Duration = Duration(1)  # first wait after a failure, at most
    backoff_max: Duration = Duration(300)  # longest wait
    required: bool = True  # retention waits for it; false: it may miss records, counted
    mqtt: MqttTable | None = None  # mqtt: a table of its own

    @property
    def scheme(self) -> str:
        """Of its URL, in small letters."""
        return self.url.partition("://")[0].lower()

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(self.url).port or PORTS[self.scheme]

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of kinds that were given."""
        return tuple(name for name in TABLES if getattr(self, name) is not None)

    @property
    def kind(self) -> str:
        """What kind of upstream it is: ``agent``, ``http``, ``mqtt`` …"""
        return KINDS.get(self.scheme, "")
