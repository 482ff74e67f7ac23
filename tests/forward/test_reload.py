"""Upstreams that are read again on SIGHUP."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.config import parse
from edge_agent.errors import ConfigError
from edge_agent.forward.reload import UpstreamReload, changes
from tests.forward.support import running_station
from tests.forward.test_upstreams import Several

HUB = '[[upstream]]\nname = "hub"\nurl = "ws://hub:1/forward"\n'
CLOUD = '[[upstream]]\nname = "cloud"\nurl = "ws://cloud:1/forward"\n'


class Reloading:
    """A configuration's text that changes, and the upstreams that should follow it."""

    def __init__(self, several: Several, text: str) -> None:
        self.several, self.text = several, text
        self.reload = UpstreamReload(parse(text, "x"), several.upstreams)

    async def again(self) -> None:
        await (await self.reload.prepare(parse(self.text, "agent.toml")))()

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.several.upstreams.configured]


@asynccontextmanager
async def reloading(path: Path, text: str) -> AsyncIterator[Reloading]:
    async with running_station(path) as station, trio.open_nursery() as nursery:
        several = Several(station)
        nursery.start_soon(several.upstreams.run)
        await trio.testing.wait_all_tasks_blocked()
        one = Reloading(several, "")
        one.text = text
        await one.again()
        yield one
        several.upstreams.stop()


async def test_upstreams_come_change_and_go_with_the_file_and_the_journal_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with reloading(tmp_path, HUB) as one:
        assert one.names == ["hub"] and "upstream hub is new" in caplog.text
        caplog.clear()
        await one.again()
        assert not caplog.records
        one.text = HUB.replace("hub:1", "hub:2") + 'streams = ["a/**"]\n' + CLOUD
        await one.again()
        assert one.names == ["hub", "cloud"]
        assert "hub goes on from where it was, with another url, streams" in caplog.text
        one.text = CLOUD
        await one.again()
        assert one.names == ["cloud"] and "upstream hub is not configured any more" in caplog.text


async def test_a_log_that_is_new_is_refused_and_leaves_the_old_upstreams(tmp_path: Path) -> None:
    async with reloading(tmp_path, HUB) as one:
        one.text = HUB + '[log.new]\nshare = "10%"\n' + CLOUD + 'logs = ["new"]'
        with pytest.raises(ConfigError, match="started with"):
            await one.again()
        assert one.names == ["hub"]


async def test_means_that_no_rule_makes_yet_are_refused_and_so_are_the_others(
    tmp_path: Path,
) -> None:
    async with reloading(tmp_path, HUB) as one:
        one.text = HUB + 'send = "1m means"\n' + CLOUD
        with pytest.raises(ConfigError, match="restart edge-agent takes it up"):
            await one.again()
        assert one.names == ["hub"]


def test_the_keys_that_differ_are_named() -> None:
    (old,) = parse(HUB, "x").upstream
    (new,) = parse(HUB + 'token_file = "/t"\nrequired = false', "x").upstream
    assert changes(old, new) == ["token_file", "required"]
