"""Other agents: blocks come in as they are, once, and never round in circles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from msgspec import structs
from trio_websocket import ConnectionRejected, WebSocketConnection

from edge_agent.config import Limits
from edge_agent.security.tokens import add_token
from edge_agent.server.agent_session import BACKLOG_BYTES
from edge_agent.session import MSGPACK_SESSION
from edge_agent.store import encode_runs
from edge_agent.values.clock_note import ClockNote
from edge_agent.values.record import ForeignBlock, Origin, Run
from edge_agent.wire import Segment, encode_segments
from tests.patience import PATIENCE_S, eventually
from tests.server.support import Serving, bystander, closed, connect, hurried, serving

SOURCE = "aaaaaaaaaaaa/hub/main/live"
NOW_NS = 1_795_341_600_000_000_000


def block(
    first: int,
    count: int,
    *,
    last: int | None = None,
    path: tuple[str, ...] = ("aaaaaaaaaaaa",),
    stream: str = "a/b",
    payload: bytes | None = None,
) -> ForeignBlock:
    """A block of ``count`` records as another agent stores it."""
    body = b"".join(msgpack.packb({"n": first + index}) for index in range(count))
    run = Run(stream, "pi", first, NOW_NS, True, count, body, NOW_NS, NOW_NS)
    raw = encode_runs([run]) if payload is None else payload
    origin = Origin(path[0], "epoch0", "main", first, bytes(16), 1, NOW_NS, True, path)
    end = first + count - 1 if last is None else last
    return ForeignBlock(first, end, count, 0, len(raw), raw, NOW_NS, NOW_NS, origin)


class Agent:
    """An agent that forwards, one message at a time."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket

    async def hello(self, source: str = SOURCE, **more: object) -> dict[str, Any]:
        await self.socket.send_message(msgpack.packb({"type": "hello", "source": source, **more}))
        return await self.receive()

    async def send(self, *segments: Segment | ForeignBlock) -> None:
        made = [Segment.of(each) if isinstance(each, ForeignBlock) else each for each in segments]
        await self.socket.send_message(encode_segments(made))

    async def receive(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE_S):
            message = await self.socket.get_message()
        assert isinstance(message, bytes)
        told: dict[str, Any] = msgpack.unpackb(message)
        return told

    async def acked(self, upto: int) -> None:
        while (told := await self.receive())["next"] < upto:
            assert told["type"] == "ack", told
        assert told["next"] == upto


@asynccontextmanager
async def agent(port: Serving, **more: Any) -> AsyncIterator[Agent]:
    async with connect(port, "/forward", MSGPACK_SESSION, **more) as socket:
        yield Agent(socket)


