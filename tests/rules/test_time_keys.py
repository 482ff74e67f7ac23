"""Where a stream has its time."""

from __future__ import annotations

import pytest

from edge_agent.config import Rule
from edge_agent.errors import ConfigError
from edge_agent.rules import compile_time_keys
from tests.rules.support import rule


def time_rule(**given: str) -> Rule:
    return Rule(name="clock", streams=("meter/**",), time=given)


def test_without_rules_about_times_nobody_is_asked() -> None:
    assert compile_time_keys([rule(drop=("a",))]) is None


def test_the_first_rule_that_names_a_stream_says_where_its_time_is() -> None:
    other = Rule(name="other", streams=("**",), time={"key": "when"})
    time_key = compile_time_keys([time_rule(key="ts", format="unix-ms"), other])
    assert time_key is not None
    found = time_key("meter/1"), time_key("x")
    assert [key.name for key in found if key is not None] == ["ts", "when"]
    only = compile_time_keys([time_rule(key="ts")])
    assert only is not None and only("x") is None


def test_a_zone_that_is_none_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"rule\.clock\.time\.zone"):
        compile_time_keys([time_rule(zone="Europe/Nowhere")])
