"""What a reload cannot take up is named."""

from __future__ import annotations

import logging

import pytest

from edge_agent.assembly.next_start import NextStart, changed_keys
from edge_agent.config import Config, Listen, parse

RULE = '[[rule]]\nname = "mute"\nstreams = ["**"]\ndrop = ["x"]\n'
UPSTREAM = '[[upstream]]\nname = "hub"\nurl = "ws://hub:8765/forward"\n'


def config(text: str) -> Config:
    return parse(text, "agent.toml")


def take_up(listen: Listen) -> Listen:
    """Takes up hosts alone."""
    return Listen(hosts=listen.hosts)


def test_each_key_that_differs_is_named_and_no_other() -> None:
    old = config("")
    new = config('[listen]\naddress = "127.0.0.1:9000"\n[store]\nsize = "2GiB"\n')
    assert changed_keys(old, new) == ["listen.address", "store.size"]
    assert changed_keys(new, new) == []


def test_a_log_that_is_new_is_named() -> None:
    new = config('[log.main]\nkeep = "1d"\n[log.alarms]\nstreams = ["alarm/**"]\nshare = "10%"\n')
    assert {"log.main.keep", "log.alarms"} <= set(changed_keys(config(""), new))
    assert not [key for key in changed_keys(new, config("")) if key.startswith("log.alarms.")]


def test_what_is_taken_up_at_once_is_not_named() -> None:
    assert changed_keys(config(""), config(RULE + UPSTREAM)) == []


async def test_the_journal_names_them_once(caplog: pytest.LogCaptureFixture) -> None:
    waiting = NextStart(config(""), take_up)
    elsewhere = config('[listen]\naddress = "127.0.0.1:9000"\n')
    with caplog.at_level(logging.INFO):
        await (await waiting.prepare(config("")))()
        assert not caplog.records
        await (await waiting.prepare(elsewhere))()
        await (await waiting.prepare(elsewhere))()
        await (await waiting.prepare(config("")))()
    (told,) = [record.getMessage() for record in caplog.records]
    assert "at the next start" in told and told.endswith(": listen.address")


async def test_what_the_port_takes_up_is_told_as_such(caplog: pytest.LogCaptureFixture) -> None:
    waiting = NextStart(config(""), take_up)
    hosts = config('[listen]\nhosts = ["pi.lan"]\n')
    with caplog.at_level(logging.INFO):
        await (await waiting.prepare(hosts))()
        await (await waiting.prepare(hosts))()
    assert [record.getMessage() for record in caplog.records] == ["taken up: listen.hosts"]
