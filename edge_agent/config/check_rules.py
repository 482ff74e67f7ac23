"""Checks of rules that act before storing, beyond their types: see `check`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, pairwise
from math import isfinite

from msgspec.structs import fields

from edge_agent.config.shape import Calibration, Conversion, Rule
from edge_agent.config.units import parse_limit
from edge_agent.errors import ProtocolError
from edge_agent.values.conditions import UNSTORED, compile_condition
from edge_agent.values.field_path import parse_path
from edge_agent.values.measures import between
from edge_agent.values.stream_names import stream_problem

#: Of which a rule has exactly one. The last acts after storing, the one before it while reading.
ACTIONS = (
    "rename", "drop", "redact", "convert", "calibrate", "deadband", "limit", "pick", "flatten",
    "schema", "pseudonymise", "truncate", "profile", "hook", "time", "window", "alarm",
)  # fmt: skip
#: What the fields of a schema may be; with "?" behind it, a field may be missing.
TYPES = ("number", "integer", "text", "bool", "map", "list", "any")
#: Fields that everything reads that stores, routes and forwards.
NOT_FOR_RULES = frozenset({"time", "stream"})
POINTS_MAX = 1000
DECIMALS_MAX = 1_000_000
_HOOK = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: A key that belongs to one action alone.
_BELONGS = {
    "max_silence": "deadband",
    "key_file": "pseudonymise",
    "hook_budget": "hook",
}

Mistake = tuple[str, str, str]
"""A key of the rule, what was expected, and what was found."""


def rule_mistakes(rule: Rule, action: str) -> Iterator[Mistake]:
    """Everything about ``rule``, whose only action is ``action``, that does not fit."""
    for names in _fields_of(rule):
        for key, name in names:
            if name in NOT_FOR_RULES:
                yield key, "a field other than time and stream", f'"{name}"'
    if rule.where is not None:
        if action in ("time", "window", "alarm"):
            yield "where", "this key only beside an action before storing", action
        try:
            compile_condition(rule.where, UNSTORED)
        except ProtocolError as error:
            yield condition_mistake("where", error)
    for key, other in _BELONGS.items():
        if action != other and getattr(rule, key) != _DEFAULTS[key]:
            yield key, f"this key only beside {other}", action
    value = getattr(rule, action)
    if not value and action not in ("window", "alarm"):
        yield action, "at least one field", "none"
    elif action in _CHECKS:
        yield from _CHECKS[action](rule)


def condition_mistake(key: str, error: ProtocolError) -> Mistake:
    """What is wrong with a condition, whose error says itself what was expected and found."""
    text = error.message.removeprefix("filter: ")
    expected, found, rest = text.removeprefix("expected ").partition(", found ")
    return (key, expected, rest) if found else (key, "a filter", text)


_DEFAULTS = {field.name: field.default for field in fields(Rule)}


def _fields_of(rule: Rule) -> Iterator[Iterable[tuple[str, str]]]:
    """The names of fields that a rule writes or takes away, each with its key."""
    yield [("rename", name) for pair in (rule.rename or {}).items() for name in pair]
    dropped = () if rule.drop == "record" else rule.drop or ()
    yield [("drop", name) for name in sorted(dropped)]
    for key in ("redact", "pseudonymise", "truncate", "deadband", "convert", "calibrate"):
        yield [(key, name) for name in getattr(rule, key) or ()]
    for key in ("convert", "calibrate"):
        for each in (getattr(rule, key) or {}).values():
            if not isinstance(each, str) and each.into is not None:
                yield [(key, each.into)]


def _about_convert(rule: Rule) -> Iterator[Mistake]:
    for name, how in (rule.convert or {}).items():
        how = Conversion(units=how) if isinstance(how, str) else how
        if not (isfinite(how.scale) and isfinite(how.offset)):
            yield "convert", f"of {name} finite numbers", f"{how.scale} and {how.offset}"
        if how.units is None:
            if (how.scale, how.offset) == (1.0, 0.0):
                yield "convert", f"units, scale or offset of {name}", "none"
            continue
        if (how.scale, how.offset) != (1.0, 0.0):
            yield "convert", f"of {name} either units, or scale and offset", "both"
        try:
            between(how.units)
        except ValueError as error:
            yield "convert", str(error), f'"{how.units}"'


def _about_calibrate(rule: Rule) -> Iterator[Mistake]:
    for name, how in (rule.calibrate or {}).items():
        yield from _about_calibration(name, how)


def _about_calibration(name: str, how: Calibration) -> Iterator[Mistake]:
    shown = [point[0] for point in how.table]
    if bool(how.table) == bool(how.polynomial):
        yield "calibrate", f"of {name} either a table or a polynomial", "both" if shown else "none"
    elif not all(map(isfinite, (*chain.from_iterable(how.table), *how.polynomial))):
        yield "calibrate", f"of {name} finite numbers", f"{how.table or how.polynomial}"[:60]
    elif how.table and (len(shown) < 2 or any(a >= b for a, b in pairwise(shown))):
        yield "calibrate", f"of {name} two points or more, in rising order", f"{how.table}"[:60]
    elif max(len(how.table), len(how.polynomial)) > POINTS_MAX:
        yield "calibrate", f"of {name} at most {POINTS_MAX} points", f"{len(how.table)}"


def _about_deadband(rule: Rule) -> Iterator[Mistake]:
    for name, width in (rule.deadband or {}).items():
        if not width >= 0:
            yield "deadband", f"of {name} a number of at least 0", f"{width}"


def _about_limit(rule: Rule) -> Iterator[Mistake]:
    try:
        parse_limit(rule.limit or "")
    except ValueError as error:
        yield "limit", str(error), f'"{rule.limit}"'


def _about_pick(rule: Rule) -> Iterator[Mistake]:
    pick = rule.pick or {}
    tables = {key: value for key, value in pick.items() if not isinstance(value, str)}
    if tables and (len(tables) < len(pick) or rule.into is not None):
        yield "pick", "either paths, or a table of paths for each stream", "both"
    for into in (*tables, *([] if rule.into is None else [rule.into])):
        key = "pick" if into in tables else "into"
        rest = into.removeprefix("{stream}")
        # Whoever may write a stream may write what lies below it, and nothing else.
        below = rest == "" or rest.startswith("/")
        if rest == into or not below or stream_problem("x" + rest) is not None:
            yield key, '"{stream}" or a stream below it such as "{stream}/switch0"', f'"{into}"'
    for paths in tables.values() if tables else [pick]:
        yield from _about_paths(paths)


def _about_paths(paths: Mapping[str, object]) -> Iterator[Mistake]:
    for name, path in paths.items():
        if name == "stream":
            yield "pick", "a field other than stream", f'"{name}"'
        try:
            parse_path(f"{path}")
        except ValueError as error:
            yield "pick", str(error), f'"{path}"'
    if not paths:
        yield "pick", "at least one field", "none"


def _about_flatten(rule: Rule) -> Iterator[Mistake]:
    # With letters between them, names could join to "time".
    if re.fullmatch(r"[^A-Za-z]{1,8}", rule.flatten or "") is None:
        yield (
            "flatten",
            'what stands between names, such as "_", without letters',
            rule.flatten or "",
        )


def _about_schema(rule: Rule) -> Iterator[Mistake]:
    assert rule.schema is not None
    for name, kind in rule.schema.types.items():
        if kind.removesuffix("?") not in TYPES:
            yield (
                "schema",
                f"of {name} one of {', '.join(TYPES)}, with ? where it may be missing",
                f'"{kind}"',
            )
    for name, (low, high) in rule.schema.ranges.items():
        if not low <= high:
            yield "schema", f"of {name} the lowest and the highest value", f"[{low}, {high}]"
    if not (rule.schema.types or rule.schema.ranges):
        yield "schema", "types or ranges", "none"


def _about_pseudonymise(rule: Rule) -> Iterator[Mistake]:
    if rule.key_file is None:
        yield "key_file", "a file with the key", "nothing"


def _about_truncate(rule: Rule) -> Iterator[Mistake]:
    for name, length in (rule.truncate or {}).items():
        if not 0 <= length <= DECIMALS_MAX:
            yield "truncate", f"of {name} 0 to {DECIMALS_MAX}", f"{length}"


def _about_hook(rule: Rule) -> Iterator[Mistake]:
    if _HOOK.fullmatch(rule.hook or "") is None:
        yield "hook", '"module:function"', f'"{rule.hook}"'


_CHECKS: dict[str, Callable[[Rule], Iterator[Mistake]]] = {
    "convert": _about_convert,
    "calibrate": _about_calibrate,
    "deadband": _about_deadband,
    "limit": _about_limit,
    "pick": _about_pick,
    "flatten": _about_flatten,
    "schema": _about_schema,
    "pseudonymise": _about_pseudonymise,
    "truncate": _about_truncate,
    "hook": _about_hook,
}
