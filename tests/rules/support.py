"""Rules as tests write them, and what they make of records."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import msgpack

from edge_agent.config import Limits, Rule
from edge_agent.metrics import Metrics
from edge_agent.rules import CompiledRules, Ruled, RulesInForce, compile_rules
from edge_agent.values.record import Run
from tests.waist import run_of


def ticking(step_s: float = 0.0) -> Iterator[float]:
    """Readings of a timer on which each call takes ``step_s``."""
    return itertools.count(0.0, step_s)


def rule(name: str = "r", *, streams: tuple[str, ...] = ("greenhouse/*",), **rest: Any) -> Rule:
    return Rule(name=name, streams=streams, **rest)


def compiled(
    *rules: Rule, metrics: Metrics | None = None, took_s: float = 0.0, limits: Limits | None = None
) -> CompiledRules:
    timer = ticking(took_s)
    return compile_rules(
        rules, metrics or Metrics(), limits=limits or Limits(), timer=lambda: next(timer)
    )


def in_force(*rules: Rule) -> RulesInForce:
    """Rules that count nowhere."""
    return RulesInForce(compiled(*rules), Metrics())


def maps(run: Run) -> list[dict[str, Any]]:
    unpacker = msgpack.Unpacker(timestamp=0, strict_map_key=False)
    unpacker.feed(run.body)
    return list(unpacker)


def apply(rules: Iterable[Rule], *records: dict[str, Any], **rest: Any) -> Ruled:
    return compiled(*rules).apply((run_of(*records, **rest),))


def kept(rules: Iterable[Rule], *records: dict[str, Any], **rest: Any) -> list[dict[str, Any]]:
    """The records that are left, in order."""
    ruled = apply(rules, *records, **rest)
    assert not ruled.rejects
    return [fields for run in ruled.runs for fields in maps(run)]


def by_stream(ruled: Ruled) -> dict[str, list[dict[str, Any]]]:
    """The records that are left, by stream."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in ruled.runs:
        found.setdefault(run.stream, []).extend(maps(run))
    return found


def reasons(ruled: Ruled) -> list[tuple[int, str, str]]:
    """Number, code and reason of what is set aside."""
    return [(reject.number, reject.code, reject.message) for reject in ruled.rejects]
