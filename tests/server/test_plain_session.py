"""Plain mode: just send; with ?ack=1 hear how far it has come."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
import trio
from trio_websocket import WebSocketConnection

from edge_agent.config.shape import Rule, Schema
from edge_agent.security.tokens import add_token
from edge_agent.server.plain_session import plain_source
from tests.patience import PATIENCE_S, eventually
from tests.server.support import (
    SETTINGS,
    closed,
    connect,
    main_log,
    serving,
)


async def told(socket: WebSocketConnection) -> dict[str, object]:
    with trio.fail_after(PATIENCE_S):
        answer: dict[str, object] = json.loads(await socket.get_message())
    return answer


async def test_nothing_is_said_unless_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, connect(port, "/ingest/a/b") as socket:
        await socket.send_message('{"t": 1}')
        await socket.send_message(msgpack.packb({"t": 2}))
        await socket.send_message("[3, 4]")
        await socket.send_message("{")
        await eventually(lambda: port.log.last_seq("main") == 4, "all is stored")
        with trio.move_on_after(0.02) as silence:
            await socket.get_message()
        assert silence.cancelled_caught
        records = await port.records()
        assert [record.fields for record in records] == [
            {"t": 1},
            {"t": 2},
            {"value": 3},
            {"value": 4},
        ]
        assert {record.source for record in records} == {"127.0.0.1"}
        assert {record.source_seq for record in records} == {0}


async def test_acks_count_messages_and_come_after_the_commit(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, connect(port, "/ingest/a?ack=1") as socket:
        port.held.hold()
        await socket.send_message("[1, 2, 3]")
        await eventually(lambda: port.held.began == 1, "the commit begins")
        with trio.move_on_after(0.05) as silence:
            await socket.get_message()
        assert silence.cancelled_caught
        port.held.let_go()
        assert await told(socket) == {"ack": 1}


async def test_several_messages_are_answered_at_once(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as port,
        connect(port, "/ingest/a?ack=1", "edge-agent.v1.plain") as socket,
    ):
        assert socket.subprotocol == "edge-agent.v1.plain"
        port.held.hold()
        await socket.send_message("1")
        await eventually(lambda: port.held.began == 1, "the commit begins")
        for _ in range(20):
            await socket.send_message("1")
        await eventually(lambda: port.metrics.get("messages_received_total") == 21, "all is read")
        port.held.let_go()
        assert await told(socket) == {"ack": 1}
        assert await told(socket) == {"ack": 21}


async def test_errors_name_the_message_even_in_the_middle_of_many(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with connect(port, "/ingest/a?ack=1") as socket:
            port.held.hold()
            for text in ("1", "2", '{"time": "noon"}', "4", "{", "6", "[null, 7]"):
                await socket.send_message(text)
            await eventually(lambda: port.metrics.get("messages_received_total") == 7, "read")
            port.held.let_go()
            answers = [await told(socket)]
            while "ack" not in answers[-1] or answers[-1]["ack"] != 7:
                answers.append(await told(socket))
            errors = [(each["error"], each["at"]) for each in answers if "error" in each]
            assert errors == [("bad_time", 3), ("undecodable", 5), ("bad_record", 7)]
        assert [r.fields["value"] for r in await port.records()] == [1, 2, 4, 6, 7]


async def test_a_message_without_records_is_dealt_with_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, connect(port, "/ingest/a?ack=1") as socket:
        await socket.send_message("[]")
        await socket.send_message("1")
        assert await told(socket) == {"ack": 2}


async def test_rules_before_storing_apply_also_where_the_token_names_no_stream_below(
    tmp_path: Path,
) -> None:
    secret = add_token(tmp_path / "tokens.json", "shed", write=["a"])
    headers = [(b"Authorization", b"Bearer " + secret.encode())]
    below = Rule(name="below", streams=("a",), pick={"t": "value"}, into="{stream}/below")
    sane = Rule(name="sane", streams=("a/below",), schema=Schema(ranges={"t": (0, 50)}))
    async with serving(tmp_path, rules=[below, sane], tokens=tmp_path / "tokens.json") as port:
        async with connect(port, "/ingest/a?ack=1", headers=headers) as socket:
            await socket.send_message("1")
            assert await told(socket) == {"ack": 1}
            await socket.send_message("99")
            error = await told(socket)
            assert (error["error"], error["at"]) == ("bad_schema", 2)
            assert await told(socket) == {"ack": 2}
        assert [record.stream for record in await port.records()] == ["a/below"]
        assert await port.quarantine() == [("bad_schema", 0)]
        assert port.metrics.get("records_nacked_total", "bad_schema") == 1


async def test_the_source_is_the_tokens_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = add_token(path, "green house", write=["**"])
    headers = [(b"Authorization", b"Bearer " + secret.encode())]
    async with serving(tmp_path, tokens=path) as port:
        async with connect(port, "/ingest/a?ack=1", headers=headers) as socket:
            await socket.send_message("1")
            await told(socket)
        assert [record.source for record in await port.records()] == ["green-house"]


@pytest.mark.parametrize(
    "name, source",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80-1-eth0"),
        ("::1", "1"),
        ("", "local"),
        ("$", "local"),
        ("..", "local"),
        ("x" * 300, "x" * 200),
    ],
)
def test_names_of_peers_become_names_of_sources(name: str, source: str) -> None:
    assert plain_source(name) == source


async def test_a_full_log_closes_the_connection(tmp_path: Path) -> None:
    settings = replace(SETTINGS, size=1024 * 1024, logs=(main_log(when_full="refuse", share=0.1),))
    async with (
        serving(tmp_path, settings=settings) as port,
        connect(port, "/ingest/a?ack=1") as socket,
    ):
        answer: dict[str, object] = {"ack": 0}
        while "ack" in answer:
            await socket.send_message(json.dumps([{"t": "x" * 100}] * 50))
            answer = await told(socket)
        assert answer["error"] == "store_full"
        assert (await closed(socket))[0] == 1013


async def test_a_planned_stop_says_so_after_the_acks(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, interval=0.05) as port,
        connect(port, "/ingest/a?ack=1") as socket,
    ):
        await socket.send_message("1")
        await eventually(lambda: port.metrics.get("messages_received_total") == 1, "it came")
        port.server.stop()
        assert await told(socket) == {"ack": 1}
        assert (await told(socket))["error"] == "closing"
        assert (await closed(socket))[0] == 1012


async def test_what_was_sent_before_the_peer_closed_is_stored(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with connect(port, "/ingest/a") as socket:
            for _ in range(200):
                await socket.send_message("1")
        await eventually(lambda: port.log.last_seq("main") == 200, "all is stored")
