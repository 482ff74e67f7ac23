"""Functions of somebody else's: what they may answer, and how long they may take."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_agent.config import Duration
from edge_agent.errors import ConfigError
from edge_agent.metrics import Metrics
from edge_agent.rules import RulesInForce
from edge_agent.rules.hooks import SLOW_IN_A_ROW, load_function
from tests.rules.support import apply, by_stream, compiled, kept, reasons, rule
from tests.waist import run_of

MODULE = "tests.rules.hooks_to_try"
DEW = rule("dew", hook=f"{MODULE}:dew_point")


def test_a_hook_changes_and_leaves_out_records() -> None:
    ruled = apply([DEW], {"t": 20.0, "h": 50}, {"h": 1})
    assert by_stream(ruled) == {"greenhouse/1": [{"t": 20.0, "h": 50, "dew": 10.0}]}
    assert [step.name for step in ruled.left_out] == ["dew"]


def test_a_hook_makes_streams_below_its_own() -> None:
    ruled = apply([rule(hook=f"{MODULE}:apart")], {"t": 1, "h": 2}, first=3)
    assert by_stream(ruled) == {
        "greenhouse/1/t": [{"value": 1}],
        "greenhouse/1/h": [{"value": 2}],
    }
    assert {run.source_seq for run in ruled.runs} == {3}


def test_an_exception_sends_the_record_to_quarantine() -> None:
    ((number, code, reason),) = reasons(apply([DEW], {"t": "x"}, first=3))
    assert (number, code, reason) == (3, "rule_failed", "rule dew: KeyError: 'h'")


@pytest.mark.parametrize(
    "say, code",
    [
        ("elsewhere", "forbidden_stream"),
        ("no_stream", "bad_stream"),
        ("set", "bad_record"),
        ("object", "bad_record"),
        ("big", "bad_record"),
        ("keys", "bad_record"),
        ("inner_keys", "bad_record"),
        ("deep", "too_deep"),
        ("time", "bad_time"),
        ("text", "rule_failed"),
        ("pairs", "rule_failed"),
        ("many", "rule_failed"),
    ],
)
def test_what_a_hook_makes_is_looked_at_as_if_a_sensor_had_sent_it(say: str, code: str) -> None:
    ruled = apply([rule(hook=f"{MODULE}:as_told")], {"say": say}, {"say": "same"})
    assert [told for _, told, _ in reasons(ruled)] == [code]
    assert by_stream(ruled) == {"greenhouse/1": [{"say": "same"}]}


def test_a_stream_among_a_hooks_fields_means_nothing() -> None:
    ruled = apply([rule(hook=f"{MODULE}:as_told")], {"say": "stream"})
    assert by_stream(ruled) == {"greenhouse/1": [{"t": 1}]}


def test_a_hook_that_makes_no_records_stores_none() -> None:
    ruled = apply([rule(hook=f"{MODULE}:as_told")], {"say": "none"}, {"say": "same"}, first=1)
    assert [(run.source_seq, run.count) for run in ruled.runs] == [(2, 1)]


def test_calls_over_the_budget_are_counted_told_once_and_then_not_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    slow = rule("dew", hook=f"{MODULE}:dew_point", hook_budget=Duration(0.005))
    rules = RulesInForce(compiled(slow, metrics=metrics, took_s=0.006), metrics)
    run = run_of({"t": 20.0, "h": 50})
    with caplog.at_level(logging.INFO):
        for _ in range(SLOW_IN_A_ROW):
            assert rules.hooks_off() == ()
            assert b"dew" in rules.apply((run,)).runs[0].body
        assert rules.hooks_off() == ("dew",)
        assert rules.apply((run,)).runs[0] is run
    assert metrics.get("hook_calls_slow_total", "dew") == SLOW_IN_A_ROW
    assert [one.levelname for one in caplog.records] == ["WARNING", "ERROR"]


def test_a_hook_that_is_slow_now_and_then_stays() -> None:
    metrics = Metrics()
    rules = compiled(DEW, metrics=metrics, took_s=0.004)
    for _ in range(3 * SLOW_IN_A_ROW):
        rules.apply((run_of({"t": 20.0, "h": 50}),))
    assert not rules.hooks[0].is_off and metrics.total("hook_calls_slow_total") == 0


def test_what_a_hook_does_to_the_fields_it_was_given_is_its_answer() -> None:
    assert kept([DEW, rule(drop=("h",))], {"t": 20.0, "h": 50}) == [{"t": 20.0, "dew": 10.0}]


@pytest.mark.parametrize("body", ["import sys; sys.exit(3)", "1 / 0", "f = 3", "x = ("])
def test_whatever_a_module_does_while_it_is_imported_it_is_a_mistake_in_the_file(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"hook_of_{len(body)}"
    (tmp_path / f"{name}.py").write_text(body + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"rule\.h\.hook.*{name}:f"):
        load_function(f"{name}:f", "rule.h.hook")
