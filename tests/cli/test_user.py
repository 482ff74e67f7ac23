"""Whose agent it is."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from edge_agent.cli.user import agent_user, look_at_start
from edge_agent.config import Config, StoreConfig
from tests.other_user import UID


def test_a_user_that_there_is_not_is_a_wrong_word() -> None:
    with pytest.raises(click.UsageError, match="no user"):
        agent_user(Config(), "nobody-of-that-name")
    found = agent_user(Config(), "0")
    assert found is not None and found.pw_uid == 0


@pytest.mark.needs("root")
def test_root_takes_the_owner_of_the_stores_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, UID, UID)
    found = agent_user(Config(store=StoreConfig(path=str(tmp_path))))
    assert found is not None and found.pw_uid == UID


@pytest.mark.needs("root")
def test_a_start_is_looked_at_as_that_user(tmp_path: Path) -> None:
    user = agent_user(Config(), str(UID))
    # pytest's folder is root's alone.
    refused, _ = look_at_start(None, str(tmp_path / "data"), user)
    assert len(refused) == 1 and "store.path" in refused[0]
    assert look_at_start(None, str(tmp_path / "data"), None)[0] == []
    assert os.geteuid() == 0
