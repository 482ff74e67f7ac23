"""From the configuration's rules to steps: which act, in which order, on which records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.quantities import Duration
from edge_agent.errors import ConfigError
from tests.rules.support import apply, compiled, kept, rule
from tests.waist import run_of


def test_rules_act_in_the_order_of_the_file() -> None:
    first = rule(rename={"a": "b"})
    then = rule(drop=("b",))
    assert kept([first, then], {"a": 1, "b": 2, "c": 3}) == [{"c": 3}]
    assert kept([then, first], {"a": 1, "b": 2, "c": 3}) == [{"b": 1, "c": 3}]


def test_rules_about_times_and_windows_do_not_act_before_storing() -> None:
    rules = compiled(rule(window=Duration(60), into="x"), rule(time={"key": "ts"}))
    assert rules.steps == () and rules.time_key is not None
    run = run_of({"t": 1})
    assert rules.apply((run,)).runs[0] is run


def test_a_condition_says_for_which_records_a_rule_acts() -> None:
    rules = [rule(where='site == "north" and t > 20', drop=("t",))]
    records: list[dict[str, Any]] = [
        {"site": "north", "t": 21},
        {"site": "north", "t": 19},
        {"t": 99},
    ]
    assert kept(rules, *records) == [{"site": "north"}, *records[1:]]


def test_a_condition_sees_what_the_rules_before_it_left() -> None:
    rules = [rule(rename={"temp": "t"}), rule(where="t", drop="record")]
    assert kept(rules, {"temp": 1}, {"h": 1}) == [{"h": 1}]


def test_a_condition_can_look_into_maps_and_at_stream_and_source() -> None:
    inner = rule(where='a."b:0".c == 1', drop=("x",))
    other = rule(where='$source == "pi-7" and $stream == "greenhouse/1"', drop=("y",))
    record = {"a": {"b:0": {"c": 1}}, "x": 1, "y": 2}
    assert kept([inner, other], record) == [{"a": {"b:0": {"c": 1}}}]


def test_a_rule_that_drops_under_a_condition_counts_what_it_drops() -> None:
    ruled = apply([rule("noise", where="t > 1", drop="record")], {"t": 1}, {"t": 2}, {"t": 3})
    assert [step.name for step in ruled.left_out] == ["noise", "noise"]


def test_a_key_that_cannot_be_used_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    short = tmp_path / "key"
    short.write_text("too short\n")
    for file, found in ((short, "fewer in"), (tmp_path / "none", "No such file")):
        with pytest.raises(ConfigError, match=r"rule\.r\.key_file.*" + found) as caught:
            compiled(rule(pseudonymise=("card",), key_file=str(file)))
        assert "too short" not in str(caught.value)


def test_a_hook_that_cannot_be_imported_is_a_mistake_of_the_configuration() -> None:
    for hook in ("no_such_module_here:f", "math:no_such_function", "math:pi"):
        with pytest.raises(ConfigError, match=r"rule\.r\.hook"):
            compiled(rule(hook=hook))
