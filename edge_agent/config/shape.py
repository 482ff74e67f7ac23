"""The tables and keys of the configuration, as frozen structs, and the only home of limits.

Every key has a unit in its type and a default that suits a Raspberry Pi. Names here are the keys
of the TOML file. The comment behind a key and the docstring of its table are what ``edge-agent
config show`` prints beside them: `render` reads them from this very file.

The memory that the limits allow at most, with the defaults: 200 connections x 64 KiB socket
buffers + 264 x 64 KiB that are not let in yet + 32 MiB in flight + 16 MiB per running query +
4 MiB per upstream (an HTTP upstream that answers at length: up to 16 MiB more while the answer is
judged) + history's 9 MiB that are not written yet, and some 6 MiB more while they are.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from edge_agent.config.quantities import KIB, MIB, Duration, Share, Size
from edge_agent.config.upstreams import Upstream

Profile = Literal["shelly-gen2", "tasmota", "esphome", "zigbee2mqtt", "senml", "cloudevents"]
WhenFull = Literal["discard-oldest", "thin-oldest", "refuse"]


class Listen(Struct, frozen=True, forbid_unknown_fields=True):
    """The sensors' port."""

    address: str = "127.0.0.1:8765"  # other than loopback: needs TLS and tokens
    tls_certificate: str | None = None  # PEM file; together with tls_key
    tls_key: str | None = None  # PEM file; readable for the agent alone
    tokens: str | None = None  # file that `edge-agent token add` writes; not set: none asked
    insecure: bool = False  # listen off loopback without TLS and tokens; reported in status
    origins: tuple[str, ...] = ()  # browser origins that may connect, beside none at all
    hosts: tuple[str, ...] = ()  # further Host names that loopback clients may use
    connections: int = 200  # open at one time; who has most yields to who has fewer
    unproved: int = 200  # not let in yet, beside them; the next displaces the oldest
    unproved_per_address: int = 50  # of those, one address may have; and get a second
    handshake_timeout: Duration = Duration(10)  # from connecting to the upgrade
    idle_timeout: Duration = Duration(120)  # a ping is sent at half of it
    close_timeout: Duration = Duration(2)  # how long a closing peer may take to say goodbye


