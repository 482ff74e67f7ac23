from __future__ import annotations

from typing import Any

import msgpack
import pytest

from edge_agent.config.shape import Duration, Rule
from edge_agent.errors import ConfigError
from edge_agent.live.rules import REDACTED, compile_rules, compile_time_keys
from edge_agent.metrics import Metrics
from edge_agent.record import Run
from tests.waist import run_of


def rule(name: str = "r", *, streams: tuple[str, ...] = ("greenhouse/*",), **rest: Any) -> Rule:
    return Rule(name=name, streams=streams, **rest)


def maps(run: Run) -> list[dict[str, Any]]:
    unpacker = msgpack.Unpacker(timestamp=0, strict_map_key=False)
    unpacker.feed(run.body)
    return list(unpacker)


def apply(rules: list[Rule], *records: dict[str, Any]) -> list[dict[str, Any]]:
    (run,) = compile_rules(rules, Metrics())(run_of(*records))
    return maps(run)


def test_fields_are_renamed_dropped_and_redacted() -> None:
    rules = [
        rule(rename={"temp": "t"}),
        rule(drop=("debug",)),
        rule(redact=("owner",)),
    ]
    changed = apply(rules, {"temp": 1, "debug": 2, "owner": "Ada", "h": 3}, {"h": 4})
    assert changed == [{"t": 1, "owner": REDACTED, "h": 3}, {"h": 4}]


def test_rules_act_in_the_order_of_the_file() -> None:
    first = rule(rename={"a": "b"})
    then = rule(drop=("b",))
    assert apply([first, then], {"a": 1, "b": 2, "c": 3}) == [{"c": 3}]
    assert apply([then, first], {"a": 1, "b": 2, "c": 3}) == [{"b": 1, "c": 3}]


@pytest.mark.parametrize("record", [{"a": 1, "b": 2}, {"b": 2, "a": 1}])
def test_a_renamed_field_wins_over_one_of_that_name(record: dict[str, Any]) -> None:
    assert apply([rule(rename={"a": "b"})], record) == [{"b": 1}]


def test_names_can_be_exchanged() -> None:
    assert apply([rule(rename={"a": "b", "b": "a"})], {"a": 1, "b": 2}) == [{"b": 1, "a": 2}]


def test_everything_about_a_run_but_its_records_stays() -> None:
    before = compile_rules([rule(drop=("x",))], Metrics())
    run = run_of({"x": 1, "t": 2}, {"t": 3}, first=7)
    (changed,) = before(run)
    assert (changed.count, changed.source_seq, changed.source) == (2, 7, "pi-7")
    assert (changed.time_min_ns, changed.arrival_ns) == (run.time_min_ns, run.arrival_ns)


def test_values_survive_re_encoding_exactly() -> None:
    moment = msgpack.Timestamp(1_795_341_600, 123_456_789)
    record = {
        "time": moment,
        "raw": b"\xff",
        "big": 2**64 - 1,
        "deep": {"a": [1, None, True, {"b": 1.5}]},
        "ext": msgpack.ExtType(5, b"x"),
    }
    run = Run("greenhouse/1", "s", 0, 0, True, 1, msgpack.packb(record | {"x": 1}), 0, 0)
    (changed,) = compile_rules([rule(drop=("x",))], Metrics())(run)
    assert maps(changed) == [record]


def test_streams_that_no_rule_names_pass_untouched() -> None:
    before = compile_rules([rule(drop=("t",))], Metrics())
    run = run_of({"t": 1}, stream="cellar/1")
    assert before(run)[0] is run
    assert compile_rules([], Metrics())(run)[0] is run


def test_dropped_records_are_counted_by_rule() -> None:
    metrics = Metrics()
    before = compile_rules([rule("noise", drop="record"), rule(drop=("t",))], metrics)
    assert before(run_of({"t": 1}, {"t": 2})) == ()
    assert len(before(run_of({"t": 1}, stream="cellar/1"))) == 1
    assert metrics.get("records_dropped_total", "noise") == 2


def test_window_rules_do_not_act_before_storing() -> None:
    run = run_of({"t": 1})
    assert compile_rules([rule(window=Duration(60))], Metrics())(run)[0] is run


def test_more_streams_than_are_remembered_change_nothing() -> None:
    before = compile_rules([rule(streams=("**",), drop=("x",))], Metrics())
    for number in range(5000):
        (run,) = before(run_of({"x": 1, "t": 2}, stream=f"s/{number}"))
        assert run.body == msgpack.packb({"t": 2})


# ---- where a stream has its time ----


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
