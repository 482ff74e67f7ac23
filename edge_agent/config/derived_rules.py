"""Checks of rules that act after storing: windows and alarms.

`derived_problems` says what is wrong with one rule, `circle_of` whether several feed one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from math import isfinite

from edge_agent.config.shape import Alarm, Rule
from edge_agent.config.units import format_duration
from edge_agent.errors import ProtocolError
from edge_agent.values.conditions import compile_condition
from edge_agent.values.filter import compile_field
from edge_agent.values.stream_names import stream_problem

#: What an alarm may be about; one of them is given.
CONDITIONS = ("above", "below", "rise", "fall", "where", "absent")
#: Further keys of an alarm, and the conditions that they belong to.
_BELONGS = {
    "field": ("above", "below", "rise", "fall"),
    "clear_below": ("above", "rise", "fall"),
    "clear_above": ("below",),
    "per": ("rise", "fall"),
    "hold": ("above", "below", "rise", "fall", "where"),
}
#: A window is merged from so many panes at most.
PANES_MAX = 1440

Trouble = tuple[str, str, str]
"""A key of the rule, what is expected there, and what was found."""


def derived_problems(rule: Rule, action: str) -> Iterator[Trouble]:
    """What is wrong with the keys that belong to windows and alarms; ``action`` is what the rule
    is about.
    """
    for key, owners in (
        ("every", ("window",)), ("fields", ("window",)), ("into", ("window", "alarm", "pick")),
        ("derived", ("window", "alarm")),
    ):  # fmt: skip
        if getattr(rule, key) and action not in owners:
            yield key, f"this key only beside {' or '.join(owners)}", action
    if action not in ("window", "alarm"):
        return
    if rule.into is None:
        if action == "window":
            yield "into", 'a stream such as "{stream}/1h"', "nothing"
    elif stream_problem(rule.into.replace("{stream}", "x")) is not None:
        yield "into", 'a stream name in which "{stream}" may stand', f'"{rule.into}"'
    if rule.window is not None and rule.every is not None:
        yield from _about_every(rule.window, rule.every)
    if rule.alarm is not None:
        yield from _about_alarm(rule.alarm)


def _about_every(window: float, every: float) -> Iterator[Trouble]:
    # In whole microseconds, in which durations are read.
    length, step = round(window * 1e6), round(every * 1e6)
    if not 0 < step <= length or length % step or length // step > PANES_MAX:
        expected = (
            f"a duration that goes into window = {format_duration(window)} without a rest,"
            f" at most {PANES_MAX} times"
        )
        yield "every", expected, format_duration(every)


def _about_alarm(alarm: Alarm) -> Iterator[Trouble]:
    given = [name for name in CONDITIONS if getattr(alarm, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield "alarm", "exactly one of above, below, rise, fall, where and absent", found
        return
    (condition,) = given
    for key, owners in _BELONGS.items():
        if getattr(alarm, key) and condition not in owners:
            yield f"alarm.{key}", f"this key only beside {', '.join(owners)}", condition
    if condition in _BELONGS["field"] and alarm.field is None:
        yield "alarm.field", 'a field such as "t" or "door.open"', "nothing"
    if condition in _BELONGS["per"]:
        if alarm.per is None:
            yield "alarm.per", f'over what time, such as "10m", beside {condition}', "nothing"
        if not getattr(alarm, condition) > 0:
            yield f"alarm.{condition}", "more than 0", f"{getattr(alarm, condition):g}"
    yield from _about_clearing(alarm, condition)
    for key, compile_it in (("field", compile_field), ("where", compile_condition)):
        text = getattr(alarm, key)
        try:
            if text is not None:
                compile_it(text)
        except ProtocolError as error:
            expected, _, found = error.message.partition(", found ")
            expected = expected.removeprefix("filter: ").removeprefix("expected ")
            yield f"alarm.{key}", expected, found or repr(text)


def _about_clearing(alarm: Alarm, condition: str) -> Iterator[Trouble]:
    for key in (condition, "clear_below", "clear_above"):
        value = getattr(alarm, key)
        if isinstance(value, float) and not isfinite(value):
            yield f"alarm.{key}", "a finite number", str(value)
    limit = getattr(alarm, condition)
    if condition == "below" and alarm.clear_above is not None and alarm.clear_above < limit:
        yield "alarm.clear_above", f"at least below = {limit:g}", f"{alarm.clear_above:g}"
    if (
        condition in _BELONGS["clear_below"]
        and alarm.clear_below is not None
        and alarm.clear_below > limit
    ):
        yield "alarm.clear_below", f"at most {condition} = {limit:g}", f"{alarm.clear_below:g}"


def circle_of(rules: Sequence[Rule]) -> list[str]:
    """Names of rules that read one another's records in a circle, so that they would go on for
    ever; the first one also stands last. Empty where there is none.
    """
    derived = [rule for rule in rules if rule.acts_after]
    feeds = {
        reader.name: {
            writer.name
            for writer in derived
            if writer is not reader and reader.derived and _reads(reader, writer)
        }
        for reader in derived
    }
    try:
        TopologicalSorter(feeds).prepare()
    except CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


def _reads(reader: Rule, writer: Rule) -> bool:
    into = writer.into or f"$rule/{writer.name}/{{stream}}"
    written = {_pattern(into, stream) for stream in writer.streams}
    return any(
        _may_meet(tuple(one.split("/")), tuple(other.split("/")))
        for one in written
        for other in reader.streams
    )


def _pattern(into: str, stream: str) -> str:
    """Where records of streams of that pattern go, as a pattern in which ``*`` may also stand for
    the rest of a part.
    """
    parts: list[str] = []
    for part in into.replace("{stream}", stream.removeprefix("$")).split("/"):
        before, wild, after = part.partition("**")
        if not wild or part == wild:
            parts.append(part)
        else:
            parts += [f"{before}*", wild] if before else [wild, f"*{after}"]
    return "/".join(parts)


@cache
def _may_meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether some name matches both patterns."""
    if not one or not other:
        return all(part == "**" for part in one or other)
    if one[0] == "**" or other[0] == "**":
        # "**" stands for nothing, or for one part more; no wildcard stands for a name with "$".
        many, few = (one, other) if one[0] == "**" else (other, one)
        return _may_meet(many[1:], few) or (not few[0].startswith("$") and _may_meet(many, few[1:]))
    return _alike(one[0], other[0]) and _may_meet(one[1:], other[1:])


def _alike(one: str, other: str) -> bool:
    """Whether one part of a name may match both; by what stands before a wildcard."""
    if "*" not in one + other:
        return one == other
    heads = [part.partition("*")[0] for part in (one, other)]
    if one.startswith("$") != other.startswith("$"):
        return False
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])
