"""Arguments and results of reading a message: limits, facts of its arrival, runs, rejects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from edge_agent.errors import ProtocolError
from edge_agent.session import CLOSE_TOO_BIG, CLOSE_UNDECODABLE
from edge_agent.values.record import NANOSECONDS, Run
from edge_agent.values.time_format import TimeFormat
from edge_agent.values.value_count import RECORD_VALUES

#: A reject keeps this much of what was sent; quarantine keeps no more.
REJECT_BYTES_MAX = 4096
#: What a reject counts in a window, however small: keeping it and telling of it costs as much as
#: hundreds of records, so a flood of them waits for its commits.
REJECT_WEIGHT = 16 * 1024
#: Sentences about input quote it; a name of control characters is ten times as long when quoted.
REASON_CHARACTERS_MAX = 500
#: A run's body is at most this long unless it is one record, so that whoever packs runs into
#: blocks never has to look for record boundaries.
RUN_BYTES_MAX = 64 * 1024


class ToldRecordLimits(Protocol):
    """What the configuration says of messages and records."""

    @property
    def message_bytes(self) -> int:
        """Of one message."""

    @property
    def record_bytes(self) -> int:
        """Of one record."""

    @property
    def record_depth(self) -> int:
        """Of one record."""

    @property
    def batch_records(self) -> int:
        """Of one array."""

    @property
    def record_values(self) -> int:
        """Of one record."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What one message may ask of us.

    Attributes:
        message_bytes: one message, as sent.
        record_bytes: one record, as sent (JSON text or msgpack).
        record_values: values of one record, its keys and those that nest included.
        record_depth: maps and arrays within one another; the record's own map is the first.
        batch_records: elements of one array.
        short_bytes: what is no longer needs no look at each of its records: none can be longer than
            a record may be, or have more values, as a value has a byte at least.
    """

    message_bytes: int = 1024 * 1024
    record_bytes: int = 64 * 1024
    record_depth: int = 16
    batch_records: int = 10_000
    record_values: int = RECORD_VALUES
    short_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        least = min(RUN_BYTES_MAX, self.message_bytes, self.record_bytes, self.record_values)
        object.__setattr__(self, "short_bytes", least)

    @classmethod
    def of(cls, told: ToldRecordLimits) -> WireLimits:
        """Those of the configuration, as plain numbers: its sizes know their unit, which an encoder
        does not understand.
        """
        return cls(
            int(told.message_bytes),
            int(told.record_bytes),
            told.record_depth,
            told.batch_records,
            told.record_values,
        )


@dataclass(frozen=True, slots=True)
class TimeKey:
    """Where the records of a stream have their time, by a rule, and how it is written.

    A local time that occurs twice is the one nearer to its arrival, where that is within
    `NEAR_NS` of one of them and not of the other.
    """

    name: str
    form: TimeFormat


#: Two moments that one local time may mean are an hour apart.
NEAR_NS = 30 * 60 * NANOSECONDS


class Arrival(Struct, frozen=True):
    """What is the same for all messages that one read brought. A struct, as there is one for each
    message of a slow sensor: a frozen dataclass of so many fields takes many times as long to make.

    Attributes:
        stream: the stream of the connection's path.
        source: who sends.
        wall_ns: agent's wall clock, ns since 1970.
        synced: whether that clock is set.
        may_write: whether the peer's token allows a stream that a record names; None allows all.
        time_key: by stream, where its records have their time, None where that is ``time``; None
            where no stream has a rule for it.
        turn_of: how many of the records that were read make a turn, 0 for any number; None where
            that is so for all.
    """

    stream: str
    source: str
    wall_ns: int
    synced: bool
    may_write: Callable[[str], bool] | None = None
    time_key: Callable[[str], TimeKey | None] | None = None
    turn_of: Callable[[tuple[Run, ...]], int] | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used for its content: nack, quarantine, next.

    ``number`` is its number in its source's numbering, 0 in plain mode. ``body`` is what was
    sent, its first `REJECT_BYTES_MAX` bytes.
    """

    number: int
    code: str
    message: str
    body: bytes = field(repr=False)
    stream: str


def make_reject(number: int, code: str, message: str, body: bytes, stream: str) -> Reject:
    """A reject with everything that a peer chose cut to size."""
    kept = ""
    if len(body) > REJECT_BYTES_MAX:
        kept = f" (of its {len(body)} bytes the first {REJECT_BYTES_MAX} are kept)"
    message = message[: REASON_CHARACTERS_MAX - len(kept)] + kept
    return Reject(number, code, message, body[:REJECT_BYTES_MAX], stream)


class Received(Struct, frozen=True):
    """What one message, or a list of them, holds; or the part of a list that one turn has read.

    Attributes:
        runs, rejects: in the order sent. Numbers that are in no run are in a reject.
        numbers: how many numbers of the source the messages take, good and bad.
        size: bytes of the messages as sent.
        messages: how many messages were read to their end; fewer than given where ``failure`` is
            set.
        failure: why the message after those could not be read, for lists only;
            `read_message` raises it.
        unread: that message.
        is_last: whether nothing of the list is left for a later turn (`read_in_turns`).
    """

    runs: tuple[Run, ...]
    rejects: tuple[Reject, ...]
    numbers: int
    size: int
    messages: int = 1
    failure: ProtocolError | None = None
    unread: str | bytes = b""
    is_last: bool = True


class Undecodable(ProtocolError):
    """Bytes that are neither JSON nor msgpack, or end too early or too late."""

    def __init__(self, message: str) -> None:
        super().__init__("undecodable", message, CLOSE_UNDECODABLE)


class TooBigMessage(ProtocolError):
    """A message over the limit that `welcome` told."""

    def __init__(self, message: str) -> None:
        super().__init__("too_big_message", message, CLOSE_TOO_BIG)
