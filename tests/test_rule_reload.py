"""Rules that are read again on SIGHUP."""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import Any

import pytest

from edge_agent.config import Config, parse
from edge_agent.metrics import Metrics
from edge_agent.rule_reload import RuleReload
from edge_agent.rules import RulesInForce, compile_rules
from tests.waist import inline, run_of

DROP = '[[rule]]\nname = "mute"\nstreams = ["**"]\ndrop = ["x"]\n'
WINDOW = '[[rule]]\nname = "hourly"\nstreams = ["**"]\nwindow = "1h"\ninto = "{stream}/1h"\n'


class Reloading:
    """A configuration's text that changes, and the rules that should follow it."""

    def __init__(self, text: str) -> None:
        self.text = text
        metrics, config = Metrics(), parse(text, "agent.toml")
        compile_: Any = partial(compile_rules, metrics=metrics, timer=perf_counter)
        self.rules = RulesInForce(compile_(config.rule, limits=config.limits), metrics)
        self.reload = RuleReload(config, self.rules, compile_, self._read, inline)

    def _read(self) -> Config:
        return parse(self.text, "agent.toml")

    def drops(self) -> bool:
        run = run_of({"x": 1})
        return self.rules.apply((run,)).runs[0] is not run


async def test_rules_come_and_go_with_the_file(caplog: pytest.LogCaptureFixture) -> None:
    one = Reloading("")
    with caplog.at_level(logging.INFO):
        await one.reload.again()
        assert not caplog.records
        one.text = DROP
        await one.reload.again()
        assert one.drops()
        one.text = ""
        await one.reload.again()
    assert not one.drops() and not one.rules.are_any
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"the rules were read again: {n} act before storing" for n in (1, 0)]


@pytest.mark.parametrize(
    "bad", ["[[rule]]", DROP.replace("drop", "dorp"), DROP + '[[rule]]\nname = "h"\n'
            'streams = ["**"]\nhook = "no_such_module_here:f"\n']
)  # fmt: skip
async def test_a_bad_file_leaves_the_old_rules_and_the_journal_says_why(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = Reloading(DROP)
    one.text = bad
    await one.reload.again()
    assert one.drops()
    assert "the rules stay as they were: " in caplog.text and "rule" in caplog.text


async def test_rules_that_act_after_storing_wait_for_a_restart_and_the_journal_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Reloading(DROP)
    one.text = DROP + WINDOW
    await one.reload.again()
    assert "take effect when the agent starts" in caplog.text
    caplog.clear()
    one.text = DROP
    await one.reload.again()
    assert "take effect" not in caplog.text


async def test_without_a_way_to_read_them_again_nothing_happens() -> None:
    rules: Any = None
    await RuleReload(Config(), rules, rules, None, inline).again()
