"""The values that everything passes on, runs of records in, single ones out; and their times.

Hot paths handle `Run`: consecutive records of one source and one stream that arrived together,
kept as the msgpack maps that the sender encoded, joined. Everything that is the same for all of
them stands once. A single record is a run of one. Readers get `Record`, one at a time.

``time`` and ``stream`` are keys inside a record's map; they keep the sender's own bytes and are
interpreted by `resolve_time` wherever they are read, so that the rule lives here alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

from msgspec import Struct

from edge_agent.errors import ProtocolError

NANOSECONDS = 1_000_000_000
DAY_S = 86_400.0

#: A number of seconds below this and above 0 is a counter since power-up, not a date (1978).
UNSET_CLOCK_BELOW_S: Final = 2**28
#: 2020-01-01T00:00:00Z. No sensor that talks to this software measured anything earlier.
UNSET_CLOCK_BEFORE_NS: Final = 1_577_836_800 * NANOSECONDS
#: Year 2262, the end of signed 64-bit nanoseconds.
TIME_NS_MAX: Final = 2**63 - 1

#: Seconds that are a set clock's whatever their rounding: from 2020 into the year 2248.
_PLAINLY_SET_S: Final = UNSET_CLOCK_BEFORE_NS / NANOSECONDS + 1
_PLAINLY_NEAR_S: Final = 2**33 + 2**27

#: The stream of places without a record: what is left where records were erased; here and, as
#: ``$agents/ID/erased``, of other agents. No wildcard matches it.
ERASED: Final = "$erased"

#: Key of a ``time`` that is a map: what it holds is no unset clock, however old.
HISTORIC: Final = "historic"

_TWO: Final = tuple(f"{number:02}" for number in range(60))

TimeQuality = Literal["sensor", "arrival", "relative", "unset"]
"""Whose clock gave a record's time: the sensor's; ours, at arrival; ours, less an age that the
sensor told; ours, because the sensor's clock was not set."""

TimeTrust = Literal["sensor", "synced", "corrected", "unsynced"]
"""How far a record's time can be trusted, in one word, shown as ``time_quality``: the sensor's own
clock gave it, and nobody changes it; ours, which was set; ours, which was not set then and has been
put right since; ours, which was not set, and what it was off by is not known (yet)."""


class Run(Struct, frozen=True, gc=False):
    """Consecutive records of one source and stream, still encoded.

    A struct, as one is made for every message of a slow sensor: `Record` says what that saves.

    Attributes:
        stream: name of the stream.
        source: who sent them; ``$rule/NAME`` for records that a rule derived.
        source_seq: the source's number of the first record; 0 where it does not number (plain).
            The others follow without a hole.
        arrival_ns: agent's wall clock when they arrived, ns since 1970.
        synced: whether that clock was synced then.
        count: number of records, ≥ 1.
        body: ``count`` msgpack maps with text keys, joined, exactly as sent.
        time_min_ns, time_max_ns: range of the records' resolved times.
    """

    stream: str
    source: str
    source_seq: int
    arrival_ns: int
    synced: bool
    count: int
    body: bytes
    time_min_ns: int
    time_max_ns: int

    def __repr__(self) -> str:
        """Without the body, which may be 64 KiB."""
        return (
            f"Run({self.stream!r}, {self.source!r}, {self.source_seq}, {self.arrival_ns},"
            f" {self.synced}, {self.count}, <{len(self.body)} bytes>,"
            f" {self.time_min_ns}, {self.time_max_ns})"
        )


class Record(Struct, frozen=True):
    """One measurement or event, as readers see it.

    A struct and no dataclass, because readers make one for every record that they look at: a
    frozen dataclass of so many fields takes some 2 µs to make, this a tenth of it.

    ``fields`` has neither ``time`` nor ``stream``. ``origin`` is the id of the agent that first
    stored the record, and ``origin_seq`` its position there, or "" and 0 where that is this agent.
    ``corrected``: our clock, ``synced`` or not, gave ``time_ns`` only once it was put right.
    """

    log: str
    seq: int
    stream: str
    time_ns: int
    quality: TimeQuality
    stored_ns: int
    synced: bool
    source: str
    source_seq: int
    fields: dict[str, Any]
    origin: str = ""
    origin_epoch: str = ""
    origin_log: str = ""
    origin_seq: int = 0
    corrected: bool = False

    @property
    def time_quality(self) -> TimeTrust:
        """How far ``time_ns`` can be trusted."""
        if self.quality == "sensor":
            return "sensor"
        return trust_in_ours(synced=self.synced, corrected=self.corrected)


