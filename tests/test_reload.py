"""The configuration is read once for each SIGHUP, and handed to all parts."""

from __future__ import annotations

import pytest

from edge_agent import audit
from edge_agent.config import Config, parse
from edge_agent.reload import ConfigReload
from tests.waist import inline


class Reloading:
    """A configuration's text, two parts that are handed it, and what the audit says."""

    def __init__(self, text: str) -> None:
        self.text, self.reads = text, 0
        self.handed: list[Config] = []

    def read(self) -> Config:
        self.reads += 1
        return parse(self.text, "agent.toml")

    async def take_up(self, config: Config) -> str:
        self.handed.append(config)
        return ""

    async def stay(self, config: Config) -> str:
        self.handed.append(config)
        return "no such hook"

    async def again(self) -> None:
        await ConfigReload(self.read, inline, self.take_up, self.stay).again()


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []

    def keep(_: str, fields: dict[str, str]) -> bool:
        told.append(fields["outcome"])
        return True

    monkeypatch.setattr(audit, "_to_journal", keep)
    return told


async def test_all_parts_are_handed_what_was_read_once(outcomes: list[str]) -> None:
    one = Reloading('[listen]\nhosts = ["pi.lan"]\n')
    await one.again()
    assert one.reads == 1
    assert [config.listen.hosts for config in one.handed] == [("pi.lan",)] * 2
    assert outcomes == ["in part: no such hook"]


@pytest.mark.parametrize("bad", ["[[rule]]", "[listen", '[[upstream]]\nname = "hub"\n'])
async def test_a_mistake_is_told_once_and_no_part_sees_it(
    bad: str, caplog: pytest.LogCaptureFixture, outcomes: list[str]
) -> None:
    one = Reloading(bad)
    await one.again()
    assert not one.handed
    (told,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert told.startswith("the configuration stays as it was: ") and "agent.toml" in told
    (outcome,) = outcomes
    assert outcome.startswith("in part: ")


async def test_without_a_way_to_read_it_again_only_files_are(outcomes: list[str]) -> None:
    one = Reloading("")
    await ConfigReload(None, inline, one.take_up).again()
    assert not one.handed and outcomes == ["done"]
