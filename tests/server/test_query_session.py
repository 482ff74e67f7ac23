"""/subscribe and /query over real sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import trio
from trio.testing import MockClock
from trio_websocket import WebSocketConnection

from edge_agent.config.shape import Limits
from edge_agent.security.tokens import Tokens, add_token
from tests.patience import PATIENCE_S, eventually
from tests.server.support import (
    LISTEN,
    Serving,
    bystander,
    closed,
    connect,
    raw,
    serving,
    session,
    upgrade,
)


async def told(socket: WebSocketConnection) -> Any:
    with trio.fail_after(PATIENCE_S):
        return json.loads(await socket.get_message())


async def subscribed(port: Serving) -> None:
    await eventually(lambda: port.metrics.get("subscriptions") == 1, "it is subscribed")


async def fill(port: Serving, count: int, stream: str = "a/b") -> None:
    async with session(port, stream) as sensor:
        next_number = (await sensor.hello("pi"))["next"]
        await sensor.send([{"n": number} for number in range(count)])
        await sensor.acked(next_number + count)


async def test_a_subscription_sends_what_comes_from_now_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        await fill(port, 3)
        async with connect(port, "/subscribe/a/*") as reader:
            await subscribed(port)
            await fill(port, 1, "other")
            await fill(port, 2)
            (first, second) = await told(reader)
            assert first["stream"] == "a/b"
            assert first["source"] == "pi"
            assert first["fields"] == {"n": 0}
            assert second["seq"] == first["seq"] + 1


async def test_a_subscription_can_begin_at_a_position(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        await fill(port, 5)
        async with connect(port, "/subscribe/**?from=main:3&filter=n%20%3C%204") as reader:
            assert [record["fields"]["n"] for record in await told(reader)] == [2, 3]


async def test_a_subscription_can_be_narrowed_to_fields_and_to_a_record_a_step(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as port:
        await fill(port, 5)
        query = "from=main:1&filter=n%20%3C%204&fields=n&step=100ms"
        async with connect(port, f"/subscribe/a/*?{query}") as reader:
            (record,) = await told(reader)
            assert (record["seq"], record["fields"], record["count"]) == (4, {"n": 3}, 4)


async def test_large_batches_come_in_several_messages(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with session(port) as sensor:
            await sensor.hello("pi")
            for _ in range(10):
                await sensor.send({"t": "x" * 50_000})
            await sensor.acked(11)
        async with connect(port, "/subscribe/**?from=main:1") as reader:
            found = 0
            while found < 10:
                records = await told(reader)
                assert 1 <= len(records) <= 2
                found += len(records)


async def test_what_is_wrong_with_a_subscription_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, bystander(port) as other:
        for query in (
            "from=yesterday",
            "filter=%28%28",
            "from=none:1",
            "step=often",
            "fields=a..b",
        ):
            async with connect(port, f"/subscribe/**?{query}") as reader:
                error = await told(reader)
                assert (error["type"], error["code"]) == ("error", "bad_query")
                assert (await closed(reader))[0] == 1008
        await other.is_served()


async def test_there_is_a_limit_on_subscriptions(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, limits=Limits(subscriptions=1)) as port,
        connect(port, "/subscribe/**"),
    ):
        await subscribed(port)
        async with connect(port, "/subscribe/**") as second:
            assert (await told(second))["code"] == "busy"


async def test_a_reader_that_leaves_lets_go_of_its_subscription(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=Limits(subscriptions=1)) as port:
        for _ in range(3):
            async with connect(port, "/subscribe/**?from=main:1") as reader:
                for _ in range(10):
                    await reader.send_message("what it says means nothing" * 1000)
                await subscribed(port)
            await eventually(lambda: port.metrics.get("subscriptions") == 0, "it has let go")


async def test_queries_are_answered_with_their_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        await fill(port, 5)
        async with connect(port, "/query") as reader:
            await reader.send_message(json.dumps({"id": "q1", "stream": "a/b", "limit": 2}))
            records = await told(reader)
            assert (records["type"], records["id"]) == ("records", "q1")
            assert [record["fields"]["n"] for record in records["records"]] == [0, 1]
            answer = await told(reader)
            assert (answer["type"], answer["id"], answer["truncated"]) == ("answer", "q1", True)
            await reader.send_message(json.dumps({"id": 2, "next": answer["next"]}))
            assert len((await told(reader))["records"]) == 3
            assert (await told(reader))["truncated"] is False
            await reader.send_message(json.dumps({"stream": "a/b", "aggregate": "n"}))
            assert (await told(reader))["aggregates"]["a/b"]["max"] == 4


async def test_wrong_questions_get_an_error_and_the_next_one_an_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, bystander(port) as other:
        async with connect(port, "/query") as reader:
            questions: list[str | bytes] = [
                "{",
                "[]",
                msgpack.packb({"stream": "a"}),
                '{"stream": ["a"]}',
                '{"id": {}}',
                '{"nonsense": 1}',
                '{"from": "noon"}',
                json.dumps({"filter": "x" * 20_000}),
            ]
            for question in questions:
                await reader.send_message(question)
                error = await told(reader)
                assert (error["type"], error["code"]) == ("error", "bad_query"), question
            await reader.send_message('{"id": 7, "from": "noon"}')
            assert (await told(reader))["id"] == 7
            await reader.send_message("{}")
            assert (await told(reader))["type"] == "records"
        await other.is_served()


async def test_a_token_sees_only_the_streams_it_may_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    writer = add_token(path, "w", write=["**"], sources=["**"])
    reader = add_token(path, "r", read=["open/**"])
    write = [(b"Authorization", b"Bearer " + writer.encode())]
    read = [(b"Authorization", b"Bearer " + reader.encode())]
    async with serving(tmp_path, tokens=path) as port:
        async with session(port, "secret", headers=write) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"n": 1}, {"n": 2, "stream": "open/a"}])
            await sensor.acked(3)
        async with connect(port, "/query", headers=read) as socket:
            await socket.send_message("{}")
            assert [r["stream"] for r in (await told(socket))["records"]] == ["open/a"]
        async with connect(port, "/subscribe/**?from=main:1", headers=read) as socket:
            assert [r["stream"] for r in await told(socket)] == ["open/a"]
        tokens = Tokens(path)
        allowed = tokens.readable(reader)
        assert allowed is not None
        assert allowed("open/x")
        assert not allowed("secret")
        assert tokens.readable(writer) is None
        assert tokens.readable("nobody's") is None


async def test_readers_are_told_of_a_planned_stop(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as port,
        connect(port, "/subscribe/**") as one,
        connect(port, "/query") as two,
    ):
        await subscribed(port)
        await eventually(lambda: len(port.server.connections()) == 2, "both are there")
        port.server.stop()
        assert (await closed(one))[0] == 1012
        assert (await closed(two))[0] == 1012


async def test_a_reader_that_does_not_read_is_given_up_in_the_end(
    turned_clock: MockClock, tmp_path: Path
) -> None:
    async with serving(tmp_path) as port, bystander(port) as other, raw(port) as stream:
        head = upgrade("/subscribe/bulk?from=main:1").replace("\n", "\r\n")
        await stream.send_all(head.encode())
        await subscribed(port)
        # More than both sockets hold.
        async with session(port, "bulk") as sensor:
            await sensor.hello("bulk")
            for sent in range(15, 181, 15):
                await sensor.send([{"t": "x" * 60_000}] * 15)
                await sensor.acked(1 + sent)
        for _ in range(20):
            turned_clock.jump(LISTEN.idle_timeout / 8)
            await trio.sleep(0.02)
        await eventually(lambda: port.metrics.get("subscriptions") == 0, "it is given up")
        await other.is_served()