def trust_in_ours(*, synced: bool, corrected: bool) -> TimeTrust:
    """The `Record.time_quality` of records whose time a sensor did not give."""
    return "synced" if synced else "corrected" if corrected else "unsynced"


def array_header(count: int) -> bytes:
    """The msgpack head of an array of ``count`` elements; with a `Run`'s body behind it, a list."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def map_header(count: int) -> bytes:
    """The msgpack head of a map of ``count`` keys."""
    if count < 16:
        return bytes((0x80 | count,))
    if count < 2**16:
        return b"\xde" + count.to_bytes(2, "big")
    return b"\xdf" + count.to_bytes(4, "big")


def text_header(size: int) -> bytes:
    """The msgpack head of a text of ``size`` bytes."""
    if size < 32:
        return bytes((0xA0 | size,))
    if size < 2**8:
        return bytes((0xD9, size))
    if size < 2**16:
        return b"\xda" + size.to_bytes(2, "big")
    return b"\xdb" + size.to_bytes(4, "big")


def resolve_time(value: object, arrival_ns: int) -> tuple[int, TimeQuality]:
    """When a record was measured, in ns since 1970, and whose clock says so.

    ``value`` is the record's ``time`` as decoded: None (absent), RFC 3339 text, int or float
    seconds since 1970, a datetime (msgpack timestamp). A number ≤ 0 is relative to arrival.
    A number below 2^28, or any date before 2020, is an unset clock (docs/times.md),
    unless the sender vouches for it: the map ``{"historic": TIME}`` is taken as it says, so that
    old measurements can be sent from a file.

    Raises:
        ProtocolError: ``bad_time``, which says what was found.
    """
    if type(value) is float and _PLAINLY_SET_S < value < _PLAINLY_NEAR_S:
        # What nearly every sensor sends, by the shortest way: it is asked for every record.
        whole = int(value)
        return whole * NANOSECONDS + round((value - whole) * 1_000_000) * 1000, "sensor"
    if value is None:
        return arrival_ns, "arrival"
    if isinstance(value, bool):
        raise _bad_time(value)
    if isinstance(value, (int, float)):
        return _from_number(value, arrival_ns)
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _bad_time(value.isoformat())
        return _from_ns(datetime_to_ns(value), arrival_ns)
    if isinstance(value, dict) and value.keys() == {HISTORIC}:
        return _historic_ns(value[HISTORIC]), "sensor"
    raise _bad_time(value)


def as_sent(time_ns: int, moment: object) -> object:
    """``moment``, which is ``time_ns``, in the form in which `resolve_time` gives it back.

    ``moment`` is whatever the encoder at hand knows as a timestamp.
    """
    return {HISTORIC: moment} if time_ns < UNSET_CLOCK_BEFORE_NS else moment


def datetime_to_ns(moment: datetime) -> int:
    """Exact ns since 1970 of an aware datetime (microsecond resolution)."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * NANOSECONDS + delta.microseconds * 1000


def format_time(time_ns: int) -> str:
    """RFC 3339 text in UTC with as many digits as needed: ``2026-11-22T10:00:00.25Z``."""
    seconds, nanos = divmod(time_ns, NANOSECONDS)
    try:
        text = second_text(seconds)
    except (OverflowError, ValueError, OSError):
        return str(seconds)
    return f"{text}.{nanos:09d}".rstrip("0") + "Z" if nanos else text + "Z"


def second_text(seconds: int) -> str:
    """The same without a zone, of whole seconds since 1970.

    Raises:
        OverflowError, ValueError, OSError: no calendar has them.
    """
    hour, rest = divmod(seconds, 3600)
    return f"{_until_hour(hour)}{_TWO[rest // 60]}:{_TWO[rest % 60]}"


@lru_cache(maxsize=4096)
def _until_hour(hour: int) -> str:
    # Kept, as it is ten times the rest of a record's text, and neighbours are of the same hour.
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H:")


