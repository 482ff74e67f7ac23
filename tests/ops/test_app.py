"""The routes over real HTTP, with a real store behind them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.config import Config, Http, Limits, Listen, Size, StoreConfig
from edge_agent.live import AlarmOn
from edge_agent.ops import Sources
from edge_agent.security.tokens import Tokens, add_token
from edge_agent.store import Block, Gap
from tests.ops.pictures import CONNECTION, UPSTREAM
from tests.ops.real import Agent, agent
from tests.patience import PATIENCE_S, receive_until


def with_tokens(sources: Sources, file: Path) -> Sources:
    return replace(
        sources,
        tokens=Tokens(file),
        connections=lambda: [CONNECTION, replace(CONNECTION, stream="attic/1")],
        alarms=lambda: [
            AlarmOn("hot", "t above 30", stream, 10**18, 31.5)
            for stream in ("attic/1", "greenhouse/2")
        ],
    )


async def test_what_was_kept_is_in_status_streams_metrics_and_on_the_page(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        await running.keep("greenhouse/2", [21.5, 21.6, 21.7], "pi-7/bme280")
        with trio.fail_after(PATIENCE_S):
            while len(running.watch.directory) == 0:
                await trio.sleep(0.01)
        running.clock.advance(12)
        status = await running.json("/api/status")
        assert status["logs"][0]["records"] == 3
        assert status["figures"]["since_start"]["received"]["records_per_s"] == 0.25
        assert status["health"]["status"] == "ok"
        assert status["streams"] == {"seen": 1, "forgotten": 0, "undated": 1}
        (stream,) = (await running.json("/api/streams"))["streams"]
        assert stream == {
            "stream": "greenhouse/2",
            "log": "main",
            "records": 3,
            "last_seq": 3,
            "last_stored": "2026-11-22T10:00:00Z",
            "source": "pi-7/bme280",
            "undated": "no time key: dated on arrival",
            "rate": stream["rate"],
            "time": "2026-11-22T10:00:00Z",
            "time_quality": "synced",
            "last": {"t": 21.7},
            "words": {},
            "spark_field": "t",
            "spark": [21.7],
        }
        assert 0 < stream["rate"] <= 3
        _, _, text = await running.get("/metrics")
        families = list(text_string_to_metric_families(text.decode()))
        samples = {sample.name: sample.value for one in families for sample in one.samples}
        assert samples["edge_agent_records_committed_total"] == 3
        assert samples["edge_agent_log_last_seq"] == 3
        _, head, page = await running.get("/")
        assert b"greenhouse/2" in page and "content-security-policy" in head.lower()


async def _kept(running: Agent, *streams: str) -> list[Block | Gap]:
    for stream in streams:
        await running.keep(stream, [1])
    return await running.log.read("main", 0)


async def test_streams_can_be_narrowed_by_a_pattern(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        for item in await _kept(running, "a/1", "b/1"):
            running.watch.directory.note(item)
        listing = await running.json("/api/streams?stream=b/*")
        assert [one["stream"] for one in listing["streams"]] == ["b/1"]


async def test_health_is_200_while_the_agent_keeps_and_503_when_it_cannot(tmp_path: Path) -> None:
    def with_upstream_away(sources: Sources) -> Sources:
        away = replace(UPSTREAM, connected=False, error="connection refused")
        return replace(sources, upstreams=lambda: [away])

    async with agent(tmp_path, change=with_upstream_away) as running:
        status, _, body = await running.get("/healthz")
        verdict = json.loads(body)
        assert (status, verdict["status"]) == (200, "degraded")
        assert verdict["reasons"][0]["code"] == "upstream_offline"
        running.watch.commit_waits_s = lambda: 90.0  # type: ignore[method-assign]  # a card that hangs
        status, _, body = await running.get("/healthz")
        assert (status, json.loads(body)["status"]) == (503, "failed")


async def test_a_query_answers_as_json_lines_and_csv(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        await running.keep("a/1", list(range(600)))
        await running.keep("b/1", ["x,y"])
        whole = await running.json("/api/query?stream=a/*&limit=1000")
        assert [one["fields"]["t"] for one in whole["records"]] == list(range(600))
        assert (whole["truncated"], whole["next"]) == (False, None)
        part = await running.json("/api/query?limit=10")
        assert len(part["records"]) == 10 and part["truncated"] and part["next"] == "main:11"
        _, head, body = await running.get("/api/query?limit=1000&format=ndjson")
        assert len(body.splitlines()) == 601 and "application/x-ndjson" in head
        _, head, body = await running.get("/api/query?stream=b/1&format=csv")
        rows = list(csv.DictReader(io.StringIO(body.decode())))
        assert rows[0]["t"] == "x,y" and rows[0]["stream"] == "b/1"
        aggregate = await running.json("/api/query?stream=a/*&aggregate=t")
        assert aggregate["aggregates"]["a/1"]["mean"] == 299.5
        _, _, body = await running.get("/api/query?stream=a/*&aggregate=t&format=csv")
        assert body.decode().splitlines()[1].startswith("a/1,600,0,599,299.5")
        _, _, body = await running.get("/api/query?stream=a/*&aggregate=t&format=ndjson")
        assert json.loads(body)["count"] == 600


@pytest.mark.parametrize(
    "target,expected",
    [
        ("/api/query?limit=never", (400, "bad_query")),
        ("/api/query?format=xml", (400, "bad_query")),
        ("/api/query?colour=red", (400, "bad_query")),
        ("/api/query?stream=a*b", (400, "bad_query")),
        ("/api/streams?stream=a*b", (400, "bad_pattern")),
        ("/api/subscribe?from=noon", (400, "bad_query")),
        ("/api/subscribe?filter=((", (400, "bad_query")),
        ("/api/subscribe?colour=red", (400, "bad_query")),
        ("/api/subscribe?step=0s", (400, "bad_query")),
        ("/api/subscribe?fields=,", (400, "bad_query")),
        ("/nowhere", (404, "not_found")),
    ],
)
async def test_a_question_that_cannot_be_answered_says_why(
    tmp_path: Path, target: str, expected: tuple[int, str]
) -> None:
    async with agent(tmp_path) as running:
        status, _, body = await running.get(target)
        error = json.loads(body)["error"]
        assert (status, error["code"]) == expected and len(error["message"]) > 10


async def test_methods_that_change_things_are_not_known_here(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        status, head, _ = await running.get("/api/status", method="DELETE")
        assert status == 405 and "allow: get, head" in head.lower()
        status, _, body = await running.get("/api/status", method="HEAD")
        assert (status, body) == (200, b"")
        assert (await running.get("/api/subscribe", method="HEAD"))[0] == 200


async def test_foreign_names_and_origins_are_refused_before_any_route(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        for header in ("Host: evil.example", "Origin: https://evil.example"):
            for target in ("/", "/api/status", "/metrics", "/healthz", "/nowhere"):
                status, _, body = await running.get(target, header)
                assert (status, json.loads(body)["error"]["code"][:8]) == (403, "foreign_")


async def test_a_listed_origin_may_ask_with_a_token(tmp_path: Path) -> None:
    config = Config(
        http=Http(address="127.0.0.1:0", origins=("https://board.lan",)),
        store=StoreConfig(path=str(tmp_path), size=Size(16 << 20)),
    )
    async with agent(tmp_path, config=config) as running:
        origin = "Origin: https://board.lan"
        status, head, _ = await running.get("/api/status", origin)
        assert status == 200 and "access-control-allow-origin: https://board.lan" in head.lower()
        status, head, _ = await running.get("/api/status", origin, method="OPTIONS")
        assert status == 204 and "access-control-allow-headers: authorization" in head.lower()
        status, head, _ = await running.get("/api/status")
        assert "access-control" not in head.lower()


async def test_off_loopback_a_token_opens_its_own_streams_and_nothing_opens_without(
    tmp_path: Path,
) -> None:
    config = Config(
        listen=Listen(insecure=True),
        http=Http(address="0.0.0.0:0"),
        store=StoreConfig(path=str(tmp_path), size=Size(16 << 20)),
    )
    secret = add_token(file := tmp_path / "tokens", "g", read=["greenhouse/**"])
    change = partial(with_tokens, file=file)
    async with agent(tmp_path, config=config, change=change) as running:
        running.address = ("127.0.0.1", running.address[1])
        await running.keep("greenhouse/1", [1])
        await running.keep("attic/1", [2])
        for target in ("/api/status", "/api/query", "/api/streams", "/api/subscribe", "/metrics"):
            status, head, body = await running.get(target)
            assert (status, json.loads(body)["error"]["code"]) == (401, "token_needed")
            assert "www-authenticate: bearer" in head.lower()
        assert (await running.get("/healthz"))[0] == 200
        status, _, page = await running.get("/")
        assert status == 200 and b"<form" in page and b"main" in page
        assert b"greenhouse" not in page.replace(b"greenhouse/**", b"")
        assert (await running.get("/api/status", "Authorization: Bearer bad"))[0] == 401
        good = f"Authorization: Bearer {secret}"
        found = await running.json("/api/query", good)
        assert [one["stream"] for one in found["records"]] == ["greenhouse/1"]
        status_ = await running.json("/api/status", good)
        assert [one["stream"] for one in status_["connections"]] == ["greenhouse/2"]
        assert status_["alarms"] == [
            {
                "rule": "hot", "meaning": "t above 30", "stream": "greenhouse/2",
                "since": "2001-09-09T01:46:40Z", "value": 31.5,
            }
        ]  # fmt: skip
        told = json.dumps(await running.json("/healthz"))
        assert "Alarm hot is on for 2 streams" in told and "attic" not in told
        assert b"attic" not in (await running.get("/", good))[2]


async def test_metrics_show_last_values_of_exposed_streams_that_the_token_may_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tokens"
    secret = add_token(file, "phone", read=("greenhouse/**",))
    config = Config(
        http=Http(address="127.0.0.1:0", expose=("**",)),
        store=StoreConfig(path=str(tmp_path / "store"), size=Size(16 << 20)),
    )
    change = partial(with_tokens, file=file)
    async with agent(tmp_path / "store", config=config, change=change) as running:
        await running.keep("greenhouse/1", [21.5])
        await running.keep("attic/1", [9])
        with trio.fail_after(PATIENCE_S):
            while len(running.watch.directory) < 2:
                await trio.sleep(0.01)
        _, _, text = await running.get("/metrics")
        assert b'stream="greenhouse/1"} 21.5' in text and b'stream="attic/1"} 9.0' in text
        _, _, text = await running.get("/metrics", f"Authorization: Bearer {secret}")
        assert b'stream="greenhouse/1"} 21.5' in text and b"attic" not in text


async def test_records_arrive_live_as_lines_of_json(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        stream = await trio.open_tcp_stream(*running.address)
        async with stream:
            host = f"127.0.0.1:{running.address[1]}"
            await stream.send_all(
                f"GET /api/subscribe?stream=a/** HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            )
            # The head and the first, empty line.
            received = await receive_until(stream, b"\r\n\r\n1\r\n\n\r\n")
            await running.keep("b/1", [1])
            await running.keep("a/1", [2])
            received += await receive_until(stream, b'"t":2')
            assert b'"b/1"' not in received and running.metrics.get("subscriptions") == 1
        with trio.fail_after(PATIENCE_S):  # the view ends with its reader
            while running.metrics.get("subscriptions"):
                await trio.sleep(0.01)


async def test_a_browser_that_comes_back_goes_on_behind_the_event_that_it_has(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path) as running:
        for value in range(4):
            await running.keep("a/1", [value])
        stream = await trio.open_tcp_stream(*running.address)
        async with stream:
            lines = (
                "GET /api/subscribe HTTP/1.1",
                f"Host: 127.0.0.1:{running.address[1]}",
                "Accept: text/event-stream",
                "Last-Event-ID: main:2",
            )
            await stream.send_all(("\r\n".join(lines) + "\r\n\r\n").encode())
            received = await receive_until(stream, b"id: main:4\n")
        assert b"text/event-stream" in received
        assert b"id: main:3\ndata: {" in received and b"id: main:2" not in received


async def test_a_view_with_a_step_sends_events_with_how_many_each_stands_for(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path) as running:
        await running.keep("a/1", [1, 2, 3])
        stream = await trio.open_tcp_stream(*running.address)
        async with stream:
            target = "/api/subscribe?from=main:1&step=100ms&fields=t&format=sse"
            host = f"127.0.0.1:{running.address[1]}"
            await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            received = await receive_until(stream, b'"count":3}\n\n')
        assert b'"fields":{"t":3},' in received
        assert b"id: main:3\ndata: {" in received and received.count(b"id: ") == 1


async def test_too_many_questions_at_one_time_wait_for_their_turn(tmp_path: Path) -> None:
    limits = Limits(queries=1)
    config = Config(
        http=Http(address="127.0.0.1:0"),
        store=StoreConfig(path=str(tmp_path), size=Size(16 << 20)),
        limits=limits,
    )
    async with agent(tmp_path, config=config) as running:
        await running.keep("a/1", list(range(100)))
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await running.json("/api/query"))

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(ask)
        assert [len(answer["records"]) for answer in answers] == [100] * 8
        assert running.metrics.get("queries_total") == 8
