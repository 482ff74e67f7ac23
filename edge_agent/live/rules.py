"""Rules that act before storing: rename, drop, redact; and where a stream has its time.

`compile_rules` turns the configuration's rules into one function ``before(run)``. Rules act in the
file's order, each on what the one before left; a run whose stream no rule names passes untouched,
with the bytes that its sender encoded. ``time`` and ``stream`` say when and where a record belongs
and are not for rules. A rule ``time = {key = "ts", format = "unix-ms", zone = "Europe/Berlin"}``
acts before all others, while a message is read (`compile_time_keys`): it says what ``time`` is.

A dropped record's number is used up as if it had been stored, so that the source never sends it
again; it is counted, per rule. Rules with a ``window`` act after storing (`windows.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgpack
import msgspec

from edge_agent.config import Rule
from edge_agent.metrics import Metrics
from edge_agent.record import Run
from edge_agent.stream_names import compile_patterns
from edge_agent.time_format import parse_format
from edge_agent.wire import TimeKey

REDACTED = "[redacted]"
#: Streams whose rules are remembered; when there are more, it is begun anew.
_STREAMS_REMEMBERED = 4096

Before = Callable[[Run], tuple[Run, ...]]
"""What is to be stored of a run: the run itself, another, or nothing."""

TimeKeyOf = Callable[[str], TimeKey | None]
"""Where a stream's records have their time; None where no rule says so."""

_Change = Callable[[dict[Any, Any]], dict[Any, Any]]


@dataclass(frozen=True, slots=True)
class _RuleStep:
    name: str
    matches: Callable[[str], bool]
    #: None drops the whole record.
    change: _Change | None


def compile_rules(rules: Iterable[Rule], metrics: Metrics) -> Before:
    """The function that applies all rules that act before storing."""
    steps = [_step(rule) for rule in rules if rule.window is None and rule.time is None]
    if not steps:
        return _leave
    steps_of: dict[str, tuple[_RuleStep, ...]] = {}

    def before(run: Run) -> tuple[Run, ...]:
        found = steps_of.get(run.stream)
        if found is None:
            if len(steps_of) >= _STREAMS_REMEMBERED:
                steps_of.clear()
            found = tuple(step for step in steps if step.matches(run.stream))
            steps_of[run.stream] = found
        return _apply(found, run, metrics) if found else (run,)

    return before


def compile_time_keys(rules: Iterable[Rule]) -> TimeKeyOf | None:
    """The function that answers for each stream; the first rule that names it wins. None where no
    rule is about times, so that nobody has to ask.

    Raises:
        ConfigError: a format or a zone is none.
    """
    keys = [(compile_patterns(rule.streams), _time_key(rule)) for rule in rules if rule.time]
    if not keys:
        return None
    known: dict[str, TimeKey | None] = {}

    def time_key(stream: str) -> TimeKey | None:
        if stream not in known:
            if len(known) >= _STREAMS_REMEMBERED:
                known.clear()
            known[stream] = next((key for matches, key in keys if matches(stream)), None)
        return known[stream]

    return time_key


def _time_key(rule: Rule) -> TimeKey:
    given = rule.time or {}
    where = f"rule.{rule.name}.time"
    form = parse_format(
        given.get("format"),
        given.get("zone"),
        form_key=f"{where}.format",
        zone_key=f"{where}.zone",
    )
    return TimeKey(given.get("key", "time"), form)


def _leave(run: Run) -> tuple[Run, ...]:
    return (run,)


def _apply(steps: tuple[_RuleStep, ...], run: Run, metrics: Metrics) -> tuple[Run, ...]:
    # A step without a change drops; what stands before it in the file has no effect then.
    for step in steps:
        if step.change is None:
            metrics.add("records_dropped_total", run.count, step.name)
            return ()
    # Timestamps stay as they are (timestamp=0), which Python's datetime could not hold to the ns.
    unpacker = msgpack.Unpacker(
        strict_map_key=False, timestamp=0, max_buffer_size=max(1, len(run.body))
    )
    unpacker.feed(run.body)
    packer = msgpack.Packer(autoreset=False)
    for fields in unpacker:
        changed = fields
        for step in steps:
            assert step.change is not None
            changed = step.change(changed)
        packer.pack(changed)
    return (msgspec.structs.replace(run, body=packer.bytes()),)


def _step(rule: Rule) -> _RuleStep:
    matches = compile_patterns(rule.streams)
    if rule.drop == "record":
        return _RuleStep(rule.name, matches, None)
    if rule.rename is not None:
        return _RuleStep(rule.name, matches, _renamer(dict(rule.rename)))
    if rule.drop is not None:
        return _RuleStep(rule.name, matches, _dropper(frozenset(rule.drop)))
    assert rule.redact is not None, "the configuration's check wants exactly one action"
    return _RuleStep(rule.name, matches, _redacter(frozenset(rule.redact)))


def _renamer(names: dict[str, str]) -> _Change:
    def rename(fields: dict[Any, Any]) -> dict[Any, Any]:
        # Where the new name is taken already, the renamed field wins, wherever it stands.
        taken = {names[name] for name in fields if name in names}
        return {
            names.get(name, name): value
            for name, value in fields.items()
            if name in names or name not in taken
        }

    return rename


def _dropper(names: frozenset[str]) -> _Change:
    return lambda fields: {name: value for name, value in fields.items() if name not in names}


def _redacter(names: frozenset[str]) -> _Change:
    return lambda fields: {
        name: REDACTED if name in names else value for name, value in fields.items()
    }
