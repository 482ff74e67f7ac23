"""Turns the configuration's rules that act before storing into steps.

Rules act in the file's order, each on what the one before left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge_agent.config import Limits, Rule, parse_limit
from edge_agent.metrics import Metrics
from edge_agent.rules.apply import CompiledRules
from edge_agent.rules.fields import (
    calibrator,
    converter,
    dropper,
    pseudonymiser,
    read_key,
    redacter,
    renamer,
    truncater,
)
from edge_agent.rules.hooks import Hook, load_function
from edge_agent.rules.memory import deadband, limiter
from edge_agent.rules.nested import flattener, picker
from edge_agent.rules.profiles import profile_act
from edge_agent.rules.schema import checker
from edge_agent.rules.steps import Act, Fields, Outcome, Spot, Step
from edge_agent.rules.time_keys import compile_time_keys
from edge_agent.values.conditions import UNSTORED, compile_condition
from edge_agent.values.stream_names import compile_patterns
from edge_agent.wire import WireLimits

Timer = Callable[[], float]
"""Seconds that pass, as of no particular moment."""


def compile_rules(
    rules: Iterable[Rule], metrics: Metrics, *, limits: Limits, timer: Timer
) -> CompiledRules:
    """All rules that act before storing. Blocks for as long as files and imports take.

    Args:
        rules: the configuration's, checked.
        metrics: counts slow hooks; `RulesInForce` counts all else.
        limits: the configuration's, which hold for what rules make, too.
        timer: measures hooks.

    Raises:
        ConfigError: a key cannot be read, or a hook not be imported.
    """
    known = tuple(rules)
    hooks: list[Hook] = []
    steps = []
    for place, rule in enumerate(known):
        if rule.time is not None or rule.acts_after:
            continue
        if rule.hook is not None:
            function = load_function(rule.hook, f"rule.{rule.name}.hook")
            hooks.append(Hook(rule.name, function, float(rule.hook_budget), timer, metrics))
            act: Act = hooks[-1].act
            why = "its hook answered None"
        else:
            act, why = _act_of(rule)
        where = None if rule.where is None else compile_condition(rule.where, UNSTORED)
        matches, vouched = compile_patterns(rule.streams), _is_vouched(rule)
        steps.append(Step(place, rule.name, why, matches, where, act, vouched))
    return CompiledRules(steps, WireLimits.of(limits), compile_time_keys(known), tuple(hooks))


def _act_of(rule: Rule) -> tuple[Act, str]:
    """What a rule does, and why it may leave a record out."""
    if rule.deadband is not None:
        widths = ", ".join(f"{name} by {width:g}" for name, width in rule.deadband.items())
        act = deadband(rule.deadband, float(rule.max_silence))
        return act, f"deadband: changed by less than was asked for ({widths})"
    if rule.limit is not None:
        return limiter(*parse_limit(rule.limit)), f"limit: more than {rule.limit}"
    if rule.pick is not None:
        return picker(rule.pick, rule.into), "pick: none of its paths leads anywhere"
    if rule.profile is not None:
        return profile_act(rule.profile), f"{rule.profile}: nothing in it is to be stored"
    if rule.drop == "record":
        return _leave_out, "drop"
    return _change_of(rule), ""


def _change_of(rule: Rule) -> Act:
    if rule.rename is not None:
        return renamer(rule.rename)
    if rule.drop is not None:
        return dropper(frozenset(rule.drop))
    if rule.redact is not None:
        return redacter(frozenset(rule.redact))
    if rule.convert is not None:
        return converter(rule.convert)
    if rule.calibrate is not None:
        return calibrator(rule.calibrate)
    if rule.flatten is not None:
        return flattener(rule.flatten)
    if rule.schema is not None:
        return checker(rule.schema, rule.name)
    if rule.truncate is not None:
        return truncater(rule.truncate)
    assert rule.pseudonymise is not None, "the configuration's check wants exactly one action"
    assert rule.key_file is not None, "as well as a key"
    key = read_key(rule.key_file, f"rule.{rule.name}.key_file")
    return pseudonymiser(frozenset(rule.pseudonymise), key)


def _leave_out(fields: Fields, spot: Spot) -> Outcome:
    return None


def _is_vouched(rule: Rule) -> bool:
    """Whether what the rule makes has the form and the time of what came."""
    if rule.pick is not None:
        tables = (paths for paths in rule.pick.values() if not isinstance(paths, str))
        return "time" not in rule.pick and not any("time" in paths for paths in tables)
    return rule.profile is None and rule.hook is None