class Http(Struct, frozen=True, forbid_unknown_fields=True):
    """The people's port. ``address = "off"`` leaves it out and never imports its libraries."""

    address: str = "127.0.0.1:8766"  # "off": no page, no metrics, no /healthz
    hosts: tuple[str, ...] = ()  # further Host names that may be asked for
    origins: tuple[str, ...] = ()  # browser origins that may ask, beside its own page
    expose: tuple[str, ...] = ()  # patterns; last values in /metrics, 1000 series at most
    connections: int = 64  # being answered at one time, shared as listen.connections are
    unproved: int = 64  # waiting, beside them; the next displaces the oldest
    unproved_per_address: int = 32  # of those, one address may have; and get a second


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one peer, and all peers together, may ask of the agent."""

    message_bytes: Size = Size(1 * MIB)  # one WebSocket message
    record_bytes: Size = Size(64 * KIB)  # one encoded record
    record_values: int = 65_536  # in one record, keys and what nests counted
    record_depth: int = 16  # maps and arrays within one another
    batch_records: int = 10_000  # records in one message
    window_records: int = 100_000  # sent and not yet acked, per session
    window_bytes: Size = Size(8 * MIB)  # the same in bytes
    in_flight_bytes: Size = Size(32 * MIB)  # the same over all sessions
    records_per_second: float = 0.0  # per token or, without tokens, per peer; 0: no limit
    undecodable_in_a_row: int = 16  # plain connections are closed after that many
    sources: int = 10_000  # remembered; each token has a share: docs/identity.md
    source_forgotten_after: Duration = Duration(90 * 86_400)  # not seen for so long
    query_records: int = 100_000  # one answer
    query_seconds: Duration = Duration(10)  # one answer
    queries: int = 4  # at one time
    subscriptions: int = 50  # open live views
    subscription_bytes: Size = Size(1 * MIB)  # queued for one slow reader, then it misses


class StoreConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The LMDB file."""

    path: str = "/var/lib/edge-agent"  # a folder; made where it is missing
    size: Size = Size(1024 * MIB)  # reserved at creation; never more
    block_bytes: Size = Size(256 * KIB)  # before compression
    group_bytes: Size = Size(1 * MIB)  # a commit starts early when this much waits
    group_records: int = 50_000  # or this many records
    compression_level: int = 3  # zstd; 0 stores as it came
    reopen_after: Duration = Duration(1)  # after the disk refused, grows to a minute
    quarantine_share: Share = Share(0.02)  # of size; the oldest entries go first
    scrub_interval: Duration = Duration(7 * 86_400)  # one pass over all checksums; 0s: none
    key_file: str | None = None  # seals what is stored; docs/encryption.md
    seal: bool = True  # false: new values lie open, key_file opens the others


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One named log.

    Streams go to the first log, in file order, one of whose patterns matches; what no log names
    goes to ``main``.
    """

    streams: tuple[str, ...] = ()  # patterns: * one part of a name, ** any number of parts
    commit_interval: Duration = Duration(1)  # quick acks against wear: 35 to 65 KB a commit
    commit_interval_max: Duration | None = None  # in place of wear.commit_interval_max
    keep: Duration = Duration(30 * 86_400)  # a maximum
    when_full: WhenFull = "discard-oldest"  # "thin-oldest": to aggregates first; "refuse": wait
    share: Share = Share(0.7)  # of store.size; all logs together at most 80 %
    priority: int = 0  # upstream before smaller ones where the link is narrow


class HistoryConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What questions and charts are answered from: every record as columns, and figures by minute
    and by hour, in a file beside the store's that grows with what it holds.
    """

    enabled: bool = True  # false: questions are answered from the logs alone
    share: Share = Share(0.25)  # of store.size, beside it, less on a full disk; the oldest goes
    keep: Duration = Duration(90 * 86_400)  # every record
    keep_minutes: Duration = Duration(731 * 86_400)  # count, min, max, mean … of each minute
    keep_hours: Duration = Duration(3660 * 86_400)  # the same of each hour


class WearConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sparing the card.

    With a budget, commits are spread as far as it takes and the bound allows; what an ack means
    does not change, it comes later. Every log's interval is multiplied by the same factor; a log
    whose acks must stay quick gets a ``commit_interval_max`` of its own.
    """

    bytes_per_day_max: Size = Size(0)  # what the agent may have written in a day; "0B": any
    commit_interval_max: Duration = Duration(60)  # commits are spread no further, to keep that
    endurance: Size = Size(0)  # in all, as the card's maker states, e.g. "30TB"; "0B": unknown


class Alarm(Struct, frozen=True, forbid_unknown_fields=True):
    """When an alarm is on: exactly one of ``above``, ``below``, ``rise``, ``fall``, ``where`` and
    ``absent``. All but the last two are about a ``field``.
    """

    field: str | None = None  # t, door.open, params."switch:0".apower; `rain (mm)`
    above: float | None = None  # on when the field's number is greater
    clear_below: float | None = None  # above, rise, fall: off when it is less; not set: not greater
    below: float | None = None  # on when the number is less
    clear_above: float | None = None  # below: off when it is greater; not set: when it is not less
    rise: float | None = None  # on when it is so much greater than the least within per
    fall: float | None = None  # on when it is so much less than the greatest within per
    per: Duration | None = None  # rise, fall: over what time
    where: str | None = None  # a filter: on for records that it finds
    absent: Duration | None = None  # on when no record came for so long, by the agent's clock
    hold: Duration = Duration(0)  # on only when it has lasted so long, by the records' time


class Conversion(Struct, frozen=True, forbid_unknown_fields=True):
    """How a number becomes another one: by units, or times ``scale`` and plus ``offset``."""

    units: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    into: str | None = None


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """What an instrument shows and what it should show: points of a table, or coefficients."""

    table: tuple[tuple[float, float], ...] = ()
    polynomial: tuple[float, ...] = ()
    into: str | None = None


class Schema(Struct, frozen=True, forbid_unknown_fields=True):
    """What the fields of a record have to be."""

    types: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. Exactly one action is given.

    ``rename``: old field to new field; ``drop``: fields to leave out, or ``"record"`` for the
    whole record; ``redact``: fields whose value becomes ``"[redacted]"``; ``time``: the ``key``
    under which the records have their time, its ``format`` (iso, unix, unix-ms, unix-us, unix-ns
    or like %d.%m.%Y %H:%M) and the ``zone`` of times that name none; ``window``: length of the
    windows over which numbers are summed up; ``alarm``: when to tell that something is on, and that
    it is off again. Windows and alarms act after storing, all others before.

    ``convert``: other units, or ``scale`` and ``offset``; ``calibrate``: a ``table`` of points or a
    ``polynomial``; ``deadband``: leave out what changes by less; ``limit``: so many records in a
    time; ``pick``: fields out of nested messages; ``flatten``: all of them; ``schema``: ``types``
    and ``ranges``, what does not fit goes to quarantine; ``pseudonymise``: fields whose value
    becomes a keyed hash; ``truncate``: fields to so many characters or decimals; ``profile``: what
    a kind of device sends; ``hook``: a function in Python.
    """

    name: str  # derived records have the source $rule/NAME
    streams: tuple[str, ...]  # patterns
    rename: dict[str, str] | None = None  # { old = "new" }
    drop: tuple[str, ...] | Literal["record"] | None = None  # ["field"] or "record"
    redact: tuple[str, ...] | None = None  # ["field"]
    time: dict[str, str] | None = None  # { key = "ts", format = "unix-ms", zone = "UTC" }
    where: str | None = None  # before storing: a filter; acts on the records that it finds
    convert: dict[str, str | Conversion] | None = None  # { t = "F->C", p = { scale = 0.1 } }
    calibrate: dict[str, Calibration] | None = None  # { ph = { table = [[0, 0.1], [7, 7.2]] } }
    deadband: dict[str, float] | None = None  # { t = 0.2 }
    max_silence: Duration = Duration(600)  # deadband: a record at least this often
    limit: str | None = None  # "10/1m": per stream, by the records' own time
    pick: dict[str, str | dict[str, str]] | None = None  # { apower = 'params."switch:0".apower' }
    flatten: str | None = None  # what stands between the names of nested maps, such as "_"
    schema: Schema | None = None  # { types = { t = "number" }, ranges = { t = [-40, 85] } }
    pseudonymise: tuple[str, ...] | None = None  # ["card"]; together with key_file
    key_file: str | None = None  # pseudonymise: a secret of 16 characters or more, in one line
    truncate: dict[str, int] | None = None  # { note = 40, lat = 2 }
    profile: Profile | None = None  # a kind of device; docs/rules.md says what becomes of it
    hook: str | None = None  # "module:function"
    hook_budget: Duration = Duration(0.005)  # hook: a call that takes longer is counted
    window: Duration | None = None  # length
    every: Duration | None = None  # windows: one ends each so often; not set: each window's length
    alarm: Alarm | None = None  # when it is on: a table of its own
    fields: tuple[str, ...] = ()  # windows: which; none named: every number
    into: str | None = None  # windows, alarms, pick: stream name, "{stream}" is put in
    lateness: Duration = Duration(60)  # windows: how far behind its stream a record may be
    idle: Duration = Duration(600)  # a stream that says nothing for this long closes its windows
    open_windows: int = 1_000  # per rule
    derived: bool = False  # windows, alarms: also see other rules' records

    @property
    def acts_after(self) -> bool:
        """Whether it acts after storing, as a consumer of the log."""
        return self.window is not None or self.alarm is not None


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything. ``edge-agent config show`` prints it with every default."""

    listen: Listen = Listen()
    http: Http = Http()
    store: StoreConfig = StoreConfig()
    limits: Limits = Limits()
    log: dict[str, LogConfig] = field(default_factory=lambda: {"main": LogConfig()})
    history: HistoryConfig = HistoryConfig()
    wear: WearConfig = WearConfig()
    upstream: tuple[Upstream, ...] = ()
    rule: tuple[Rule, ...] = ()
    drain_timeout: Duration = Duration(10)  # from SIGTERM to the last goodbye
