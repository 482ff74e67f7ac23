"""Tries rules on messages without storing anything: what would become of each record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_agent.config import Rule
from edge_agent.rules.apply import CompiledRules
from edge_agent.values.record import Run, format_time, resolve_time
from edge_agent.wire import Arrival, WireLimits, read_messages, run_slices

_fields_of = msgspec.msgpack.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class WouldBeStored:
    """One record as it would be stored."""

    stream: str
    time: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tried:
    """What becomes of one record of a message.

    Attributes:
        stream: to which it was sent.
        sent: what came, without its time and stream; None for a message that cannot be read.
        stored: the records that would be stored.
        left_out: rule and reason of each that would leave out a record.
        set_aside: code and reason of what would go to quarantine.
    """

    stream: str
    sent: dict[str, Any] | None
    stored: Sequence[WouldBeStored] = ()
    left_out: Sequence[tuple[str, str]] = ()
    set_aside: Sequence[tuple[str, str]] = ()


class Trial:
    """Takes one message after the other, as one sensor would send them.

    Args:
        rules: what is tried. They remember what they remember.
        limits: of messages.
    """

    def __init__(self, rules: CompiledRules, limits: WireLimits) -> None:
        self._rules, self._limits = rules, limits
        self._number = 1

    def try_message(self, data: str | bytes, arrival: Arrival) -> Iterator[Tried]:
        """Each record of a message, in order; those that cannot be used at all come first."""
        received = read_messages([data], self._number, arrival, self._limits)
        self._number += received.numbers
        if received.failure is not None:
            yield Tried(
                arrival.stream, None, set_aside=[(received.failure.code, received.failure.message)]
            )
        for reject in received.rejects:
            yield Tried(reject.stream, None, set_aside=[(reject.code, reject.message)])
        for run in received.runs:
            for one in run_slices(run, 1):
                yield self._try(one)

    def _try(self, run: Run) -> Tried:
        ruled = self._rules.apply((run,))
        return Tried(
            run.stream,
            _shown(run.body),
            [_stored(each) for kept in ruled.runs for each in run_slices(kept, 1)],
            [(step.name, step.why) for step in ruled.left_out],
            [(reject.code, reject.message) for reject in ruled.rejects],
        )


def stream_for(rules: Sequence[Rule]) -> str:
    """A stream that the first rule is for, for whoever names none."""
    pattern = rules[0].streams[0] if rules else "trial"
    return "/".join("1" if "*" in part else part for part in pattern.split("/"))


def _stored(run: Run) -> WouldBeStored:
    fields = _fields_of(run.body)
    time_ns, _ = resolve_time(fields.get("time"), run.arrival_ns)
    return WouldBeStored(run.stream, format_time(time_ns), _shown(run.body))


def _shown(body: bytes) -> dict[str, Any]:
    return {k: v for k, v in _fields_of(body).items() if k not in ("time", "stream")}
