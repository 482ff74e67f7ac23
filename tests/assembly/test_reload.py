"""The configuration is read once for each SIGHUP, and taken up by all parts or by none."""

from __future__ import annotations

from functools import partial

import pytest

from edge_agent.assembly.reload import ConfigReload, Prepare, TakeUp
from edge_agent.config import Config, parse
from edge_agent.errors import ConfigError
from edge_agent.security import audit
from tests.waist import inline


class Reloading:
    """A configuration's text, parts that take it up, and what the audit says."""

    def __init__(self, text: str) -> None:
        self.text, self.reads = text, 0
        self.taken: list[Config] = []

    def read(self) -> Config:
        self.reads += 1
        return parse(self.text, "agent.toml")

    async def take_all(self, config: Config) -> TakeUp:
        return partial(self._take, config, "")

    async def take_in_part(self, config: Config) -> TakeUp:
        return partial(self._take, config, "listen.address at the next start alone")

    async def refuse(self, config: Config) -> TakeUp:
        raise ConfigError("rule.h.hook", "a function that can be imported", "none")

    async def _take(self, config: Config, stays: str) -> str:
        self.taken.append(config)
        return stays

    async def again(self, *more: Prepare) -> None:
        parts = (self.take_all, self.take_in_part, *more)
        await ConfigReload(self.read, inline, *parts).again()


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []

    def keep(_: str, fields: dict[str, str]) -> bool:
        told.append(fields["outcome"])
        return True

    monkeypatch.setattr(audit, "_to_journal", keep)
    return told


async def test_all_parts_take_up_what_was_read_once(outcomes: list[str]) -> None:
    one = Reloading('[listen]\nhosts = ["pi.lan"]\n')
    await one.again()
    assert one.reads == 1
    assert [config.listen.hosts for config in one.taken] == [("pi.lan",)] * 2
    assert outcomes == ["in part: listen.address at the next start alone"]


async def test_where_one_part_refuses_none_takes_anything_up(
    caplog: pytest.LogCaptureFixture, outcomes: list[str]
) -> None:
    one = Reloading('[listen]\nhosts = ["pi.lan"]\n')
    await one.again(one.refuse)
    assert not one.taken
    assert "stays as it was, all of it: rule.h.hook" in caplog.text
    (outcome,) = outcomes
    assert outcome.startswith("the configuration stays as it was: rule.h.hook")


@pytest.mark.parametrize("bad", ["[[rule]]", "[listen", '[[upstream]]\nname = "hub"\n'])
async def test_a_mistake_is_told_once_and_no_part_sees_it(
    bad: str, caplog: pytest.LogCaptureFixture, outcomes: list[str]
) -> None:
    one = Reloading(bad)
    await one.again()
    assert not one.taken
    (told,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert told.startswith("the configuration stays as it was, all of it: ")
    assert "agent.toml" in told
    (outcome,) = outcomes
    assert outcome.startswith("the configuration stays as it was: ")


async def test_without_a_way_to_read_it_again_only_files_are(outcomes: list[str]) -> None:
    one = Reloading("")
    await ConfigReload(None, inline, one.take_all).again()
    assert not one.taken and outcomes == ["done"]
