from __future__ import annotations

import pytest

from edge_agent.config import Alarm, Duration, load_config, parse, render_toml
from edge_agent.config.derived_rules import circle_of
from edge_agent.config.shape import Rule
from edge_agent.errors import ConfigError


def error_of(lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(f'[[rule]]\nname = "x"\nstreams = ["a"]\n{lines}\n', "f")
    return str(caught.value)


def test_an_alarm_is_read_in_one_line_and_as_a_table_of_its_own() -> None:
    head = '[[rule]]\nname = "x"\nstreams = ["a"]\n'
    one = parse(f'{head}alarm = {{ field = "t", above = 30, hold = "2m" }}', "f")
    other = parse(f'{head}[rule.alarm]\nfield = "t"\nabove = 30.0\nhold = "120s"', "f")
    assert one.rule[0].alarm == other.rule[0].alarm == Alarm("t", above=30, hold=Duration(120))


def test_an_alarm_is_read_from_the_environment() -> None:
    env = {
        "EDGE_AGENT__RULE__HOT__STREAMS": "a",
        "EDGE_AGENT__RULE__HOT__ALARM": "field=t, above=30, hold=2m",
    }
    (rule,) = load_config(None, env=env, overrides={}).rule
    assert rule.alarm == Alarm("t", above=30, hold=Duration(120))


@pytest.mark.parametrize(
    "lines, expected",
    [
        ("alarm = {}", "rule.x.alarm: expected exactly one of above, below, rise, fall, where and absent, found none"),
        ('alarm = { above = 1, absent = "5m" }', "absent, found above and absent"),
        ("alarm = { above = 1 }", 'rule.x.alarm.field: expected a field such as "t" or "door.open", found nothing'),
        ('alarm = { absent = "5m", field = "t" }', "rule.x.alarm.field: expected this key only beside above, below, rise, fall, found absent"),
        ('alarm = { absent = "5m", hold = "1m" }', "rule.x.alarm.hold: expected this key only beside"),
        ('alarm = { field = "a b", above = 1 }', "rule.x.alarm.field: expected a path such as t, a.b"),
        ('alarm = { field = "t", above = 1, clear_below = 2 }', "rule.x.alarm.clear_below: expected at most above = 1, found 2"),
        ('alarm = { field = "t", below = 2, clear_above = 1 }', "rule.x.alarm.clear_above: expected at least below = 2, found 1"),
        ('alarm = { field = "t", above = 1, clear_above = 2 }', "rule.x.alarm.clear_above: expected this key only beside below, found above"),
        ('alarm = { field = "t", rise = 1 }', 'rule.x.alarm.per: expected over what time, such as "10m", beside rise, found nothing'),
        ('alarm = { field = "t", fall = -1, per = "1m" }', "rule.x.alarm.fall: expected more than 0, found -1"),
        ('alarm = { field = "t", above = nan }', "rule.x.alarm.above: expected a finite number, found nan"),
        ('alarm = { where = "t >" }', "rule.x.alarm.where: expected a field, a number or a text in quotes at 4, found the end"),
        ('alarm = { absent = "0s" }', "rule.x.alarm.absent: expected 100ms to 366d, found 0s"),
        ('alarm = { absent = 300 }', "rule.x.alarm.absent: expected a duration with a unit"),
        ('alarm = { abov = 1 }', 'rule.x.alarm.abov: expected "above" (did you mean that?), found the unknown key "abov"'),
        ('alarm = "hot"', "rule.x.alarm: expected a table"),
        ('alarm = { absent = "5m" }\nevery = "1m"', "rule.x.every: expected this key only beside window, found alarm"),
        ('alarm = { absent = "5m" }\nfields = ["t"]', "rule.x.fields: expected this key only beside window, found alarm"),
        ('alarm = { absent = "5m" }\ninto = "$x"', "rule.x.into: expected a stream name in which"),
        ('window = "10m"\ninto = "b"\nevery = "3m"', "rule.x.every: expected a duration that goes into window = 10m without a rest, at most 1440 times, found 3m"),
        ('window = "10m"\ninto = "b"\nevery = "20m"', "rule.x.every: expected a duration that goes into window = 10m"),
        ('window = "1d"\ninto = "b"\nevery = "1s"', "at most 1440 times, found 1s"),
        ('drop = "record"\nderived = true', "rule.x.derived: expected this key only beside window or alarm, found drop"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_what_to_do(lines: str, expected: str) -> None:
    assert expected in error_of(lines)


def window(name: str, *streams: str, into: str | None = None, derived: bool = True) -> Rule:
    length = Duration(60)
    return Rule(name=name, streams=streams, window=length, into=into, derived=derived)


@pytest.mark.parametrize(
    "one, other",
    [
        (("**",), ("**",)),
        (("s/*", "b/**"), ("a/s/*",)),
        (("s/*", "b/a/s/1"), ("a/*/1",)),
        (("s/*", "b/a/s/1"), ("a/**/1",)),
    ],
)
def test_rules_that_feed_one_another_are_a_mistake(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    rules = [window("a", *one, into="a/{stream}"), window("b", *other, into="b/{stream}")]
    found = circle_of(rules)
    assert found[0] == found[-1] and set(found) == {"a", "b"}
    assert not circle_of([rules[0], window("b", *other, into="b/{stream}", derived=False)])


@pytest.mark.parametrize(
    "one, other, into",
    [
        (("s/*",), ("a/**",), "b/{stream}"),
        (("s/**",), ("a/**",), "b/{stream}"),
        (("s/*", "b/x"), ("a/**",), "b/{stream}"),
        (("**",), ("a/**",), None),
        (("s/*", "b/*"), ("a/s/*",), "b-{stream}"),
    ],
)
def test_rules_of_which_only_one_reads_the_other_are_none(
    one: tuple[str, ...], other: tuple[str, ...], into: str | None
) -> None:
    assert not circle_of([window("a", *one, into="a/{stream}"), window("b", *other, into=into)])


def test_a_circle_is_told_with_its_rules() -> None:
    text = "".join(
        f'[[rule]]\nname = "{name}"\nstreams = ["**"]\nwindow = "1m"\ninto = "{name}/{{stream}}"\n'
        "derived = true\n"
        for name in ("one", "two")
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert "derived: expected rules that do not feed one another in a circle" in str(caught.value)
    assert "one -> two" in str(caught.value) or "two -> one" in str(caught.value)


def test_patterns_with_many_wildcards_are_compared_at_once() -> None:
    many = "/".join(["**", "a"] * 30)
    assert not circle_of([window("a", many, into="x/{stream}"), window("b", many + "/b", into="y")])


def test_what_is_shown_of_an_alarm_loads_back_to_it() -> None:
    tables = "".join(
        f'[[rule]]\nname = "r{number}"\nstreams = ["a"]\nalarm = {{ {alarm} }}\n'
        for number, alarm in enumerate(
            (
                'field = "a.\\"b:0\\".c", below = 0, clear_above = 0.5, hold = "90s"',
                'field = "t", rise = 1.5, per = "10m"',
                "where = 'site == \"north\"'",
                'absent = "5m"',
            )
        )
    )
    config = parse(tables, "f")
    assert parse(render_toml(config), "shown") == config
