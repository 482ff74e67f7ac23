"""What bad input gets, as docs/protocol.md says: what is sent, each with another client that must
not notice. Who sends it is in test_bad_peers.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from trio_websocket import ConnectionClosed

from edge_agent.config.quantities import Size
from edge_agent.config.shape import Limits
from edge_agent.security.tokens import add_token
from tests.server.support import (
    SETTINGS,
    bystander,
    closed,
    connect,
    http,
    main_log,
    neighbours,
    serving,
    session,
    upgrade,
)

# Wrong shape, too deep, bad time, forbidden stream override, record too big.


DEEP: object = 1
for _ in range(30):
    DEEP = [DEEP]

BAD_RECORDS = [
    ("bad_record", [None]),
    ("bad_record", [[1, 2]]),
    ("too_deep", [{"deep": DEEP}]),
    ("bad_time", [{"time": "noon", "t": 1}]),
    ("bad_stream", [{"stream": "$agents/x", "t": 1}]),
    ("too_big", [{"t": "x" * 5000}]),
]


@pytest.mark.parametrize("code, batch", BAD_RECORDS)
async def test_a_bad_record_in_a_session_is_nacked(
    tmp_path: Path, code: str, batch: list[object]
) -> None:
    limits = Limits(record_bytes=Size(4000))
    async with neighbours(tmp_path, limits=limits) as (port, other), session(port) as sensor:
        await sensor.hello("pi")
        await sensor.send([*batch, {"good": 1}])
        nack = await sensor.receive()
        assert (nack["type"], nack["at"], nack["code"]) == ("nack", 1, code)
        assert nack["message"]
        await sensor.acked(3)
        await other.is_served()
        assert await port.quarantine() == [(code, 1)]
        assert {"good": 1} in [record.fields for record in await port.records()]


@pytest.mark.parametrize("code, batch", BAD_RECORDS)
async def test_a_bad_record_in_plain_mode_is_told_with_ack(
    tmp_path: Path, code: str, batch: list[object]
) -> None:
    limits = Limits(record_bytes=Size(4000))
    async with neighbours(tmp_path, limits=limits) as (port, other):
        async with connect(port, "/ingest/a?ack=1") as socket:
            await socket.send_message(json.dumps({"good": 0}))
            assert json.loads(await socket.get_message()) == {"ack": 1}
            await socket.send_message(json.dumps([*batch, {"good": 1}]))
            told = json.loads(await socket.get_message())
            assert (told["error"], told["at"]) == (code, 2)
            assert json.loads(await socket.get_message()) == {"ack": 2}
        await other.is_served()
        assert await port.quarantine() == [(code, 0)]


async def test_a_stream_that_the_token_does_not_allow_is_nacked(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = add_token(path, "t", write=["a/**", "bystander"], sources=["**"])
    headers = [(b"Authorization", b"Bearer " + secret.encode())]
    async with (
        serving(tmp_path, tokens=path) as port,
        bystander(port, headers=headers),
        session(port, headers=headers) as sensor,
    ):
        await sensor.hello("pi")
        await sensor.send([{"t": 1, "stream": "b"}, {"t": 1, "stream": "a/c"}])
        nack = await sensor.receive()
        assert (nack["at"], nack["code"]) == (1, "forbidden_stream")
        await sensor.acked(3)


# NaN where JSON forbids it: what Python's own encoder writes for a broken probe.


async def test_one_nan_in_a_batch_costs_nothing_else(tmp_path: Path) -> None:
    batch = [{"n": number, "t": 21.5} for number in range(100)]
    batch[50]["t"] = float("nan")
    async with neighbours(tmp_path) as (port, other):
        async with session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send(batch)
            await sensor.acked(101)
            await other.is_served()
        async with connect(port, "/ingest/a?ack=1") as socket:
            await socket.send_message(json.dumps(batch))
            assert json.loads(await socket.get_message()) == {"ack": 1}
        records = [each for each in await port.records() if "n" in each.fields]
        assert len(records) == 200
        assert [each.fields["t"] for each in records if each.fields["n"] == 50] == [None, None]
        assert await port.quarantine() == []


# Undecodable bytes.


UNDECODABLE: list[str | bytes] = [
    "{",
    "not json",
    "",
    b"\xc1",
    b"",
    msgpack.packb({"t": 1})[:-1],
    msgpack.packb({"t": 1}) + b"\x01",
]


@pytest.mark.parametrize("message", UNDECODABLE)
async def test_what_cannot_be_decoded_ends_a_session_with_1007(
    tmp_path: Path, message: str | bytes
) -> None:
    async with neighbours(tmp_path) as (port, other), session(port) as sensor:
        await sensor.hello("pi")
        await sensor.send({"t": 1})
        await sensor.acked(2)
        await sensor.socket.send_message(message)
        assert (await sensor.closed())[0] == 1007
        await other.is_served()
    async with serving(tmp_path) as port, session(port) as sensor:
        assert (await sensor.hello("pi"))["next"] == 2


@pytest.mark.parametrize("message", UNDECODABLE)
async def test_in_plain_mode_it_goes_to_quarantine_and_the_connection_stays(
    tmp_path: Path, message: str | bytes
) -> None:
    async with neighbours(tmp_path) as (port, other):
        async with connect(port, "/ingest/a?ack=1") as socket:
            await socket.send_message(message)
            told = json.loads(await socket.get_message())
            assert (told["error"], told["at"]) == ("undecodable", 1)
            assert json.loads(await socket.get_message()) == {"ack": 1}
            await socket.send_message('{"t": 1}')
            assert json.loads(await socket.get_message()) == {"ack": 2}
            await other.is_served()
        assert await port.quarantine() == [("undecodable", 0)]


async def test_sixteen_in_a_row_close_a_plain_connection(tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (port, other), connect(port, "/ingest/a") as socket:
        for _ in range(15):
            await socket.send_message("{")
        await socket.send_message('{"t": 1}')
        for _ in range(16):
            await socket.send_message("{")
        code, reason = await closed(socket)
        assert code == 1007
        assert "16 messages in a row" in reason
        await other.is_served()
        assert len(await port.quarantine()) == 31


async def test_text_that_is_not_utf8_ends_the_connection_with_what_came_before_stored(
    tmp_path: Path,
) -> None:
    async with neighbours(tmp_path) as (port, other), connect(port, "/ingest/a") as socket:
        await socket.send_message('{"t": 1}')
        await socket._stream.send_all(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"\xff\xfe")
        with pytest.raises(ConnectionClosed):
            await socket.get_message()
        await other.is_served()
        assert {"t": 1} in [record.fields for record in await port.records()]


# A message over the limit.


@pytest.mark.parametrize("kind", ["text", "binary", "fragments"])
async def test_a_message_over_the_limit_closes_with_1009(tmp_path: Path, kind: str) -> None:
    limits = Limits(message_bytes=Size(10_000))
    async with neighbours(tmp_path, limits=limits) as (port, other):
        async with connect(port, "/ingest/a?ack=1") as socket:
            await socket.send_message('{"t": 1}')
            if kind == "fragments":
                first = bytes([0x01, 0xFE]) + (9000).to_bytes(2, "big") + bytes(4) + b"x" * 9000
                more = bytes([0x80, 0xFE]) + (9000).to_bytes(2, "big") + bytes(4) + b"x" * 9000
                await socket._stream.send_all(first + more)
            else:
                await socket.send_message("x" * 500_000 if kind == "text" else bytes(500_000))
            assert json.loads(await socket.get_message()) == {"ack": 1}
            code, reason = await closed(socket)
            assert code == 1009
            assert "10000" in reason
        await other.is_served()


# Bad stream name, unknown path.


@pytest.mark.parametrize(
    "path, status, word",
    [
        ("/ingest/", "400", "stream name"),
        ("/ingest/a//b", "400", "stream name"),
        ("/ingest/../b", "400", "'..'"),
        ("/ingest/$own", "400", "'$'"),
        ("/ingest/a%20b", "400", "stream name"),
        ("/ingest/" + "a" * 201, "400", "200"),
        ("/ingest/a?ack=2", "400", "ack"),
        ("/ingest/a?token=secret", "400", "Authorization"),
        ("/subscribe/a*", "400", "whole parts"),
        ("/", "404", "/ingest/STREAM"),
        ("/nowhere", "404", "/ingest/STREAM"),
    ],
)
async def test_bad_paths_are_refused_before_the_upgrade_with_a_sentence(
    tmp_path: Path, path: str, status: str, word: str
) -> None:
    async with neighbours(tmp_path) as (port, other):
        answer = await http(port, upgrade(path))
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert word in answer
        assert "secret" not in answer
        await other.is_served()


# Store full under "refuse".


async def test_a_full_log_refuses_while_another_log_and_reading_go_on(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        size=2 * 1024 * 1024,
        logs=(
            main_log(share=0.3),
            replace(main_log(), name="bulk", patterns=("bulk/**",), when_full="refuse", share=0.05),
        ),
    )
    async with neighbours(tmp_path, settings=settings) as (port, other):
        async with session(port, "bulk/x") as sensor:
            await sensor.hello("pi")
            told: dict[str, Any] = {"type": "ack"}
            while told["type"] == "ack":
                await sensor.send([{"t": "x" * 100}] * 50)
                told = await sensor.receive()
            assert (told["type"], told["code"]) == ("stop", "store_full")
            assert told["retry_after"] > 0
            assert (await sensor.closed())[0] == 1013
            await other.is_served()
        assert len(await port.records("bulk")) > 0


# Protocol out of order.


@pytest.mark.parametrize(
    "first",
    ['{"t": 1}', "[1]", '{"type": "hello"}', '{"type": "hello", "source": 7}', "{", b"\xc1"],
)
async def test_data_before_hello_closes_with_1002_and_changes_nothing(
    tmp_path: Path, first: str | bytes
) -> None:
    async with neighbours(tmp_path) as (port, other), session(port) as sensor:
        await sensor.socket.send_message(first)
        stop = await sensor.receive()
        assert stop["code"] == "bad_hello"
        assert (await sensor.closed())[0] == 1002
        await other.is_served()
        assert await port.quarantine() == []
        assert {record.source for record in await port.records()} == {"bystander"}
