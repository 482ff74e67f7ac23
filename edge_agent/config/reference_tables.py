"""The tables of a configuration with an example of each, for the document `reference` makes."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Struct

from edge_agent.config import examples
from edge_agent.config.databases import (
    DATABASES_EXAMPLE,
    INFLUX_EXAMPLE,
    POSTGRES_EXAMPLE,
    InfluxTable,
    PostgresTable,
)
from edge_agent.config.mqtt_table import MQTT_EXAMPLE, MqttTable
from edge_agent.config.queue_tables import (
    KAFKA_EXAMPLE,
    NATS_EXAMPLE,
    KafkaTable,
    NatsTable,
)
from edge_agent.config.shape import (
    Alarm,
    Config,
    HistoryConfig,
    Http,
    Limits,
    Listen,
    LogConfig,
    Rule,
    StoreConfig,
    WearConfig,
)
from edge_agent.config.upstreams import FileTable, HttpTable, Upstream


class TablePart(NamedTuple):
    """A table of the file: how it is headed, what it holds, and an example of it."""

    head: str
    kind: type[Struct]
    example: str

    @property
    def name(self) -> str:
        """What its keys begin with: ``log`` of ``[log.NAME]``, ``alarm`` of ``[rule.alarm]``."""
        first, _, inner = self.head.strip("[]").partition(".")
        return inner if inner.islower() else first


TABLES: Final = (
    TablePart("", Config, 'drain_timeout = "5s"'),
    TablePart(
        "[listen]",
        Listen,
        """\
[listen]
address = "0.0.0.0:8765"
tls_certificate = "/etc/edge-agent/tls/server.pem"
tls_key = "/etc/edge-agent/tls/server-key.pem"
tokens = "/etc/edge-agent/tokens"
origins = ["https://dashboard.example"]
hosts = ["agent.lan"]""",
    ),
    TablePart(
        "[http]",
        Http,
        """\
[http]
address = "127.0.0.1:8766"
hosts = ["agent.lan"]
origins = ["https://dashboard.example"]
expose = ["greenhouse/*", "tank/level"]""",
    ),
    TablePart("[limits]", Limits, '[limits]\nrecords_per_second = 500\nquery_seconds = "5s"'),
    TablePart(
        "[store]",
        StoreConfig,
        '[store]\npath = "/mnt/ssd/edge-agent"\nsize = "8GiB"\n'
        'key_file = "/etc/edge-agent/store.key"',
    ),
    TablePart(
        "[log.NAME]",
        LogConfig,
        """\
[log.alarms]
streams = ["*/alarm", "door/**"]
commit_interval = "50ms"
commit_interval_max = "200ms"
when_full = "refuse"
share = "10%"

