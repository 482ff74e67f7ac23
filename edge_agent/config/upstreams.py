"""The tables of the configuration for upstreams: one for each, and in it one for its kind.

The scheme of the URL says what kind an upstream is (`KINDS`). What only one kind has stands in a
table of that kind's name: ``[upstream.mqtt]`` behind ``[[upstream]]``.
"""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct, field

from edge_agent.config.databases import InfluxTable, PostgresTable
from edge_agent.config.mqtt_table import MqttTable
from edge_agent.config.packages import sink_package
from edge_agent.config.quantities import MIB, Duration, Size
from edge_agent.config.queue_tables import KafkaTable, NatsTable

#: Scheme of a URL to the kind of upstream, which is also the name of its table where it has one.
KINDS: Final = {
    "ws": "agent",
    "wss": "agent",
    "http": "http",
    "https": "http",
    "file": "file",
    "postgresql": "postgres",
    "postgres": "postgres",
    "nats": "nats",
    "nats+tls": "nats",
    "kafka": "kafka",
    "kafka+tls": "kafka",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
}
#: Scheme to the port of a URL that names none.
PORTS: Final = {
    "ws": 80, "http": 80, "wss": 443, "https": 443, "postgresql": 5432, "postgres": 5432,
    "nats": 4222, "nats+tls": 4222, "kafka": 9092, "kafka+tls": 9092, "mqtt": 1883, "mqtts": 8883,
}  # fmt: skip
#: The tables of kinds.
TABLES: Final[tuple[str, ...]] = (
    "http", "file", "influx", "postgres", "nats", "kafka", "mqtt",
)  # fmt: skip
Format = Literal["msgpack", "json", "ndjson", "cloudevents", "line", "csv", "parquet"]
#: Which of them a kind knows; the others take no notice of it.
FORMATS: Final[dict[str, tuple[Format, ...]]] = {
    "http": ("msgpack", "json", "ndjson", "cloudevents", "line"),
    "influx": ("line",),
    "file": ("ndjson", "csv", "parquet"),
}
#: Kinds that take a backlog and newer records by two lanes at once: nothing that names a session
#: or a file there is the same for both.
TWO_LANES: Final = frozenset(("agent", "http", "influx", "postgres", "kafka"))
#: Before the names of upstreams among all who read the log, as rules do too.
UPSTREAM: Final = "upstream/"
#: Kinds whose URL may name several servers: ``nats://one:4222,two:4222``.
SEVERAL: Final = frozenset(("nats", "kafka"))
#: Schemes that speak over TLS.
TLS_SCHEMES: Final = frozenset(("wss", "https", "nats+tls", "kafka+tls", "mqtts"))


Order = Literal["in order", "live first", "newest first"]
"""What goes out first where there is a backlog."""


class SecretFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A value that stands in a file, in one line: ``{ file = "/etc/edge-agent/key" }``."""

    file: str


class HttpTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a request to an HTTP service looks like, beyond ``format``.

    A ``template`` is one record as the service wants it, JSON in which ``{stream}``, ``{time}``,
    ``{fields}`` and the like stand for the record's values, in JSON; an ``envelope`` is what stands
    around them, ``{records}`` being the records with commas between them.
    """

    method: Literal["POST", "PUT"] = "POST"  # POST, PUT
    content_type: str | None = None  # instead of the one that belongs to the format
    template: str | None = None  # one record: {"at": {time_ms}, "name": {stream}, "v": {fields.t}}
    envelope: str | None = None  # all of them: {"records": [{records}]}; not set: [{records}]


class FileTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How files are written: one for each batch, which ``batch_records`` and ``batch_bytes`` bound.
    ``mounted`` is for disks that come and go: nothing is written while none is there.
    """

    age: Duration = Duration(600)  # a file is written when its first record is this old, or full
    mounted: bool = False  # write only where another disk than the system's is mounted
    keep_bytes: Size = Size(0)  # of its files, the oldest go beyond that; "0B": none ever goes


class Upstream(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where records go. ``ws``/``wss`` URLs speak to another agent, ``http``/``https`` POST,
    ``nats``/``nats+tls`` publish into JetStream, ``kafka``/``kafka+tls`` produce into a topic,
    ``mqtt``/``mqtts`` publish at a broker, ``postgresql`` fills a table, and a ``file`` URL names a
    folder. Other schemes may be brought by packages (docs/own-sink.md).

    ``headers`` go with every request; the value of a secret one stands in a file of one line.
    ``accept`` says which answer of an HTTP upstream counts as taken: ``"auto"`` takes what APIs
    answer (nothing, JSON, a word such as ok) and no page for people, ``"json"`` JSON alone,
    ``"text:WORD"`` this text alone, ``"status"`` any 2xx whatever its body says. Files are read
    again when they change.
    """

    name: str  # names the position that is kept for it
    url: str  # wss://HOST:PORT/forward, or https://HOST/PATH
    streams: tuple[str, ...] = ("**",)  # patterns
    logs: tuple[str, ...] = ()  # names; none named: every log
    send: str = "records"  # "1m means": figures of each minute instead
    start: str = "oldest"  # of a new one, once: "oldest", "now", a time or an age: "-7d"
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
    format: Format = "ndjson"  # file: ndjson, csv, parquet; http: all but these two
    compression: Literal["none", "gzip", "zstd"] = "gzip"  # http, file: none, gzip, zstd
    batch_bytes: Size = Size(1 * MIB)  # one send
    batch_records: int = 10_000  # one send
    batch_age: Duration = Duration(1)  # how long the first record of a batch may wait
    in_flight_bytes: Size = Size(4 * MIB)  # sent and not yet acknowledged
    bytes_per_second: Size = Size(0)  # sent at most, over all logs; "0B": any
    windows: tuple[str, ...] = ()  # when it is sent to: "01:00-04:00", "sat,sun 00:00-24:00"
    always: tuple[str, ...] = ()  # names of logs that are sent outside of the windows, too
    timeout: Duration = Duration(30)  # without a byte that moves, in either direction
    backoff_base: Duration = Duration(1)  # first wait after a failure, at most
    backoff_max: Duration = Duration(300)  # longest wait
    influx: InfluxTable | None = None  # format = "line": a table of its own
    postgres: PostgresTable | None = None  # postgresql://: a table of its own
    bridge: bool = False  # other agents' acks wait until it has their records
    required: bool = True  # retention waits for it; false: it may miss records, counted
    order: Order | None = None  # or "live first" (default where that can be), "newest first"
    backlog_after: Duration = Duration(300)  # older than that goes out beside newer records
    max_age: Duration | None = None  # stored for longer than that: not sent any more, counted
    http: HttpTable | None = None  # http: the table [upstream.http]
    file: FileTable | None = None  # file: the table [upstream.file]
    nats: NatsTable | None = None  # nats: a table of its own
    kafka: KafkaTable | None = None  # kafka: a table of its own
    mqtt: MqttTable | None = None  # mqtt: a table of its own
    options: dict[str, str] = field(default_factory=dict)  # for kinds that a package brings

    @property
    def batch_wait(self) -> float:
        """How many seconds the first record of a batch may wait for others."""
        if self.kind == "file":
            return float((self.file or FileTable()).age)
        return float(self.batch_age)

    @property
    def consumer(self) -> str:
        """The name under which the store keeps its position."""
        return UPSTREAM + self.name

    @property
    def scheme(self) -> str:
        """Of its URL, in small letters."""
        return self.url.partition("://")[0].lower()

    @property
    def live_first(self) -> bool:
        """Whether a backlog goes out beside newer records."""
        # Of two lanes at once, neither says that everything is there up to a seq.
        return self.kind in TWO_LANES and self.order != "in order" and not self.bridge

    @property
    def saves_bytes(self) -> bool:
        """Whether a byte costs more than the time to save it: what is sent is capped."""
        return self.bytes_per_second > 0

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
        """What kind of upstream it is: ``agent``, ``http``, ``influx``, ``mqtt`` …; the scheme
        itself where a package brings it, and "" where nothing does.
        """
        kind = KINDS.get(self.scheme, "")
        if kind == "http" and self.format == "line":
            return "influx"
        return kind or (self.scheme if sink_package(self.scheme) is not None else "")
