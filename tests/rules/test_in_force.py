"""The rules in force, counted and replaced."""

from __future__ import annotations

from edge_agent.metrics import Metrics
from edge_agent.rules import CompiledRules, RulesInForce
from edge_agent.rules.in_force import TURN_RECORDS, TURN_RECORDS_WITH_HOOKS
from tests.rules.support import compiled, in_force, rule
from tests.waist import run_of


def test_dropped_records_are_counted_by_rule() -> None:
    metrics = Metrics()
    rules = RulesInForce(compiled(rule("noise", drop="record"), rule(drop=("t",))), metrics)
    assert rules.apply((run_of({"t": 1}, {"t": 2}),)).runs == ()
    assert len(rules.apply((run_of({"t": 1}, stream="cellar/1"),)).runs) == 1
    assert metrics.get("records_dropped_total", "noise") == 2


def test_rules_are_replaced_all_at_once() -> None:
    rules = RulesInForce(CompiledRules(), Metrics())

    def state() -> tuple[bool, bool]:
        return rules.are_any, rules.time_key is not None

    assert state() == (False, False) and rules.hooks_off() == ()
    rules.replace(compiled(rule(drop="record"), rule(time={"key": "ts"})))
    assert state() == (True, True)
    assert rules.apply((run_of({"t": 1}),)).runs == ()
    rules.replace(CompiledRules())
    assert state() == (False, False)


def test_turns_are_short_where_rules_act_and_shorter_where_hooks_are_asked() -> None:
    runs = (run_of({"t": 1}),)
    other = (run_of({"t": 1}, stream="cellar/1"),)
    assert in_force().turn_of(runs) == 0
    assert in_force(rule(drop=("t",))).turn_of(runs) == TURN_RECORDS
    assert in_force(rule(drop=("t",))).turn_of(other) == 0
    hook = rule(hook="tests.rules.hooks_to_try:dew_point")
    assert in_force(hook).turn_of(runs) == TURN_RECORDS_WITH_HOOKS
