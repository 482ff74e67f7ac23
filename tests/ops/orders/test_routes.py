"""Orders over HTTP: a header, JSON, and errors that say what was expected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.config import Config, Http, Size, StoreConfig, Upstream
from edge_agent.security.tokens import Tokens, add_token
from edge_agent.store import Entry, Quarantined
from tests.ops.real import Agent, agent


async def post(
    running: Agent, target: str, order: Any, *headers: str, header: str = "Edge-Agent-Order: yes"
) -> tuple[int, Any]:
    """One order by hand; status and JSON."""
    body = order if isinstance(order, bytes) else json.dumps(order).encode()
    lines = [
        f"POST {target} HTTP/1.1",
        "Connection: close",
        f"Host: 127.0.0.1:{running.address[1]}",
        f"Content-Length: {len(body)}",
        header,
        *headers,
    ]
    stream = await trio.open_tcp_stream(*running.address)
    async with stream:
        await stream.send_all("\r\n".join([*filter(None, lines), "", ""]).encode() + body)
        answer = b"".join([piece async for piece in stream])
    head, _, told = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(told)


def config(folder: Path) -> Config:
    return Config(
        http=Http(address="127.0.0.1:0"),
        store=StoreConfig(path=str(folder), size=Size(16 << 20)),
        upstream=(Upstream(name="hub", url="ws://hub:1/forward"),),
    )


async def test_a_consumer_is_paused_and_shown_so(tmp_path: Path) -> None:
    async with agent(tmp_path, config=config(tmp_path)) as running:
        await running.keep("a/1", [1, 2])
        status, told = await post(running, "/api/consumers", {"order": "pause", "consumer": "hub"})
        assert status == 200 and told["consumers"][0]["paused"]
        (shown,) = (await running.json("/api/consumers"))["consumers"]
        assert shown["paused"] and shown["backlog"] == 2


async def test_quarantine_is_shown_replayed_and_dropped(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        items = [Quarantined("bad_time", "why", "a/1", "pi", 3, 10**18, b) for b in (b"5", b"\xff")]
        await (await running.log.append(Entry(quarantine=tuple(items)))).wait()
        first, second = (await running.json("/api/quarantine"))["entries"]
        assert first["body"] == {"text": "5"} and second["body"] == {"hex": "ff"}
        assert [
            one["number"] for one in (await running.json("/api/quarantine?after=1"))["entries"]
        ] == [2]
        assert len((await running.json("/api/quarantine?limit=1"))["entries"]) == 1
        _, told = await post(running, "/api/quarantine", {"order": "replay", "numbers": [1]})
        assert told["done"] == [{"number": 1, "done": True, "records": 1}]
        await post(running, "/api/quarantine", {"order": "drop"})
        assert (await running.json("/api/quarantine"))["entries"] == []


@pytest.mark.parametrize(
    "order, told",
    [
        (b"{", "bad_order"),
        ({"order": "explode", "consumer": "hub"}, "bad_order"),
        ({"order": "pause", "consumer": "hub", "more": 1}, "bad_order"),
        ({"order": "skip", "consumer": "hub", "to": "noon"}, "bad_query"),
        (b" " * 70_000, "bad_order"),
    ],
)
async def test_an_order_that_cannot_be_read_is_a_clear_error(
    tmp_path: Path, order: object, told: str
) -> None:
    async with agent(tmp_path, config=config(tmp_path)) as running:
        status, answer = await post(running, "/api/consumers", order)
        assert (status, answer["error"]["code"]) == (400, told)


async def test_what_cannot_be_done_is_409_with_the_reason(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        status, answer = await post(
            running, "/api/consumers", {"order": "pause", "consumer": "hub"}
        )
        assert status == 409 and "no consumer" in answer["error"]["message"]
        for number in (-1, 0, 2**64, 10**30):
            status, answer = await post(
                running, "/api/quarantine", {"order": "drop", "numbers": [number]}
            )
            assert status in (400, 409), number
        status, _, body = await running.get("/api/quarantine?limit=x")
        assert status == 400 and b"whole number" in body


async def test_without_the_header_or_from_another_page_no_order_is_taken(tmp_path: Path) -> None:
    drop = {"order": "drop"}
    async with agent(tmp_path) as running:
        status, answer = await post(running, "/api/quarantine", drop, header="")
        assert (status, answer["error"]["code"]) == (403, "no_order")
        status, _ = await post(running, "/api/quarantine", drop, "Origin: https://evil.example")
        assert status == 403
        status, _ = await post(running, "/api/status", drop)
        assert status == 405


async def test_with_tokens_an_order_needs_the_scope_admin_on_loopback_too(tmp_path: Path) -> None:
    reads = add_token(file := tmp_path / "tokens", "r", read=["**"])
    rules = add_token(file, "a", admin=True)
    tokens = Tokens(file)
    async with agent(tmp_path / "d", change=lambda s: replace(s, tokens=tokens)) as running:
        drop = {"order": "drop"}
        for headers in (
            (),
            (f"Authorization: Bearer {reads}",),
            (f"Authorization: Basic {rules}",),
        ):
            status, answer = await post(running, "/api/quarantine", drop, *headers)
            assert status == 401 and "admin" in answer["error"]["message"]
        status, _ = await post(running, "/api/quarantine", drop, f"Authorization: Bearer {rules}")
        assert status == 200
