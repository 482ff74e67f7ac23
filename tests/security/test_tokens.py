"""The tokens file: secrets shown once, kept as hashes, followed while it changes."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from edge_agent.errors import ConfigError
from edge_agent.security import tokens as tokens_module
from edge_agent.security.tokens import Token, Tokens, add_token, list_tokens, revoke_token
from tests.patience import PATIENCE_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "tokens.json"


def test_a_token_is_found_by_its_secret_with_what_it_allows(path: Path) -> None:
    secret = add_token(path, "greenhouse", write=["greenhouse/**"], sources=["pi-*"[:3] + "7"])
    add_token(path, "hub", forward=True)
    token = Tokens(path).find(secret)
    assert token is not None
    assert token.name == "greenhouse"
    assert token.may_write("greenhouse/bme280")
    assert not token.may_write("cellar/bme280")
    assert token.may_be("pi-7")
    assert not token.may_be("pi-8")
    assert not token.forward


def test_the_secret_is_not_in_the_file(path: Path) -> None:
    secret = add_token(path, "a", admin=True)
    assert secret not in path.read_text()
    assert json.loads(path.read_text())["tokens"][0]["hash"].startswith("sha256:")


def test_a_new_file_can_be_read_by_its_owner_alone_and_one_that_is_there_stays_as_it_is(
    path: Path,
) -> None:
    add_token(path, "a")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    add_token(path, "b")
    assert path.stat().st_mode & 0o777 == 0o640


def test_nothing_is_left_beside_the_file(path: Path) -> None:
    add_token(path, "a")
    add_token(path, "b")
    assert [each.name for each in path.parent.iterdir()] == ["tokens.json"]


def test_an_unknown_secret_is_nobodys(path: Path) -> None:
    secret = add_token(path, "a", read=["**"])
    tokens = Tokens(path)
    assert tokens.find(secret + "x") is None
    assert tokens.find("") is None
    assert tokens.find("\udcff") is None


def test_a_name_can_be_used_once(path: Path) -> None:
    add_token(path, "a")
    with pytest.raises(ConfigError, match="name"):
        add_token(path, "a")
    with pytest.raises(ConfigError, match="printable"):
        add_token(path, "a\nb")


def test_a_wrong_pattern_is_refused_before_the_file_is_touched(path: Path) -> None:
    with pytest.raises(ConfigError, match="write"):
        add_token(path, "a", write=["a b"])
    assert not path.exists()


async def test_a_revoked_token_is_unknown_once_the_file_was_looked_at(path: Path) -> None:
    secret = add_token(path, "a", read=["**"])
    other = add_token(path, "b", read=["**"])
    tokens = Tokens(path)
    assert revoke_token(path, "a")
    assert not revoke_token(path, "a")
    assert tokens.find(secret) is not None
    await tokens.refresh()
    assert tokens.find(secret) is None
    assert tokens.find(other) is not None
    assert [token.name for token in list_tokens(path)] == ["b"]


async def test_a_file_that_becomes_unreadable_leaves_the_known_tokens_valid(path: Path) -> None:
    secret = add_token(path, "a", read=["**"])
    tokens = Tokens(path)
    known = tokens.find(secret)
    assert known is not None
    good = path.read_bytes()
    for broken in ("{", '{"version": 1}'):
        path.write_text(broken)
        await tokens.refresh()
        assert tokens.find(secret) is known and tokens.still_allows(known)
        assert tokens.trouble is not None
    path.unlink()
    await tokens.refresh()
    assert tokens.find(secret) is known and tokens.trouble is not None
    path.write_bytes(good)
    await tokens.refresh()
    assert tokens.find(secret) is known
    assert tokens.trouble is None


async def test_the_watch_tells_changes_within_a_second(
    path: Path, autojump_clock: trio.abc.Clock
) -> None:
    add_token(path, "a", read=["**"])
    looks = 0

    async def count(function: Callable[..., Any], *args: object) -> Any:
        nonlocal looks
        looks += 1
        await trio.lowlevel.checkpoint()
        return function(*args)

    tokens = Tokens(path, run_blocking=count)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tokens.watch)
        await trio.sleep(10.5)
        assert looks == 11
        secret = add_token(path, "b", read=["x"])
        with trio.fail_after(1):
            await tokens.changed()
        assert tokens.find(secret) is not None
        nursery.cancel_scope.cancel()


async def test_many_unknown_secrets_at_once_cost_one_look(
    path: Path, autojump_clock: trio.abc.Clock
) -> None:
    add_token(path, "a", read=["**"])
    looks = 0

    async def count(function: Callable[..., Any], *args: object) -> Any:
        nonlocal looks
        looks += 1
        await trio.sleep(0.01)
        return function(*args)

    tokens = Tokens(path, run_blocking=count)
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(tokens.refresh)
    assert looks <= 6


def test_what_a_changed_entry_still_allows() -> None:
    token = Token("a", "sha256:0", write=("x", "y/**"), forward=True)
    change = msgspec.structs.replace
    assert token.covers(token)
    assert change(token, write=("y/**", "z", "x"), admin=True, created="later").covers(token)
    assert not change(token, write=("x",)).covers(token)
    assert not change(token, forward=False).covers(token)
    assert not change(token, hash="sha256:1").covers(token)
    assert not change(token, name="b").covers(token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "tokens": []}',
        '{"version": 1, "tokens": [{"name": "a", "hash": "plain"}]}',
        '{"version": 1, "tokens": [{"name": "a", "hash": "sha256:0", "write": ["a b"]}]}',
        '{"version": 1, "tokens": [{"name": "a", "hash": "sha256:0", "wirte": []}]}',
    ],
)
def test_a_wrong_file_is_named_at_the_start(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"tokens\.json"):
        Tokens(path)


def test_a_missing_file_is_named_at_the_start(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokens\.json"):
        Tokens(path)
    assert list_tokens(path) == ()


def test_of_commands_at_once_none_undoes_another(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    names = [f"t{number}" for number in range(12)]
    for name in names:
        add_token(path, f"old {name}", read=["**"])
    commands: list[Callable[[], object]] = []
    for name in names:
        commands.append(partial(add_token, path, name, read=["**"]))
        commands.append(partial(revoke_token, path, f"old {name}"))
    with ThreadPoolExecutor(max_workers=len(commands)) as pool:
        for done in [pool.submit(command) for command in commands]:
            done.result(PATIENCE_S)
    assert sorted(token.name for token in list_tokens(path)) == sorted(names)


def test_a_command_does_not_wait_for_ever_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "TURN_S", 0.05)
    path = tmp_path / "tokens"
    add_token(path, "a", read=["**"])
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with pytest.raises(ConfigError, match="another command at work"):
            revoke_token(path, "a")
    finally:
        os.close(folder)
    assert revoke_token(path, "a")


async def test_a_file_that_is_half_written_changes_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    secret = add_token(path, "a", read=["**"])
    tokens, whole = Tokens(path), path.read_bytes()
    with caplog.at_level(logging.INFO):
        for length in range(0, len(whole) - 2, 7):
            path.write_bytes(whole[:length])
            await tokens._look()
            assert tokens.find(secret) is not None and tokens.trouble
        path.write_bytes(whole)
        await tokens._look()
    assert tokens.find(secret) is not None and tokens.trouble is None
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "known last stay valid" in told[0] and "again" in told[1]


def test_what_may_do_more_than_write_may_not_stand_in_a_url(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    for more in ({"read": ("**",)}, {"forward": True}, {"admin": True}):
        with pytest.raises(ConfigError, match="in_url: expected write alone"):
            add_token(file, "a", write=("**",), in_url=True, **more)
    with pytest.raises(ConfigError, match="in_url"):
        add_token(file, "a", in_url=True)
