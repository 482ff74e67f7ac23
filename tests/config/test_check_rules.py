"""Rules that act before storing: what is refused when they are loaded."""

from __future__ import annotations

import pytest

from edge_agent.config import parse, render_toml
from tests.config.test_check import error_of, with_rule


@pytest.mark.parametrize(
    "lines, expected",
    [
        ('drop = ["a"]\nwhere = "t >"', "rule.x.where: expected a field, a number"),
        ('drop = ["a"]\nwhere = "cel: 1 + 1"', "rule.x.where: expected true or false in CEL, found 'cel: 1 + 1': it comes"),
        ('drop = ["a"]\nwhere = "$seq > 1"', "'$seq' is none of $stream, $source"),
        ('time = { key = "ts" }\nwhere = "t"', "rule.x.where: expected this key only beside an action before"),
        ('window = "1h"\ninto = "b"\nwhere = "t"', "rule.x.where: expected this key only beside an action before"),
        ('drop = ["a"]\nmax_silence = "1m"', "rule.x.max_silence: expected this key only beside deadband, found drop"),
        ('drop = ["a"]\nkey_file = "k"', "rule.x.key_file: expected this key only beside pseudonymise, found drop"),
        ('drop = ["a"]\nhook_budget = "1ms"', "rule.x.hook_budget: expected this key only beside hook, found drop"),
        ('convert = { t = "F->bar" }', 'rule.x.convert: expected after F one of K, C, F, found "F->bar"'),
        ("convert = { t = {} }", "rule.x.convert: expected units, scale or offset of t, found none"),
        ('convert = { t = { units = "F->C", scale = 2.0 } }', "expected of t either units, or scale and offset, found both"),
        ('convert = { time = "F->C" }', 'rule.x.convert: expected a field other than time and stream, found "time"'),
        ('convert = { t = { scale = 2.0, into = "stream" } }', "rule.x.convert: expected a field other than"),
        ("convert = { t = 7 }", "rule.x.convert: expected"),
        ("convert = { t = { scale = nan } }", "rule.x.convert: expected of t finite numbers, found nan and 0.0"),
        ("convert = { t = { offset = -inf } }", "rule.x.convert: expected of t finite numbers, found 1.0 and -inf"),
        ("calibrate = { t = { polynomial = [1, nan] } }", "rule.x.calibrate: expected of t finite numbers"),
        ("calibrate = { t = { table = [[1, 2], [3, inf]] } }", "rule.x.calibrate: expected of t finite numbers"),
        ("calibrate = { t = {} }", "rule.x.calibrate: expected of t either a table or a polynomial, found none"),
        ("calibrate = { t = { table = [[1, 2]] } }", "expected of t two points or more, in rising order"),
        ("calibrate = { t = { table = [[1, 2], [1, 3]] } }", "expected of t two points or more, in rising order"),
        ("calibrate = { t = { table = [[1, 2], [3, 4]], polynomial = [1] } }", "found both"),
        ("deadband = {}", "rule.x.deadband: expected at least one field, found none"),
        ("deadband = { t = -1 }", "rule.x.deadband: expected of t a number of at least 0, found -1"),
        ('limit = "10"', 'rule.x.limit: expected so many records in a duration, such as "10/1m", found "10"'),
        ('limit = "0/1m"', "rule.x.limit: expected so many records"),
        ('limit = "10/1"', "rule.x.limit: expected so many records"),
        ('pick = { t = "a..b" }', "rule.x.pick: expected a path such as"),
        ('pick = { stream = "a" }', "rule.x.pick: expected a field other than stream"),
        ('pick = { t = "a" }\ninto = "other/1"', 'rule.x.into: expected "{stream}" or a stream below it'),
        ('pick = { t = "a" }\ninto = "{stream}x"', 'rule.x.into: expected "{stream}" or a stream below it'),
        ('pick = { t = "a" }\ninto = "{stream}/a b"', 'rule.x.into: expected "{stream}" or a stream below it'),
        ('pick = { t = "a" }\ninto = "x/{stream}/a"', 'rule.x.into: expected "{stream}" or a stream below it'),
        ('pick = { "{stream}/a" = { t = "a" }, b = "c" }', "rule.x.pick: expected either paths, or a table"),
        ('pick = { "other" = { t = "a" } }', 'rule.x.pick: expected "{stream}" or a stream below it'),
        ('pick = { "{stream}/a" = {} }', "rule.x.pick: expected at least one field, found none"),
        ('flatten = ""', "rule.x.flatten: expected at least one field"),
        ('flatten = "m"', 'rule.x.flatten: expected what stands between names, such as "_", without letters'),
        ('schema = { types = { t = "nmber" } }', "rule.x.schema: expected of t one of number, integer"),
        ("schema = { ranges = { t = [2, 1] } }", "rule.x.schema: expected of t the lowest and the highest value"),
        ("schema = {}", "rule.x.schema: expected types or ranges, found none"),
        ('pseudonymise = ["a"]', "rule.x.key_file: expected a file with the key, found nothing"),
        ("truncate = { t = -1 }", "rule.x.truncate: expected of t 0 to"),
        ('profile = "shelly"', 'rule.x.profile: expected one of "shelly-gen2", "tasmota"'),
        ('hook = "os.system"', 'rule.x.hook: expected "module:function", found "os.system"'),
        ('hook = "m:f"\nhook_budget = "2s"', "rule.x.hook_budget: expected 100us to 1s, found 2s"),
        ('deadband = { t = 1 }\nmax_silence = "400d"', "rule.x.max_silence: expected 0s to 366d"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key_and_what_was_expected(lines: str, expected: str) -> None:
    assert expected in error_of(with_rule(lines))


@pytest.mark.parametrize(
    "lines",
    [
        'convert = { t = "F->C", p = { scale = 0.1, offset = -1, into = "q" } }\nwhere = "t > 1"',
        "calibrate = { a = { table = [[0, 1], [2.5, 3]] }, b = { polynomial = [1, 2.0] } }",
        'deadband = { t = 0.5, h = 0 }\nmax_silence = "5m"',
        'limit = "10/1m"',
        "pick = { t = 'a.\"b:0\".c', time = 'ts' }\ninto = \"{stream}/x\"",
        'pick = { "{stream}/a" = { t = "a" }, "{stream}" = { t = "b" } }',
        'schema = { types = { t = "number", x = "text?" }, ranges = { t = [-40, 85.5] } }',
        'pseudonymise = ["a"]\nkey_file = "/k"',
        "truncate = { t = 0 }",
        'profile = "senml"',
        'hook = "my.rules:tidy"\nhook_budget = "1ms"',
    ],
)
def test_what_is_right_loads_and_comes_back_as_it_was_shown(lines: str) -> None:
    config = parse(with_rule(lines), "f")
    assert parse(render_toml(config), "f") == config
