"""Listening off loopback: never without TLS and tokens, and with both also for people."""

from __future__ import annotations

import json
import signal
import socket
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.end_to_end.keys import (
    STORE,
    Keys,
    ask_people,
    edge_agent,
    sensor,
    sentence,
    serial_of,
    serial_shown,
    wss,
)
from tests.end_to_end.support import AgentProcess, eventually, run_command
from tests.patience import PATIENCE_S


def open_agent(folder: Path, keys: Keys) -> AgentProcess:
    """An agent that listens on every interface, and so with TLS on its people's port too."""
    agent = AgentProcess(folder, "open", STORE + keys.listen)
    agent.host = "0.0.0.0"
    return agent


@pytest.mark.parametrize("has", ["nothing", "tokens", "tls"])
async def test_off_loopback_an_agent_without_both_does_not_start(
    tmp_path: Path, keys: Keys, has: str
) -> None:
    tokens = f'[listen]\ntokens = "{keys.tokens}"\n'
    tls = keys.listen.partition("tokens")[0]
    (tmp_path / "config.toml").write_text({"nothing": "", "tokens": tokens, "tls": tls}[has])
    done = await run_command(
        "run", "--config", str(tmp_path / "config.toml"), "--data", str(tmp_path / "data"),
        "--listen", "0.0.0.0:0", "--http", "off",
    )  # fmt: skip
    assert done.returncode == 78
    lacks = {"nothing": "TLS and tokens", "tokens": "TLS", "tls": "tokens"}[has]
    assert f'"0.0.0.0:0" without {lacks}. Fix:' in done.stderr
    assert "edge-agent tls init" in done.stderr
    assert "edge-agent token add" in done.stderr
    assert not (tmp_path / "data").exists()


async def test_off_loopback_with_both_it_starts_and_people_need_a_token_too(
    tmp_path: Path, keys: Keys
) -> None:
    agent = open_agent(tmp_path, keys)
    ask = partial(ask_people, agent.http_port, context=keys.context)
    try:
        await agent.start(wait=False)

        async def healthy() -> bool:
            return (await trio.to_thread.run_sync(ask, "/healthz"))[0] == 200

        await eventually(healthy, describe=agent.output())
        # It really is the wildcard: another address of this machine answers, too.
        with trio.fail_after(PATIENCE_S):
            await (await trio.open_tcp_stream("127.0.0.2", agent.port)).aclose()
        async with sensor(wss(agent), keys) as (producer, told):
            await producer.send({"n": 1})
        assert told == []
        for path in ("/api/status", "/api/query", "/api/streams", "/metrics"):
            code, text = await trio.to_thread.run_sync(ask, path)
            assert code == 401, path
            assert "a token with the scope read is needed" in text
        answered = partial(ask, "/api/query")
        for name in ("sensor", "agent"):
            code, text = await trio.to_thread.run_sync(partial(answered, token=keys.secrets[name]))
            assert (code, sentence(text)) == (401, "this token is not known, or may not read")
        code, text = await trio.to_thread.run_sync(partial(answered, token=keys.secrets["reader"]))
        assert code == 200
        assert [record["fields"] for record in json.loads(text)["records"]] == [{"n": 1}]
        read = await run_command(
            "query", "--url", f"https://127.0.0.1:{agent.http_port}", "--ca-file", str(keys.ca),
            "--token-file", str(keys.secret_file("reader")), "--format", "ndjson",
        )  # fmt: skip
        assert json.loads(read.stdout)["fields"] == {"n": 1}
        # Without TLS nothing is answered there that a listener on the way could use: that it is
        # the wrong way to ask.
        said = await trio.to_thread.run_sync(speaks_plainly, agent.http_port)
        assert said.startswith(b"HTTP/1.1 400 ") and b"This port speaks TLS: " in said
        assert b"fields" not in said and len(said) < 500
        assert await agent.stop() == 0
    finally:
        if agent.process is not None:
            await agent.kill()


async def test_the_peoples_port_shows_a_renewed_certificate_too(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path / "keys")
    keys.add("sensor", "--write", "**")
    certificate = keys.folder / "tls" / "server.pem"
    first = serial_of(certificate)
    agent = open_agent(tmp_path, keys)

    async def shows(port: int, serial: str) -> bool:
        return await trio.to_thread.run_sync(serial_shown, port, keys) == serial

    try:
        await agent.start(wait=False)
        ports = (agent.port, agent.http_port)
        for port in ports:
            await eventually(partial(shows, port, first), describe=agent.output())
        edge_agent("tls", "init", str(keys.folder / "tls"))
        assert agent.process is not None and serial_of(certificate) != first
        agent.process.send_signal(signal.SIGHUP)
        for port in ports:
            renewed = partial(shows, port, serial_of(certificate))
            await eventually(renewed, describe=f"the new certificate at {port}")
    finally:
        if agent.process is not None:
            await agent.kill()


def speaks_plainly(port: int) -> bytes:
    """What a TLS port says to a request without TLS, but for TLS's own alert."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
        plain.sendall(b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        said = b""
        try:
            while data := plain.recv(4096):
                said += data
        except ConnectionResetError:
            pass
    return said if said[:1] != b"\x15" else b""
