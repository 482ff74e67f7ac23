"""Live views that were asked for less than everything: some fields, or a record a step.

With fields, a record has these alone, by the paths under which they were asked for, and one that
has none of them is left out. With a step, of each stream the last record of each step is told, and
how many it stands for.

A step is a stretch of the agent's clock (a second, a full minute …), and a record belongs to the
one in which it was stored. What is still to come is told when its step is over; what was there
before the view began, as quickly as it can be read. So a view holds one record of each stream;
where these take more than ``budget_bytes``, the one held longest is told early, and its stream then
has more than one for that step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from edge_agent.live.subscribe import LiveBatch, Subscription
from edge_agent.values.field_path import MISSING
from edge_agent.values.field_paths import FieldPath
from edge_agent.values.record import NANOSECONDS, Record

#: What a record takes besides its fields, about.
_RECORD_BYTES = 400


class PickedView:
    """``async for batch in view``, read by one task: a subscription with fields picked."""

    def __init__(self, subscription: Subscription, fields: Sequence[FieldPath]) -> None:
        self._subscription = subscription
        self._fields = fields

    def __aiter__(self) -> PickedView:
        return self

    async def __anext__(self) -> LiveBatch:
        """Wait for something to tell; never ends."""
        while True:
            batch = await self._subscription.__anext__()
            records = self._picked(batch.records)
            if records or batch.missed:
                return LiveBatch(records, batch.missed)

    def _picked(self, records: list[Record]) -> list[Record]:
        if not self._fields:
            return records
        found = []
        for record in records:
            fields = {
                path.text: value
                for path in self._fields
                if (value := path.of(record.fields)) is not MISSING
            }
            if fields:
                found.append(msgspec.structs.replace(record, fields=fields))
        return found


@dataclass(slots=True)
class _InStep:
    """The newest record of a stream in its step, and how many it stands for. ``step`` is None for
    what came since the view began: its step is over when the clock says so.
    """

    record: Record
    count: int
    step: int | None
    bytes: int = 0


class SteppedView(PickedView):
    """The same with at most one record of a stream and step."""

    def __init__(
        self,
        subscription: Subscription,
        fields: Sequence[FieldPath],
        step_s: float,
        *,
        wall_ns: int,
        budget_bytes: int,
    ) -> None:
        super().__init__(subscription, fields)
        self._step_s = step_s
        self._step_ns = round(step_s * NANOSECONDS)
        self._budget_bytes = budget_bytes
        left_ns = self._step_ns - wall_ns % self._step_ns
        self._ends_at = trio.current_time() + left_ns / NANOSECONDS
        self._held: dict[str, _InStep] = {}
        self._bytes = 0

    async def __anext__(self) -> LiveBatch:
        """Wait for something to tell; never ends."""
        while True:
            told: list[_InStep] = []
            missed = 0
            with trio.move_on_at(self._ends_at) as step:
                batch = await self._subscription.__anext__()
                told, missed = self._add(self._picked(batch.records)), batch.missed
            if step.cancelled_caught:
                told = self._end_step()
            if told or missed:
                records, counts = [one.record for one in told], [one.count for one in told]
                return LiveBatch(records, missed, counts, is_whole=not self._held)

    def _add(self, records: list[Record]) -> list[_InStep]:
        """Take records in; those that are told because of it."""
        told = []
        newest: dict[str, _InStep] = {}
        for record in records:
            is_old = self._subscription.was_there(record)
            step = record.stored_ns // self._step_ns if is_old else None
            held = self._held.pop(record.stream, None)
            count = 1
            if held is not None:
                self._bytes -= held.bytes
                if held.step == step:
                    count += held.count
                else:
                    told.append(held)
            newest[record.stream] = self._held[record.stream] = _InStep(record, count, step)
        for held in newest.values():
            # Not each record that is replaced a moment later.
            held.bytes = _RECORD_BYTES + _weight(held.record.fields)
            self._bytes += held.bytes
        while self._bytes > self._budget_bytes and len(self._held) > 1:
            told.append(self._take(next(iter(self._held))))
        return told

    def _end_step(self) -> list[_InStep]:
        """The clock says that a step is over: what belongs to it, in order of log and seq."""
        behind_s = trio.current_time() - self._ends_at
        self._ends_at += self._step_s * (1 + math.floor(max(0, behind_s) / self._step_s))
        is_all = self._subscription.has_caught_up
        over = [name for name, one in self._held.items() if is_all or one.step is None]
        return sorted(map(self._take, over), key=lambda one: (one.record.log, one.record.seq))

    def _take(self, stream: str) -> _InStep:
        held = self._held.pop(stream)
        self._bytes -= held.bytes
        return held


def _weight(value: Any) -> int:
    """Bytes that a value takes, about."""
    if isinstance(value, (str, bytes)):
        return 50 + len(value)
    if isinstance(value, dict):
        return 100 + sum(80 + len(str(name)) + _weight(item) for name, item in value.items())
    if isinstance(value, list):
        return 60 + sum(8 + _weight(item) for item in value)
    return 30
