"""TLS and tokens between real processes: who is let in, who is not, and what each is told."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import trio
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from edge_agent.session import PLAIN
from edge_agent.wire.subprotocol import encode_token
from tests.end_to_end.keys import (
    STORE,
    Keys,
    ask_people,
    edge_agent,
    files_that_hold,
    first_trouble,
    holds,
    numbers,
    sensor,
    upstream,
    wss,
)
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.patience import PATIENCE_S


async def test_records_travel_from_sensor_to_hub_under_lock_and_no_secret_is_written_anywhere(
    tmp_path: Path, keys: Keys
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE + keys.listen)
    agent = AgentProcess(
        tmp_path, "agent", STORE + keys.listen + upstream(hub, keys.ca, keys.secret_file("agent"))
    )
    # Everything that agent and libraries have to say goes into the files that are searched.
    hub.module = agent.module = ("edge_agent", "-vvv")
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(4, 7)))
    people = ("--url", f"http://127.0.0.1:{hub.http_port}", "--token-file")
    async with agents(hub, agent):
        async with sensor(wss(agent), keys) as (producer, told):
            await producer.send([{"n": n} for n in range(1, 4)])
        assert told == []
        sent = await run_command(
            "send", str(lines), "--url", wss(agent), "--ca-file", str(keys.ca),
            "--token-file", str(keys.secret_file("sensor")),
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
        await eventually(partial(holds, hub, 6), describe="six records at the hub")
        assert await numbers(hub) == [1, 2, 3, 4, 5, 6]

        reader = str(keys.secret_file("reader"))
        asked = await run_command("query", *people, reader, "--format", "ndjson")
        read = [json.loads(line)["fields"]["n"] for line in asked.stdout.splitlines()]
        assert read == [6, 5, 4, 3, 2, 1]
        status = await run_command("status", *people, reader, "--json")
        assert json.loads(status.stdout)["logs"][0]["last_seq"] == 6
        refused = partial(ask_people, hub.http_port, "/api/status", token=keys.secrets["agent"])
        assert (await trio.to_thread.run_sync(refused))[0] == 401

        shown = [
            await trio.to_thread.run_sync(ask_people, each.http_port, path)
            for each in (hub, agent)
            for path in ("/api/status", "/metrics", "/api/query", "/")
        ]
        assert [code for code, _ in shown] == [200] * 8
        assert await hub.stop() == await agent.stop() == 0
    for name, secret in keys.secrets.items():
        # What begins with it is a token, whoever's: none at all may stand there.
        assert files_that_hold(secret, tmp_path) == [], name
        assert files_that_hold(encode_token(secret), tmp_path) == [], name
        assert not any(secret in text for _, text in shown), name
        assert files_that_hold(secret, keys.folder) == [keys.secret_file(name)]
    assert "DEBUG" in (tmp_path / "hub" / "stderr.txt").read_text()


async def test_who_has_no_good_token_is_told_so_and_who_has_works_on(
    tmp_path: Path, keys: Keys
) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE + keys.listen)
    keys.add("leaver", "--write", "**")
    async with agents(hub), sensor(wss(hub), keys, source="pi/other") as (other, told):
        await other.send({"n": 0})
        wrong = await first_trouble(wss(hub), keys.ca, "ea1_" + "x" * 43)
        assert (wrong.kind, wrong.status) == ("refused", 401)
        assert wrong.message == "HTTP 401: The token is not known here, or was revoked."
        assert wrong.retry_in is not None and wrong.retry_in >= 0.05
        none = await first_trouble(wss(hub), keys.ca, None)
        assert none.message == "HTTP 401: This port needs a token: 'Authorization: Bearer TOKEN'."
        unwritable = await first_trouble(wss(hub), keys.ca, keys.secrets["reader"])
        assert (unwritable.status, unwritable.kind) == (403, "refused")

        guess = tmp_path / "guess.token"
        guess.write_text("ea1_guess\n")
        (tmp_path / "one.jsonl").write_text('{"n": 1}\n')
        sent = await run_command(
            "send", str(tmp_path / "one.jsonl"), "--url", wss(hub), "--ca-file", str(keys.ca),
            "--token-file", str(guess),
        )  # fmt: skip
        assert sent.returncode == 77
        assert "401: The token is not known here, or was revoked." in sent.stderr

        async with sensor(wss(hub), keys, token="leaver", source="pi/2") as (leaver, _):
            await leaver.send({"n": 2})
        await trio.to_thread.run_sync(
            edge_agent, "token", "revoke", "leaver", "--file", str(keys.tokens)
        )

        async def locked_out() -> bool:
            status, _, _ = await trio.to_thread.run_sync(knock, hub, keys, "leaver")
            return status == 401

        await eventually(locked_out, describe="the end of a revoked token")
        await other.send({"n": 3})
        await other.flush(PATIENCE_S)
        assert told == []
        assert await numbers(hub) == [0, 2, 3]


def knock(
    hub: AgentProcess, keys: Keys, token: str, path: str = "/ingest/greenhouse/1"
) -> tuple[int, str, str]:
    """Status, headers and body of the answer to an upgrade with a token as browsers send it."""
    offered = [Subprotocol(encode_token(keys.secrets[token])), Subprotocol(PLAIN)]
    target = f"wss://127.0.0.1:{hub.port}{path}"
    try:
        with connect(target, ssl=keys.context, subprotocols=offered) as socket:
            assert socket.response is not None
            assert socket.subprotocol == PLAIN
            return socket.response.status_code, str(socket.response.headers), ""
    except InvalidStatus as refused:
        answer = refused.response
        return answer.status_code, str(answer.headers), (answer.body or b"").decode()


async def test_a_token_for_some_streams_is_good_for_these_alone(tmp_path: Path, keys: Keys) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE + keys.listen)
    async with agents(hub):
        path = await first_trouble(wss(hub, "office/1"), keys.ca, keys.secrets["narrow"])
        assert path.status == 403
        assert path.message == "HTTP 403: The token does not allow writing 'office/1'."
        source = await first_trouble(wss(hub), keys.ca, keys.secrets["narrow"], "mars/1")
        assert source.code == "forbidden_source"
        assert "does not allow the source 'mars/1'" in source.message

        async with sensor(wss(hub), keys, "narrow") as (producer, told):
            await producer.send({"n": 1})
            await producer.send([{"n": 2, "stream": "office/1"}, {"n": 3}])
            await producer.send({"n": 4}, stream="greenhouse/2")
        # Refused for good, by its number, without an end of the connection.
        (nack,) = told
        assert (nack.kind, nack.code, nack.number) == ("nack", "forbidden_stream", 2)
        assert await numbers(hub) == [1, 3, 4]
        assert await numbers(hub, "office/**") == []
        assert (await hub.get("/api/status"))["store"]["quarantine_entries"] == 1


async def test_a_browsers_token_is_taken_and_not_echoed(tmp_path: Path, keys: Keys) -> None:
    hub = AgentProcess(tmp_path, "hub", STORE + keys.listen)
    secret = encode_token(keys.secrets["sensor"])

    def send_as_browsers_do(*offered: str) -> str:
        subprotocols = [Subprotocol(each) for each in offered]
        with connect(wss(hub) + "?ack=1", ssl=keys.context, subprotocols=subprotocols) as socket:
            assert socket.subprotocol == (PLAIN if PLAIN in offered else None)
            socket.send(json.dumps({"n": len(offered)}))
            assert json.loads(socket.recv(timeout=PATIENCE_S)) == {"ack": 1}
            assert socket.response is not None
            return str(socket.response.headers)

    async with agents(hub):
        for offered in ((secret,), (secret, PLAIN), (PLAIN, secret)):
            headers = await trio.to_thread.run_sync(send_as_browsers_do, *offered)
            assert "edge-agent.token" not in headers
        status, headers, body = await trio.to_thread.run_sync(knock, hub, keys, "reader")
        assert status == 403
        assert "does not allow writing" in body
        assert keys.secrets["reader"] not in headers + body
        assert "edge-agent.token" not in headers + body
        assert await numbers(hub) == [1, 2, 2]
