"""The session pump over real sockets: hello to goodbye."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
import trio
from trio.testing import MockClock

from edge_agent.assembly.wiring import connection_status
from edge_agent.config.quantities import Size
from edge_agent.config.shape import Limits, Listen, Rule, Schema
from edge_agent.rules import Ruled
from edge_agent.rules.in_force import TURN_RECORDS
from edge_agent.server import closing
from edge_agent.values.record import Run
from tests.patience import PATIENCE_S, eventually
from tests.server.support import (
    LISTEN,
    SETTINGS,
    Session,
    connect,
    hurried,
    main_log,
    serving,
    session,
)


async def test_records_are_acked_and_stored_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        welcome = await sensor.hello("pi")
        assert welcome["next"] == 1
        assert welcome["epoch"] == port.log.identity.epoch
        assert welcome["window"]["bytes"] > 0
        assert welcome["limits"]["message_bytes"] == 1024 * 1024
        assert welcome["time"].startswith("2026-")
        await sensor.send({"t": 1})
        await sensor.send([{"t": 2}, {"t": 3, "stream": "c"}])
        await sensor.acked(4)
        assert [(r.stream, r.fields, r.source, r.source_seq) for r in await port.records()] == [
            ("a/b", {"t": 1}, "pi", 1),
            ("a/b", {"t": 2}, "pi", 2),
            ("c", {"t": 3}, "pi", 3),
        ]


async def test_msgpack_sessions_are_answered_in_msgpack(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as port,
        connect(port, "/ingest/a", "edge-agent.v1+msgpack") as socket,
    ):
        await socket.send_message(msgpack.packb({"type": "hello", "source": "pi"}))
        assert unpacked(await socket.get_message())["type"] == "welcome"
        await socket.send_message(msgpack.packb([{"t": 1}] * 5))
        assert unpacked(await socket.get_message()) == {"type": "ack", "next": 6}


async def test_no_ack_leaves_before_the_commit_returns(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        port.held.hold()
        await sensor.send({"t": 1})
        await eventually(lambda: port.held.began == 1, "the commit begins")
        with trio.move_on_after(0.05) as waited:
            await sensor.receive()
        assert waited.cancelled_caught
        assert port.held.returned == 0
        port.held.let_go()
        await sensor.acked(2)
        assert port.held.returned == 1


async def test_one_commit_makes_one_ack_however_many_messages_it_holds(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        port.held.hold()
        await sensor.send({"t": 0})
        await eventually(lambda: port.held.began == 1, "the commit begins")
        for number in range(1, 51):
            await sensor.send({"t": number})
        await eventually(lambda: port.metrics.get("messages_received_total") == 51, "all is read")
        port.held.let_go()
        assert await sensor.receive() == {"type": "ack", "next": 2}
        assert await sensor.receive() == {"type": "ack", "next": 52}
        assert port.held.began == 2


async def test_a_bad_record_is_nacked_and_kept_after_the_commit_with_its_neighbours(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        await sensor.send([{"t": 1}, {"t": 2, "time": "noon"}, {"t": 3}])
        nack = await sensor.receive()
        assert (nack["type"], nack["at"], nack["code"]) == ("nack", 2, "bad_time")
        assert "noon" in nack["message"]
        await sensor.acked(4)
        assert [r.source_seq for r in await port.records()] == [1, 3]
        assert await port.quarantine() == [("bad_time", 2)]
        assert port.held.began == 1


class TestRules:
    async def test_a_dropped_records_number_is_acked_with_the_next_commit(
        self, tmp_path: Path
    ) -> None:
        drop = Rule(name="drop", streams=("**",), where="drop", drop="record")
        async with serving(tmp_path, rules=[drop]) as port, session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send({"drop": 1})
            await eventually(lambda: port.metrics.get("messages_received_total") == 1, "read")
            await trio.sleep(0.05)
            assert port.held.began == 0
            await sensor.send({"t": 1})
            await sensor.acked(3)
            assert [r.source_seq for r in await port.records()] == [2]

    async def test_whoever_takes_over_does_not_wait_for_a_dropped_records_commit(
        self, tmp_path: Path
    ) -> None:
        async with (
            serving(tmp_path, rules=[Rule(name="drop", streams=("**",), drop="record")]) as port,
            session(port) as old,
            session(port) as new,
        ):
            await old.hello("pi")
            await old.send({"drop": 1})
            await eventually(lambda: port.metrics.get("messages_received_total") == 1, "read")
            assert (await new.hello("pi"))["next"] == 2

    async def test_what_a_rule_sets_aside_is_nacked_in_order_and_takes_its_number(
        self, tmp_path: Path
    ) -> None:
        strict = Rule(name="strict", streams=("**",), schema=Schema(ranges={"t": (0, 50)}))
        async with serving(tmp_path, rules=[strict]) as port, session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"t": 1}, {"t": 99}, {"t": 2, "time": "noon"}, {"t": 98}, {"t": 3}])
            nacks = [await sensor.receive() for _ in range(3)]
            assert [(nack["at"], nack["code"]) for nack in nacks] == [
                (2, "bad_schema"),
                (3, "bad_time"),
                (4, "bad_schema"),
            ]
            await sensor.acked(6)
            assert [record.source_seq for record in await port.records()] == [1, 5]
            assert await port.quarantine() == [
                ("bad_time", 3),
                ("bad_schema", 2),
                ("bad_schema", 4),
            ]
            assert port.metrics.get("records_nacked_total", "bad_schema") == 2

    async def test_a_long_batch_is_worked_on_in_turns_and_acked_as_a_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tidy = Rule(name="tidy", streams=("**",), rename={"t": "x"})
        async with serving(tmp_path, rules=[tidy], interval=0.2) as port, session(port) as sensor:
            turns: list[int] = []
            rules = port.server._parts.rules
            apply = rules.apply

            def counted(runs: tuple[Run, ...], *, again: bool = False) -> Ruled:
                turns.append(sum(run.count for run in runs))
                return apply(runs, again=again)

            monkeypatch.setattr(rules, "apply", counted)
            await sensor.hello("pi")
            await sensor.send([{"t": n} for n in range(500)])
            await sensor.acked(501)
            assert max(turns) == TURN_RECORDS and sum(turns) == 500
            assert [record.fields["x"] for record in await port.records()] == [*range(500)]

    async def test_a_record_that_was_taken_apart_is_stored_once_when_it_is_sent_again(
        self, tmp_path: Path
    ) -> None:
        paths = {f"{{stream}}/{name}": {"v": name} for name in ("a", "b")}
        apart = Rule(name="apart", streams=("**",), pick={**paths})
        async with serving(tmp_path, rules=[apart]) as port:
            async with session(port) as sensor:
                epoch = (await sensor.hello("pi"))["epoch"]
                await sensor.send([{"a": 1, "b": 2}])
                await sensor.acked(2)
            async with session(port) as sensor:
                await sensor.hello("pi", epoch=epoch, first=1)
                await sensor.send([{"a": 3}])
                await sensor.acked(3)
            found = sorted((r.stream, r.source_seq, r.fields["v"]) for r in await port.records())
        assert [(name[-1:], number, value) for name, number, value in found] == [
            ("a", 1, 1),
            ("a", 2, 3),
            ("b", 1, 2),
        ]


class TestWindows:
    async def test_what_is_beyond_the_window_is_read_after_the_next_commit(
        self, tmp_path: Path
    ) -> None:
        limits = Limits(window_records=10)
        async with serving(tmp_path, limits=limits) as port, session(port) as sensor:
            assert (await sensor.hello("pi"))["window"]["records"] == 10
            port.held.hold()
            for _ in range(10):
                await sensor.send([{"t": 1}] * 10)
                await trio.sleep(0.005)
            await eventually(lambda: port.held.began == 1, "the commit begins")
            assert port.metrics.get("records_received_total") < 100
            port.held.let_go()
            await sensor.acked(101)

    async def test_a_hungry_session_is_told_a_larger_window(self, tmp_path: Path) -> None:
        limits = Limits(in_flight_bytes=Size(1024 * 1024), window_bytes=Size(900_000))
        listen = replace_listen(connections=4)
        async with (
            serving(tmp_path, limits=limits, listen=listen) as port,
            session(port) as sensor,
        ):
            welcome = await sensor.hello("pi")
            window = welcome["window"]["bytes"]
            assert window < 300_000
            for _ in range(window // 1500 // 20):
                await sensor.send([{"t": "x" * 1000}] * 20)
            # The first of them alone is not hungry yet.
            while "window" not in (told := await sensor.receive()):
                assert told["type"] == "ack"
            assert told["window"]["bytes"] > window


class TestNotNow:
    async def test_a_full_log_stops_the_session_and_keeps_next(self, tmp_path: Path) -> None:
        settings = replace(
            SETTINGS, size=1024 * 1024, logs=(main_log(when_full="refuse", share=0.1),)
        )
        async with serving(tmp_path, settings=settings) as port:
            async with session(port) as sensor:
                await sensor.hello("pi")
                stop = await fill(sensor)
                assert stop["code"] == "store_full"
                assert stop["retry_after"] > 0
                assert (await sensor.closed())[0] == 1013
            stored = await port.records()
            numbers = [r.source_seq for r in stored]
            assert numbers == list(range(1, len(numbers) + 1))
            async with session(port) as sensor:
                assert (await sensor.hello("pi"))["next"] == len(numbers) + 1
            assert port.metrics.get("stops_total", "store_full") == 1

    async def test_too_fast_a_sender_is_stopped_and_told_when_to_return(
        self, tmp_path: Path
    ) -> None:
        # So slow a rate that the debt outlasts whatever a busy machine does in between.
        limits = Limits(records_per_second=1.0)
        async with serving(tmp_path, limits=limits) as port, session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"t": 1}] * 200)
            await sensor.acked(201)
            await sensor.send({"t": 2})
            stop = await sensor.receive()
            assert stop["code"] == "rate"
            assert 199 - PATIENCE_S < stop["retry_after"] <= 199
            assert (await sensor.closed())[0] == 1013
            assert len(await port.records()) == 200

    async def test_a_planned_stop_acks_what_was_accepted_and_says_when_to_return(
        self, tmp_path: Path
    ) -> None:
        async with serving(tmp_path, interval=0.05) as port, session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send({"t": 1})
            await eventually(
                lambda: port.metrics.get("records_received_total") == 1, "it is received"
            )
            port.server.stop()
            await sensor.acked(2)
            stop = await sensor.receive()
            assert stop["code"] == "closing"
            # It is the only one, so it need not stay away for long.
            assert 0 < stop["retry_after"] <= 1
            assert (await sensor.closed())[0] == 1012

    async def test_a_planned_stop_spreads_by_how_many_are_connected(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(closing, "RETURNS_PER_S", 0.1)
        async with (
            serving(tmp_path) as port,
            session(port) as one,
            session(port) as two,
            session(port) as three,
        ):
            sensors = {"a": one, "b": two, "c": three}
            for name, sensor in sensors.items():
                await sensor.hello(name)
            port.server.stop()
            waits = [(await sensor.receive())["retry_after"] for sensor in sensors.values()]
            assert max(waits) > 1, "three at a tenth a second: within thirty seconds"

    async def test_a_stop_does_not_wait_for_a_disk_that_hangs(self, tmp_path: Path) -> None:
        listen = hurried(close_timeout=0.4)
        async with serving(tmp_path, listen=listen) as port, session(port) as sensor:
            await sensor.hello("pi")
            port.held.hold()
            await sensor.send({"t": 1})
            await eventually(lambda: port.held.began == 1, "the commit begins")
            port.server.stop()
            assert (await sensor.receive())["code"] == "closing"
            assert (await sensor.closed())[0] == 1012
            await port.stopped.wait()
            assert port.held.returned == 0


class TestUnreadable:
    async def test_what_came_before_is_acked_then_the_session_is_closed(
        self, tmp_path: Path
    ) -> None:
        async with serving(tmp_path, interval=0.05) as port, session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send({"t": 1})
            await sensor.socket.send_message("{not json")
            await sensor.send({"t": 2})
            await sensor.acked(2)
            code, reason = await sensor.closed()
            assert code == 1007
            assert "JSON" in reason
            assert len(await port.records()) == 1
            assert await port.quarantine() == []

    async def test_the_second_failure_at_the_same_number_uses_it_up(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as port:
            async with session(port) as sensor:
                await sensor.hello("pi")
                await sensor.socket.send_message("{not json")
                assert (await sensor.closed())[0] == 1007
            async with session(port) as sensor:
                assert (await sensor.hello("pi"))["next"] == 1
                await sensor.socket.send_message("{not json")
                nack = await sensor.receive()
                assert (nack["type"], nack["at"], nack["code"]) == ("nack", 1, "undecodable")
                await sensor.acked(2)
                assert (await sensor.closed())[0] == 1007
            async with session(port) as sensor:
                assert (await sensor.hello("pi"))["next"] == 2
            assert await port.quarantine() == [("undecodable", 1)]

    async def test_a_message_over_the_limit_is_closed_with_1009_after_the_ack(
        self, tmp_path: Path
    ) -> None:
        limits = Limits(message_bytes=Size(1000), record_bytes=Size(1000))
        async with serving(tmp_path, limits=limits, interval=0.05) as port:
            async with session(port) as sensor:
                await sensor.hello("pi")
                await sensor.send({"t": 1})
                await sensor.send({"t": "x" * 100_000})
                await sensor.send({"t": 2})
                await sensor.acked(2)
                code, reason = await sensor.closed()
                assert code == 1009
                assert "1000" in reason
            # The second failure at the same number uses it up, as with what cannot be decoded.
            async with session(port) as sensor:
                assert (await sensor.hello("pi"))["next"] == 2
                await sensor.send({"t": "x" * 100_000})
                assert (await sensor.receive())["type"] == "nack"
                await sensor.acked(3)
                assert (await sensor.closed())[0] == 1009
            assert await port.quarantine() == [("too_big_message", 2)]
            assert [r.source_seq for r in await port.records()] == [1]

    async def test_text_that_is_not_utf8_uses_up_its_number_too(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as port:
            for expected in (1, 1, 2):
                async with session(port) as sensor:
                    assert (await sensor.hello("pi"))["next"] == expected
                    await send_bad_utf8(sensor)
                    await sensor.closed()
            assert await port.quarantine() == [("undecodable", 1)]


class TestOutOfOrder:
    async def test_data_before_hello_is_an_error_and_changes_nothing(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as port, session(port) as sensor:
            await sensor.send({"t": 1})
            stop = await sensor.receive()
            assert stop["code"] == "bad_hello"
            assert (await sensor.closed())[0] == 1002
            assert await port.records() == []

    async def test_a_source_that_is_no_name_is_refused(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as port, session(port) as sensor:
            assert (await sensor.hello("$agents/x"))["code"] == "bad_source"
            assert (await sensor.closed())[0] == 1002

    async def test_who_never_says_hello_is_hung_up_on(
        self, turned_clock: MockClock, tmp_path: Path
    ) -> None:
        async with serving(tmp_path) as port, session(port) as sensor:
            await eventually(lambda: port.server.connections() != [], "it is there")
            turned_clock.jump(LISTEN.handshake_timeout)
            assert (await sensor.closed())[0] == 1001


async def test_empty_batches_are_no_data(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, session(port) as sensor:
        await sensor.hello("pi")
        await sensor.send([])
        await sensor.send({"t": 1})
        await sensor.acked(2)


async def test_connections_show_who_is_there_and_how_far(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send([{"t": 1}] * 3)
            await sensor.acked(4)
            (visitor,) = port.server.connections()
            view = connection_status(visitor, port.clock.read().wall_ns)
            assert (view.mode, view.stream) == ("ingest json", "a/b")
            assert (view.source, view.peer, visitor.grant.name) == ("pi", "127.0.0.1", "127.0.0.1")
            assert (view.next, view.acked, view.in_flight_bytes) == (4, 4, 0)
        await eventually(lambda: port.server.connections() == [], "it is gone")


def replace_listen(**changes: object) -> Listen:
    return msgspec.structs.replace(LISTEN, **changes)


async def flood(sensor: Session) -> None:
    """Send for ever."""
    while True:
        await sensor.send({"late": 1})


async def fill(sensor: Session) -> dict[str, Any]:
    """Send until something else than an ack is said; that."""
    told: dict[str, Any] = {"type": "ack"}
    while told["type"] == "ack":
        await sensor.send([{"t": "x" * 100}] * 20)
        told = await sensor.receive()
    return told


def unpacked(message: str | bytes) -> Any:
    """A message of the server's in msgpack."""
    assert isinstance(message, bytes)
    return msgpack.unpackb(message)


async def send_bad_utf8(sensor: Session) -> None:
    frame = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"\xff\xfe"
    await sensor.socket._stream.send_all(frame)
