"""Applies compiled rules to runs.

A run that no rule touches passes as it came, with the bytes that its sender encoded; so does each
record that none touches in a run that others do. What is left of a run keeps its numbers: each is
used up whether its record was stored, left out, set aside or became several. Records with numbers
that do not follow one another are different runs (`edge_agent.values.record.Run`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import msgpack
import msgspec

from edge_agent.rules.hooks import Hook
from edge_agent.rules.steps import Fields, Spot, Step, Unfit, time_of
from edge_agent.values.record import Run
from edge_agent.values.stream_names import stream_problem
from edge_agent.wire import (
    RUN_BYTES_MAX,
    Arrival,
    Reject,
    TimeKey,
    WireLimits,
    fault_of_record,
    make_reject,
)

#: What all records that rules make of one may have, times what one may: parts repeat what is common
#: to them (a time, a unit), and a text of 30 KB repeated for a thousand parts is no measurement.
PARTS_GROWTH_MAX = 4
#: Streams whose rules are remembered; when there are more, it is begun anew.
STREAMS_REMEMBERED = 4096


class Ruled(msgspec.Struct, frozen=True):
    """What is to be stored of runs, what is set aside, and which step left out a record, each time
    that one did.
    """

    runs: tuple[Run, ...]
    rejects: tuple[Reject, ...] = ()
    left_out: Sequence[Step] = ()


class CompiledRules:
    """All rules of a configuration that act before storing, in its order.

    Args:
        steps: the rules.
        limits: what a record may be that a rule has made.
        time_key: where streams have their time, for whoever reads messages.
        hooks: of those among the steps that have one.
    """

    def __init__(
        self,
        steps: Sequence[Step] = (),
        limits: WireLimits | None = None,
        time_key: Callable[[str], TimeKey | None] | None = None,
        hooks: tuple[Hook, ...] = (),
    ) -> None:
        self.steps = tuple(steps)
        self.time_key, self.hooks = time_key, hooks
        self._limits = limits or WireLimits()
        self._steps_of: dict[str, tuple[Step, ...]] = {}
        self._turn = 0
        self._packer = msgpack.Packer(datetime=True)

    def pack(self, fields: Fields) -> bytes:
        """A record's bytes.

        Raises:
            TypeError, ValueError, OverflowError: it has a value that a record cannot have.
        """
        try:
            return self._packer.pack(fields)
        except Exception:
            # Whatever it had written by then.
            self._packer = msgpack.Packer(datetime=True)
            raise

    def are_for(self, runs: tuple[Run, ...]) -> bool:
        """Whether any rule names the stream of any of ``runs``; else they need not be applied."""
        steps_of = self._steps_of
        for run in runs:
            found = steps_of.get(run.stream)
            if found or (found is None and self.steps_of(run.stream)):
                return True
        return False

    def apply(self, runs: tuple[Run, ...], *, again: bool = False) -> Ruled:
        """What the rules make of ``runs``. ``again``: they come from quarantine."""
        if not self.are_for(runs):
            return Ruled(runs)
        kept: list[Run] = []
        rejects: list[Reject] = []
        left_out: list[Step] = []
        self._turn += 1
        for run in runs:
            if self.steps_of(run.stream):
                sorting = _Sorting(self, run, self._limits, self._turn, again=again)
                kept += sorting.runs()
                rejects += sorting.rejects
                left_out += sorting.left_out
            else:
                kept.append(run)
        return Ruled(tuple(kept), tuple(rejects), left_out)

    def steps_of(self, stream: str) -> tuple[Step, ...]:
        """The rules that name a stream."""
        found = self._steps_of.get(stream)
        if found is None:
            if len(self._steps_of) >= STREAMS_REMEMBERED:
                self._steps_of.clear()
            found = tuple(step for step in self.steps if step.matches(stream))
            self._steps_of[stream] = found
        return found


class _Sorting:
    """What becomes of the records of one run."""

    def __init__(
        self, rules: CompiledRules, run: Run, limits: WireLimits, turn: int, *, again: bool
    ) -> None:
        self.rejects: list[Reject] = []
        self.left_out: list[Step] = []
        self._rules, self._run, self._limits = rules, run, limits
        self._spot = Spot(run.stream, run.source, run.arrival_ns, turn, again=again)
        #: Stream, number, bytes and time of each record that is left; no time for the same.
        self._out: list[tuple[str, int, bytes, int | None]] = []
        self._spot.size_max = limits.record_bytes
        #: Bytes that the rules have made of one record so far.
        self._made = 0
        self._arrival: Arrival | None = None
        #: A record is another one; one is gone, or in another place or time.
        self._changed = self._moved = False

    def runs(self) -> Sequence[Run]:
        """The records that are left, as runs."""
        run = self._run
        self._sort()
        if not self._changed:
            return (run,)
        if not self._moved:
            body = b"".join([body for _, _, body, _ in self._out])
            if len(body) <= RUN_BYTES_MAX or run.count == 1:
                return (msgspec.structs.replace(run, body=body),)
        return list(self._split())

    def _sort(self) -> None:
        run, steps = self._run, self._rules.steps_of(self._run.stream)
        # Timestamps stay as they are (timestamp=0), which Python's datetime could not hold.
        if run.count == 1:
            fields = msgpack.unpackb(run.body, strict_map_key=False, timestamp=0)
            self._judge(fields, steps, run.body, run.source_seq)
            return
        unpacker = msgpack.Unpacker(
            strict_map_key=False, timestamp=0, max_buffer_size=max(1, len(run.body))
        )
        unpacker.feed(run.body)
        begin, number = 0, run.source_seq
        for fields in unpacker:
            end = unpacker.tell()
            self._judge(fields, steps, run.body[begin:end], number)
            begin = end
            number += 1 if number else 0

    def _judge(self, fields: Fields, steps: Sequence[Step], raw: bytes, number: int) -> None:
        self._spot.number, kept, left_out = number, len(self._out), len(self.left_out)
        stream = self._run.stream
        # JSON may be longer as msgpack: what came in is not too big, either.
        self._spot.size_max = max(self._spot.size_max, len(raw))
        self._made = 0
        try:
            self._go(fields, stream, steps, raw, True)
        except Exception as error:  # noqa: BLE001 - what nobody has thought of costs one record
            code, reason = "rule_failed", f"{type(error).__name__}: {error}"
            if isinstance(error, Unfit):
                code, reason = error.code, error.reason
            del self._out[kept:], self.left_out[left_out:]
            self._changed = self._moved = True
            self.rejects.append(make_reject(number, code, reason, raw, stream))

    def _go(
        self,
        fields: Fields,
        stream: str,
        steps: Sequence[Step],
        raw: bytes,
        is_ours: bool,
    ) -> None:
        """One record through ``steps``; ``is_ours``: its form needs no look."""
        spot, given = self._spot, fields
        spot.stream = stream
        for step in steps:
            spot.fields = fields
            if step.where is not None and not step.where(spot):
                continue
            outcome = step.act(fields, spot)
            if outcome is fields:
                continue
            self._changed = True
            is_ours = is_ours and step.vouched
            if isinstance(outcome, dict):
                fields = outcome
            elif outcome is None:
                self._moved = True
                self.left_out.append(step)
                return
            else:
                self._moved = True
                for name, each in outcome:
                    later = [s for s in self._rules.steps_of(name) if s.place > step.place]
                    self._check_stream(name, step)
                    self._go(each, name, later, b"", is_ours)
                return
        if fields is given and raw:
            self._out.append((stream, spot.number, raw, None))
        else:
            self._emit(fields, stream, is_ours)

    def _check_stream(self, name: str, step: Step) -> None:
        own = self._run.stream
        if name != own and not name.startswith(f"{own}/"):
            raise Unfit("forbidden_stream", f"rule {step.name}: {name!r:.80} is not below {own!r}")
        problem = stream_problem(name)
        if problem is not None:
            raise Unfit("bad_stream", f"rule {step.name}: {problem}")

    def _emit(self, fields: Fields, stream: str, is_ours: bool) -> None:
        if "stream" in fields and (stream != self._run.stream or not is_ours):
            # It named the stream that this record has left, or is somebody else's word.
            fields = {name: value for name, value in fields.items() if name != "stream"}
        try:
            body = self._rules.pack(fields)
        except (TypeError, ValueError, OverflowError) as error:
            raise Unfit("bad_record", f"what the rules made of it: {error}") from None
        size_max = self._spot.size_max
        self._made += len(body)
        if len(body) > size_max or self._made > size_max * PARTS_GROWTH_MAX:
            most = size_max if len(body) > size_max else size_max * PARTS_GROWTH_MAX
            raise Unfit(
                "too_big",
                f"what the rules made of it has {max(len(body), self._made)} bytes, of {most} that"
                " it may have",
            )
        time_ns = None
        if not is_ours:
            self._look_at(body)
            self._moved = True
            time_ns = time_of(fields.get("time"), self._run.arrival_ns)
        self._out.append((stream, self._spot.number, body, time_ns))

    def _look_at(self, body: bytes) -> None:
        """Raises Unfit where it is no record that could have been sent."""
        run, limits = self._run, self._limits
        if self._arrival is None:
            self._arrival = Arrival(run.stream, run.source, run.arrival_ns, run.synced)
        if len(body) > limits.record_bytes:
            limits = replace(limits, record_bytes=len(body))
        fault = fault_of_record(body, self._arrival, limits)
        if fault is not None:
            raise Unfit(fault[0], f"what the rules made of it: {fault[1]}")

    def _split(self) -> Iterator[Run]:
        run = self._run
        open_runs: dict[str, _Growing] = {}
        for stream, number, body, time_ns in self._out:
            low, high = (
                (run.time_min_ns, run.time_max_ns) if time_ns is None else (time_ns, time_ns)
            )
            now = open_runs.get(stream)
            if now is not None and now.takes(number, len(body)):
                now.add(body, low, high)
                continue
            if now is not None:
                yield now.finished(run)
            open_runs[stream] = _Growing(stream, number, low, high, body)
        yield from (each.finished(run) for each in open_runs.values())


class _Growing:
    """A run that is being put together."""

    def __init__(self, stream: str, number: int, low: int, high: int, body: bytes) -> None:
        self._stream, self._first, self._low, self._high = stream, number, low, high
        self._bodies, self._size = [body], len(body)

    def takes(self, number: int, size: int) -> bool:
        """Whether a record of ``size`` bytes with this number follows."""
        follows = number == (self._first + len(self._bodies) if self._first else 0)
        return follows and self._size + size <= RUN_BYTES_MAX

    def add(self, body: bytes, low: int, high: int) -> None:
        """One record more."""
        self._bodies.append(body)
        self._size += len(body)
        self._low, self._high = min(self._low, low), max(self._high, high)

    def finished(self, run: Run) -> Run:
        """The run; what is not its own is that of ``run``."""
        return msgspec.structs.replace(
            run,
            stream=self._stream,
            source_seq=self._first,
            count=len(self._bodies),
            body=b"".join(self._bodies),
            time_min_ns=self._low,
            time_max_ns=self._high,
        )