[log.main]
keep = "7d\"""",
    ),
    TablePart("[history]", HistoryConfig, '[history]\nshare = "40%"\nkeep = "30d"'),
    TablePart("[wear]", WearConfig, '[wear]\nbytes_per_day_max = "2GB"\nendurance = "30TB"'),
    TablePart(
        "[[upstream]]",
        Upstream,
        """\
[[upstream]]
name = "hub"
url = "wss://hub.example:8765/forward"
token_file = "/etc/edge-agent/hub-token"
ca_file = "/etc/edge-agent/hub-ca.pem"
tls_certificate = "/etc/edge-agent/tls/client.pem"
tls_key = "/etc/edge-agent/tls/client.key"
bytes_per_second = "50KiB"
windows = ["01:00-04:00", "sat,sun 00:00-24:00"]
always = ["main"]

[[upstream]]
name = "cloud"
logs = ["main"]
send = "1m means"
start = "now"
url = "https://logs.example/v1/in"
streams = ["greenhouse/**"]
headers = { X-Site = "north", X-Api-Key = { file = "/etc/edge-agent/cloud-key" } }
proxy = "http://proxy.example:3128"
proxy_auth_file = "/etc/edge-agent/proxy-auth"
accept = "json"
required = false
order = "in order"
max_age = "30d"

[[upstream]]
name = "old"
url = "https://logs.example/v0/in"
user = "edge"
password_file = "/etc/edge-agent/old-password"
options = {}  # of a kind that a package brings: { depth = "3" }
http = { method = "PUT" }

[[upstream]]
name = "stream"
url = "nats://127.0.0.1:4222"
nats = { stream = "SITE" }

[[upstream]]
name = "topic"
url = "kafka://127.0.0.1:9092"
kafka = { topic = "site" }

[[upstream]]
name = "disk"
url = "file:///mnt/usb/edge"
file = { age = "1h" }
"""
        + DATABASES_EXAMPLE,
    ),
    TablePart("[upstream.http]", HttpTable, examples.HTTP),
    TablePart("[upstream.file]", FileTable, examples.FILE),
    TablePart("[upstream.nats]", NatsTable, NATS_EXAMPLE),
    TablePart("[upstream.kafka]", KafkaTable, KAFKA_EXAMPLE),
    TablePart("[upstream.mqtt]", MqttTable, MQTT_EXAMPLE),
    TablePart("[upstream.influx]", InfluxTable, INFLUX_EXAMPLE),
    TablePart("[upstream.postgres]", PostgresTable, POSTGRES_EXAMPLE),
    TablePart(
        "[[rule]]",
        Rule,
        """\
[[rule]]
name = "tidy"
streams = ["greenhouse/**"]
rename = { temp = "t" }

[[rule]]
name = "mute"
streams = ["kitchen/**"]
drop = ["debug"]

[[rule]]
name = "private"
streams = ["door/**"]
redact = ["card"]

[[rule]]
name = "units"
streams = ["boiler/*"]
where = "t > 0"
convert = { t = "F->C", p = { scale = 0.1, offset = -1, into = "bar" } }

[[rule]]
name = "probe"
streams = ["pool/*"]
calibrate = { ph = { table = [[4.0, 4.1], [7.0, 7.0]] } }

[[rule]]
name = "calm"
streams = ["greenhouse/*"]
deadband = { t = 0.2 }
max_silence = "15m"

[[rule]]
name = "few"
streams = ["chatty/**"]
limit = "10/1m"

[[rule]]
name = "plug"
streams = ["plug/*"]
pick = { apower = 'params."switch:0".apower' }

[[rule]]
name = "flat"
streams = ["nested/*"]
flatten = "_"

[[rule]]
name = "sane"
streams = ["greenhouse/*"]
schema = { types = { t = "number" }, ranges = { t = [-40, 85] } }

[[rule]]
name = "nobody"
streams = ["door/**"]
pseudonymise = ["card"]
key_file = "/etc/edge-agent/pseudonyms"

[[rule]]
name = "coarse"
streams = ["bike/*"]
truncate = { lat = 2, lon = 2 }

[[rule]]
name = "shelly"
streams = ["shelly/*"]
profile = "shelly-gen2"

[[rule]]
name = "own"
streams = ["odd/*"]
hook = "my_rules:tidy"

[[rule]]
name = "clock"
streams = ["meter/**"]
time = { key = "ts", format = "unix-ms" }

[[rule]]
name = "hourly"
streams = ["greenhouse/**"]
window = "1h"
into = "{stream}/1h"
fields = ["t"]

[[rule]]
name = "smooth"
streams = ["greenhouse/**"]
window = "10m"
every = "1m"
into = "{stream}/10m"

[[rule]]
name = "silent"
streams = ["greenhouse/**"]
alarm = { absent = "5m" }""",
    ),
    TablePart(
        "[rule.alarm]",
        Alarm,
        """\
[[rule]]
name = "hot"
streams = ["greenhouse/**"]
[rule.alarm]
field = "t"
above = 30
clear_below = 28
hold = "2m"

[[rule]]
name = "off"
streams = ["shelly/*/events/rpc"]
[rule.alarm]
field = 'params."switch:0".apower'
below = 5
clear_above = 20

[[rule]]
name = "leak"
streams = ["tank/*"]
[rule.alarm]
field = "litres"
fall = 10
clear_below = 2
per = "10m"

[[rule]]
name = "heating"
streams = ["tank/*"]
[rule.alarm]
field = "t"
rise = 5
per = "1m"

[[rule]]
name = "open"
streams = ["door/*"]
[rule.alarm]
where = "open and not staff"
hold = "1m"

[[rule]]
name = "lost"
streams = ["door/*"]
[rule.alarm]
absent = "5m\"""",
    ),
)
