"""Last uses of tokens: who, from where, and how seldom the store hears of it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from edge_agent import agent as agent_module
from edge_agent.agent import Running
from edge_agent.cli import main
from edge_agent.config import load_config
from edge_agent.ops import Sources
from edge_agent.security import token_uses
from edge_agent.security.token_uses import (
    TOKENS_MAX,
    TokenUse,
    TokenUses,
    decode,
    encode,
    noted_uses,
)
from edge_agent.security.tokens import Tokens, add_token
from edge_agent.system.clock import SystemClock
from tests.forward.support import until
from tests.ops.real import agent


def test_a_note_is_read_as_it_was_written_and_one_that_is_none_is_nothing() -> None:
    uses = decode(encode(decode(None) | {"a": TokenUse(5, "192.0.2.7"), "b": TokenUse(0, "")}))
    assert list(uses.items()) == [("a", TokenUse(5, "192.0.2.7")), ("b", TokenUse(0, ""))]
    endless = b"\x91\x93\xa1a\xca\x7f\x80\x00\x00\xa0"
    for junk in (b"", b"\xc1", b"\x91\x01", b"\x91\x91\xa1a", b"\x80", endless):
        assert not decode(junk)


async def test_the_store_hears_of_it_once_an_hour_and_only_of_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_uses, "NOTE_S", 0.01)
    async with agent(tmp_path, serve=False) as running:
        uses = TokenUses(running.log, running.clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(uses.run)
            await trio.sleep(0.05)
            assert not running.metrics.get("commits_total")
            for _ in range(1000):
                uses.note("oven", "192.0.2.7")
            # It rides on whatever is committed next.
            while "oven" not in await noted_uses(running.log):
                await running.keep("a/1", [1])
            commits = running.metrics.get("commits_total")
            await trio.sleep(0.1)
            assert running.metrics.get("commits_total") == commits
            nursery.cancel_scope.cancel()
        # The next run knows it; a use of its own is newer.
        again = TokenUses(running.log, running.clock, lambda: [("tv", "::1")])
        again.note("oven", "192.0.2.8")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run)
            await until(lambda: again.now()["oven"].address == "192.0.2.8" and "tv" in again.now())
            nursery.cancel_scope.cancel()


async def test_names_are_bounded_and_a_clock_that_is_not_set_says_no_time(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        running.clock.step_wall(5, synced=False)
        uses = TokenUses(running.log, running.clock)
        for number in range(TOKENS_MAX + 5):
            uses.note(str(number), "")
        assert len(uses.now()) == TOKENS_MAX and "4" not in uses.now()
        assert uses.now()["5"].when_ns == 0
        assert len(encode(uses.now())) < 100_000


def test_list_asks_the_agent_that_runs_and_the_store_of_one_that_does_not(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    sensor = add_token(tokens, "oven", write=("**",), sources=("**",))
    owner = add_token(tokens, "me", admin=True)
    add_token(tokens, "spare", read=("**",))
    file = tmp_path / "agent.toml"
    file.write_text(
        f'listen = {{address = "127.0.0.1:0", tokens = "{tokens}"}}\n'
        'http.address = "127.0.0.1:0"\n'
        f'store = {{path = "{tmp_path}/data", size = "16MiB"}}\n'
    )

    def listed(*where: str) -> dict[str, tuple[str | None, str | None]]:
        words = ["token", "list", "--config", str(file), "--json", *where]
        done = CliRunner().invoke(main, words, env={"EDGE_AGENT_TOKEN": owner})
        assert done.exit_code == 0 and sensor not in done.stdout and "hash" not in done.stdout
        rows = json.loads(done.stdout)
        return {one["name"]: (one["last_used"], one["last_from"]) for one in rows}

    async def post(address: str) -> None:
        host, port = address.rsplit(":", 1)
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            head = f"POST /ingest/a/1 HTTP/1.1\r\nHost: {address}\r\nContent-Length: 7\r\n"
            head += f"Authorization: Bearer {sensor}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + b'{"t":5}')
            answer = b"".join([piece async for piece in stream])
        assert answer.startswith(b"HTTP/1.1 200")

    async def live() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            run = partial(agent_module.run, load_config(file, env={}, overrides={}), stop=stop)
            running: Running = await nursery.start(run)
            await post(running.sensor_addresses[0])
            assert running.http_address is not None
            # By its URL: in one process the store's lock is no lock.
            where = ("--url", f"http://{running.http_address}")
            shown = await trio.to_thread.run_sync(listed, *where)
            assert shown["oven"][1] == "127.0.0.1" and shown["spare"] == (None, None)
            # Asking is a use, too.
            assert shown["me"][1] == "127.0.0.1"
            stop.set()

    trio.run(live)
    assert listed()["oven"][1] == "127.0.0.1"
    if SystemClock().read().synced:
        assert listed()["oven"][0] is not None
    done = CliRunner().invoke(main, ["token", "list", "--config", str(file)])
    assert " from 127.0.0.1  write ** as **" in done.stdout
    # How wide a column is depends on whether this machine's clock is set.
    assert "spare - no use noted read **" in " ".join(done.stdout.split())
    # What there is to list does not depend on who could be asked.
    file.write_text("nonsense = 1")
    words = ["token", "list", "--config", str(file), "--file", str(tokens)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0
    assert "spare - unknown read **" in " ".join(done.stdout.split())
    assert "is not known:" in done.stderr and "nonsense" in done.stderr


async def test_who_may_not_order_is_not_told(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    reader, owner = (
        add_token(tokens, name, read=("**",), admin=name == "owner") for name in ("reader", "owner")
    )

    def with_them(sources: Sources) -> Sources:
        return replace(sources, tokens=Tokens(tokens), uses=TokenUses(sources.log, sources.clock))

    async with agent(tmp_path, change=with_them) as running:
        status, _, body = await running.get("/api/tokens", f"Authorization: Bearer {reader}")
        assert status == 403 and b"reader" not in body
        told = await running.json("/api/tokens", f"Authorization: Bearer {owner}")
        assert [one["name"] for one in told["tokens"]] == ["owner", "reader"]
