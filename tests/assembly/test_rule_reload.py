"""Rules that are read again on SIGHUP."""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import Any

import pytest

from edge_agent.assembly.rule_reload import RuleReload
from edge_agent.config import parse, with_sending
from edge_agent.errors import ConfigError
from edge_agent.metrics import Metrics
from edge_agent.rules import RulesInForce, compile_rules
from tests.waist import inline, run_of

DROP = '[[rule]]\nname = "mute"\nstreams = ["**"]\ndrop = ["x"]\n'
WINDOW = '[[rule]]\nname = "hourly"\nstreams = ["**"]\nwindow = "1h"\ninto = "{stream}/1h"\n'
MEANS = '[[upstream]]\nname = "hub"\nurl = "ws://hub:1/forward"\nsend = "1m means"\n'
WAITS = "rules that act after storing: "


class Reloading:
    """A configuration's text that changes, and the rules that should follow it."""

    def __init__(self, text: str) -> None:
        self.text, self.stays = text, ""
        metrics, config = Metrics(), with_sending(parse(text, "agent.toml"))
        compile_: Any = partial(compile_rules, metrics=metrics, timer=perf_counter)
        self.rules = RulesInForce(compile_(config.rule, limits=config.limits), metrics)
        self.reload = RuleReload(config, self.rules, compile_, inline)

    async def again(self) -> None:
        self.stays = await (await self.reload.prepare(parse(self.text, "agent.toml")))()

    def drops(self) -> bool:
        run = run_of({"x": 1})
        return self.rules.apply((run,)).runs[0] is not run


async def test_rules_come_and_go_with_the_file(caplog: pytest.LogCaptureFixture) -> None:
    one = Reloading("")
    with caplog.at_level(logging.INFO):
        await one.again()
        assert not caplog.records
        one.text = DROP
        await one.again()
        assert one.drops()
        one.text = ""
        await one.again()
    assert not one.drops() and not one.rules.are_any
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"the rules were read again: {n} act before storing" for n in (1, 0)]


async def test_a_hook_that_is_not_there_is_refused_while_the_old_rules_are_in_force() -> None:
    one = Reloading(DROP)
    hook = '[[rule]]\nname = "h"\nstreams = ["**"]\nhook = "no_such_module_here:f"\n'
    one.text = DROP + hook
    with pytest.raises(ConfigError, match="no_such_module_here"):
        await one.again()
    assert one.drops()


async def test_rules_that_were_prepared_act_when_they_are_taken_up_and_not_before() -> None:
    one = Reloading("")
    take_up = await one.reload.prepare(parse(DROP, "agent.toml"))
    assert not one.drops()
    assert await take_up() == "" and one.drops()


async def test_rules_that_act_after_storing_wait_for_a_restart_and_the_journal_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Reloading(DROP)
    one.text = DROP + WINDOW
    await one.again()
    assert f"{WAITS}hourly" in caplog.text and WAITS in one.stays
    caplog.clear()
    one.text = DROP
    await one.again()
    assert WAITS not in caplog.text and one.stays == ""


async def test_a_rule_behind_an_upstream_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    one = Reloading(MEANS)
    await one.again()
    assert WAITS not in caplog.text
    one.text = ""
    await one.again()
    assert f"{WAITS}send-1m" in caplog.text
