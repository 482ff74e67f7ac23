"""A compiled rule: a `Step`, which is asked about one record after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

from edge_agent.errors import EdgeAgentError, ProtocolError
from edge_agent.values.filter import Filter
from edge_agent.values.record import HISTORIC, resolve_time

Fields = dict[Any, Any]
"""A record's map, with ``time`` and ``stream`` if the sender wrote them."""

Outcome = Fields | list[tuple[str, Fields]] | None
"""What a step makes of a record: the record, changed or the very same; records of this stream and
streams below it; or nothing, which leaves it out."""

Act = Callable[[Fields, "Spot"], Outcome]

#: The largest that ``limits.record_bytes`` may say; a `Spot` is told what it says.
RECORD_BYTES_MAX = 1024 * 1024


class Unfit(EdgeAgentError):
    """A record does not fit: it goes to quarantine under ``code``, for a reason in words."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Spot:
    """Where a record stands, for a step and its condition. One object for all records of a run.

    Attributes:
        stream, fields: as the steps before have left them.
        source, number, arrival_ns: of the run; ``number`` is this record's, 0 without numbers.
        again: it is read again from quarantine; whoever remembers records is not to.
        turn: names the call that the run came with.
        size_max: bytes that a record may have, once the rules have made another one of it.
    """

    __slots__ = ("again", "arrival_ns", "fields", "number", "size_max", "source", "stream", "turn")
    #: What a filter may ask for; a record gets it when it is stored.
    seq = 0

    def __init__(
        self, stream: str, source: str, arrival_ns: int, turn: int, *, again: bool
    ) -> None:
        self.stream, self.source, self.arrival_ns = stream, source, arrival_ns
        self.turn, self.again = turn, again
        self.number = 0
        self.size_max = RECORD_BYTES_MAX
        self.fields: Fields = {}

    def time_ns(self) -> int:
        """The record's time.

        Raises:
            Unfit: a rule has made one that is none.
        """
        try:
            return time_of(self.fields.get("time"), self.arrival_ns)
        except (ProtocolError, ValueError, OverflowError) as error:
            raise Unfit("bad_time", f"what the rules made of it: {error}") from None


@dataclass(frozen=True, slots=True)
class Step:
    """One rule.

    Attributes:
        place: in the file's order, for what goes on in another stream.
        name, why: the rule's, and for a person what it leaves out.
        matches: which streams it is for.
        where: for which records; None for all.
        act: what it does.
        vouched: its records have known forms and the time that they came with; all others are
            looked at as if a sensor had sent them.
    """

    place: int
    name: str
    why: str
    matches: Callable[[str], bool]
    where: Filter | None
    act: Act
    vouched: bool = True


def time_of(value: object, arrival_ns: int) -> int:
    """A record's time, given its ``time`` as this package decodes it.

    Raises:
        ProtocolError: ``bad_time``.
    """
    if value is None:
        return arrival_ns
    if isinstance(value, dict) and value.keys() == {HISTORIC}:
        value = {HISTORIC: _moment(value[HISTORIC])}
    return resolve_time(_moment(value), arrival_ns)[0]


def _moment(value: object) -> object:
    return value.to_datetime() if isinstance(value, msgpack.Timestamp) else value