def _from_number(value: float, arrival_ns: int) -> tuple[int, TimeQuality]:
    if value - value != 0:  # NaN for NaN and for the infinities
        raise _bad_time(value)
    if value <= 0:
        time_ns = arrival_ns + seconds_to_ns(value)
        # Before 1970 where our clock woke there: what it was off by is added later.
        if time_ns < (0 if arrival_ns >= UNSET_CLOCK_BEFORE_NS else -TIME_NS_MAX):
            raise _bad_time(value)
        return time_ns, "relative"
    if value < UNSET_CLOCK_BELOW_S:
        return arrival_ns, "unset"
    return _from_ns(seconds_to_ns(value), arrival_ns)


def seconds_to_ns(seconds: float) -> int:
    """A number of seconds in ns, to the microsecond."""
    # Today's seconds in a double have a step of 0.24 µs, so microseconds are all that a sender
    # can have meant; rounding to them gives .1 back as .1.
    whole = int(seconds)
    return whole * NANOSECONDS + round((seconds - whole) * 1_000_000) * 1000


def _from_ns(time_ns: int, arrival_ns: int) -> tuple[int, TimeQuality]:
    if time_ns > TIME_NS_MAX:
        raise ProtocolError(
            "bad_time",
            "time: expected seconds since 1970, got a number beyond the year 2262"
            " (are these milliseconds?)",
        )
    if time_ns < UNSET_CLOCK_BEFORE_NS:
        return arrival_ns, "unset"
    return time_ns, "sensor"


def _historic_ns(value: object) -> int:
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        time_ns = datetime_to_ns(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0:
        # The difference is NaN for NaN and for the infinities.
        time_ns = seconds_to_ns(value)
    else:
        raise _bad_time(value)
    if abs(time_ns) > TIME_NS_MAX:
        raise _bad_time(value)
    return time_ns


def _from_text(text: str) -> datetime:
    # fromisoformat also takes week dates, bare dates and times without a zone; RFC 3339 section
    # 5.6 wants date, 'T' (or a blank) and a zone, so those are refused with the same sentence.
    if len(text) < 20 or text[4] != "-" or text[7] != "-" or text[10] not in "Tt ":
        raise _bad_time(text)
    if text[-1] == "z":  # RFC 3339 allows it, fromisoformat does not
        text = text[:-1] + "Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _bad_time(text) from None
    if moment.tzinfo is None:
        raise _bad_time(text)
    return moment


def _bad_time(value: object) -> ProtocolError:
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return ProtocolError(
        "bad_time", f"time: expected RFC 3339 text or seconds since 1970, got {shown}"
    )


class Origin(Struct, frozen=True, gc=False):
    """Where a block was first stored, kept at every hop.

    Attributes:
        agent, epoch, log: the first agent's id, its store's epoch, its log.
        first: position there of the record with offset 0, so that (epoch, log, first + offset)
            names each record for good.
        boot_id, boot_ns, stored_ns, synced: that agent's clocks when it committed the block.
        path: ids of the agents that the block has passed, the first one first, 8 at most.
    """

    agent: str
    epoch: str
    log: str
    first: int
    boot_id: bytes
    boot_ns: int
    stored_ns: int
    synced: bool
    path: tuple[str, ...]


class ForeignBlock(Struct, frozen=True, gc=False):
    """A block from another agent, stored as it came; a struct with its origin, as `Run` is, since
    a backlog of small commits is many blocks.

    ``first`` to ``last`` are the numbers that it covers in its sender's numbering, at least
    ``count`` of them (filtered records leave holes). ``payload`` is as in
    ``store/format/block.py``, with ``codec`` 0 (raw) or 1 (zstd) and ``raw_len`` bytes once
    decompressed. ``thinned`` numbers gave way to the aggregates among the records, where its
    sender's log was full. ``historical``: it is of a backlog, and was sent beside newer records.
    """

    first: int
    last: int
    count: int
    codec: int
    raw_len: int
    payload: bytes
    time_min_ns: int
    time_max_ns: int
    origin: Origin
    thinned: int = 0
    historical: bool = False

    def __repr__(self) -> str:
        """Without the payload, which may be 256 KiB."""
        return (
            f"ForeignBlock({self.first}, {self.last}, {self.count}, {self.codec}, {self.raw_len},"
            f" <{len(self.payload)} bytes>, {self.time_min_ns}, {self.time_max_ns},"
            f" {self.origin!r})"
        )