async def test_blocks_are_stored_as_they_came_under_the_agents_numbering(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        assert (await other.hello())["next"] == 1
        await other.send(block(1, 3), Segment(4, 9, "filtered"), block(10, 2))
        await other.acked(12)
        records = await port.records()
        assert [record.fields["n"] for record in records] == [1, 2, 3, 10, 11]
        assert [record.origin_seq for record in records] == [1, 2, 3, 10, 11]
        assert {record.origin for record in records} == {"aaaaaaaaaaaa"}
        assert await port.log.next_of("$forward/" + SOURCE) == 12
        (view,) = port.server.connections()
        assert (view.target.kind, view.source) == ("forward", "$forward/" + SOURCE)


async def test_a_large_message_is_taken_whatever_the_limit_for_sensors_is(tmp_path: Path) -> None:
    from edge_agent.config.quantities import Size
    from edge_agent.config.shape import Limits

    limits = Limits(message_bytes=Size(1000), record_bytes=Size(1000))
    async with serving(tmp_path, limits=limits) as port, agent(port) as other:
        welcome = await other.hello()
        assert welcome["limits"]["message_bytes"] == 1024 * 1024
        await other.send(block(1, 50_000))
        await other.acked(50_001)


async def test_what_was_sent_before_is_stored_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        for expected in (1, 4):
            async with agent(port) as other:
                epoch = port.log.identity.epoch
                assert (await other.hello(epoch=epoch, first=1))["next"] == expected
                if expected == 1:
                    await other.send(block(1, 3))
                    await other.acked(4)
        assert len(await port.records()) == 3


async def test_a_hub_that_lost_its_store_is_sent_from_the_oldest_record_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        assert (await other.hello(epoch="of the lost store", first=7))["next"] == 7
        await other.send(block(7, 3))
        await other.acked(10)


async def test_a_message_must_begin_where_the_last_one_ended(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, bystander(port) as neighbour, agent(port) as other:
        await other.hello()
        await other.send(block(1, 3))
        await other.acked(4)
        await other.send(block(5, 1))
        code, reason = await closed(other.socket)
        assert code == 1002
        assert "expected a message from 4 on" in reason
        await neighbour.is_served()


async def test_a_block_that_came_back_is_acked_and_dropped(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        own = port.log.identity.agent_id
        await other.hello()
        await other.send(block(1, 3, path=("aaaaaaaaaaaa", own)))
        await other.send(block(4, 2, path=(own, "aaaaaaaaaaaa")))
        await other.send(block(6, 1))
        await other.acked(7)
        assert [record.fields["n"] for record in await port.records()] == [6]
        assert port.metrics.get("records_dropped_total", "$loop") == 5


async def test_an_agent_that_sends_to_itself_is_told_and_nothing_is_acked(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, bystander(port) as neighbour, agent(port) as other:
        told = await other.hello(source=f"{port.log.identity.agent_id}/hub/main/live")
        assert (told["type"], told["code"]) == ("stop", "forbidden_origin")
        assert "its upstream is itself, or its store a copy" in told["message"]
        assert (await closed(other.socket))[0] == 1008
        await neighbour.is_served()


async def test_the_path_is_stored_as_it_came(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        await other.hello()
        await other.send(block(1, 1, path=("aaaaaaaaaaaa", "bbbbbbbbbbbb")))
        await other.acked(2)
        (stored,) = await port.log.read("main", 0)
        assert stored.origin is not None  # type: ignore[union-attr]  # one block, no gap
        assert stored.origin.path == ("aaaaaaaaaaaa", "bbbbbbbbbbbb")  # type: ignore[union-attr]


async def test_an_agents_own_streams_arrive_below_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        await other.hello()
        await other.send(block(1, 1, stream="$clock"))
        await other.acked(2)
        assert [record.stream for record in await port.records()] == ["$agents/aaaaaaaaaaaa/clock"]


async def test_a_block_whose_inside_is_broken_goes_to_quarantine_and_is_passed(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as port, bystander(port) as neighbour, agent(port) as other:
        await other.hello()
        await other.send(block(1, 3), block(4, 3, payload=b"\x91\x93not a run"), block(7, 1))
        await other.acked(8)
        numbers = [r.fields["n"] for r in await port.records() if r.source == "pi"]
        assert numbers == [1, 2, 3, 7]
        assert await port.quarantine() == [("bad_block", 4)]
        await neighbour.is_served()


async def test_a_payload_damaged_on_the_way_is_asked_for_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        async with agent(port) as other:
            await other.hello()
            data = bytearray(encode_segments([Segment.of(block(1, 100))]))
            data[len(data) // 2] ^= 1
            await other.socket.send_message(bytes(data))
            assert (await closed(other.socket))[0] == 1007
        async with agent(port) as other:
            assert (await other.hello())["next"] == 1
            await other.send(block(1, 100))
            await other.acked(101)


async def test_a_backlog_does_not_wait_for_the_commit_interval(tmp_path: Path) -> None:
    async with serving(tmp_path, interval=3600) as port, agent(port) as other:
        await other.hello()
        count = BACKLOG_BYTES // 5
        await other.send(block(1, count))
        # This one comes while the large one is being committed, and goes into another group.
        await other.send(block(count + 1, 3))
        await other.acked(count + 4)


async def test_what_is_no_backlog_waits_for_the_commit_interval(tmp_path: Path) -> None:
    listen = hurried(close_timeout=0.4)  # Nothing is acked, so that its end waits so long.
    async with serving(tmp_path, interval=3600, listen=listen) as port, agent(port) as other:
        await other.hello()
        await other.send(block(1, 3))
        await eventually(lambda: port.log.statistics().commit.waiting_records == 3, "appended")
        waiting = port.log.statistics().commit
        assert (waiting.waiting_entries, waiting.commits) == (1, 0)


async def test_two_lanes_do_not_judge_each_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as live, agent(port) as backlog:
        await live.hello("aaaaaaaaaaaa/hub/main/live")
        await backlog.hello("aaaaaaaaaaaa/hub/main/backlog")
        await live.send(block(1, 2))
        await backlog.send(block(1, 2))
        await live.acked(3)
        await backlog.acked(3)
        assert len(await port.records()) == 4


@pytest.mark.parametrize("source", ["a", "a/b/c", "a/b/c/d/e", "$x/b/c/d"])
async def test_a_source_that_is_no_agents_is_refused(tmp_path: Path, source: str) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        assert (await other.hello(source))["code"] == "bad_source"
        assert (await closed(other.socket))[0] == 1002


async def test_only_msgpack_sessions_are_let_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        for offered in (None, "edge-agent.v1+json"):
            with pytest.raises(ExceptionGroup) as caught:
                async with connect(port, "/forward", offered):
                    pass
            assert caught.group_contains(ConnectionRejected)


async def test_the_scope_forward_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = add_token(path, "a", forward=True)
    headers = [(b"Authorization", b"Bearer " + secret.encode())]
    async with serving(tmp_path, tokens=path) as port, agent(port, headers=headers) as other:
        assert (await other.hello())["type"] == "welcome"
        await eventually(lambda: port.server.connections() != [], "it is there")


async def test_clock_notes_are_kept_before_what_follows_them_is_acked(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        own = port.log.identity.agent_id
        await other.hello()
        told = [ClockNote(name, bytes(16), 5, 6, 2) for name in ("aaaaaaaaaaaa", own)]
        await other.socket.send_message(encode_segments((), told))
        await other.send(block(1, 1))
        await other.acked(2)
        # Nobody tells us of our own clock.
        assert port.log.clock_offsets["aaaaaaaaaaaa", bytes(16)] == 5
        assert (own, bytes(16)) not in port.log.clock_offsets
        newest, _ = port.log.clock_notes(0)
        # The same again says nothing new, with a message that has numbers or without.
        await other.socket.send_message(encode_segments((), told))
        await other.socket.send_message(encode_segments([Segment(2, 2, "filtered")], told))
        await other.send(block(3, 1))
        await other.acked(4)
        assert port.log.clock_notes(0)[0] == newest


async def test_what_another_agent_had_to_thin_is_taken_and_counted(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, agent(port) as other:
        await other.hello()
        thinned = structs.replace(block(1, 3, last=100), thinned=100)
        await other.send(thinned, Segment(101, 110, "thinned"), block(111, 1))
        await other.acked(112)
        assert [record.fields["n"] for record in await port.records()] == [1, 2, 3, 111]
        assert port.metrics.get("received_thinned_total") == 110


@pytest.mark.parametrize("most", [1024, 100_000])
async def test_a_record_of_too_many_values_is_nacked_alone_and_never_sent_again(
    tmp_path: Path, most: int
) -> None:
    # A hub that asks less of its sensors takes what agents take with usual limits all the same.
    head = ["pi", 1, NOW_NS, True]
    records: list[list[Any]] = [[{"a": [1] * count}] for count in (1, 60_000, 120_000, 1)]
    raw = msgpack.packb([["a/b", *head, place, some] for place, some in enumerate(records)])
    crowded = structs.replace(block(1, 4), payload=raw, raw_len=len(raw))
    async with serving(tmp_path, limits=Limits(record_values=most)) as port:
        async with agent(port) as other:
            await other.hello()
            await other.send(crowded)
            told = [await other.receive() for _ in range(2)]
            assert [one["type"] for one in told] == ["nack", "ack"] and told[1]["next"] == 5
            assert (told[0]["at"], told[0]["code"]) == (1, "too_many_values")
            expected = max(most, 65_536)
            assert f"'a/b' has more than {expected} values" in told[0]["message"]
            assert "edge-agent upstream resend" in told[0]["message"]
        async with agent(port) as other:
            assert (await other.hello())["next"] == 5
        assert await port.quarantine() == [("too_many_values", 1)]
        stored = [len(record.fields["a"]) for record in await port.records()]
        assert stored == [1, 60_000, 1]
