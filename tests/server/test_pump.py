"""What sessions and plain connections have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from edge_agent.commit import Closed, Ticket
from edge_agent.config.shape import Limits
from edge_agent.log import Log
from edge_agent.server.acks import Answers, Owed
from edge_agent.server.fair_turns import Turns
from edge_agent.server.pump import Feed
from edge_agent.server.websocket import WebSocket
from edge_agent.store import Entry, Numbering
from tests.server.support import closed, connect, serving, session

LIMITS = Limits(records_per_second=1)
#: A debt that nobody pays off while a test runs.
BATCH = [{"t": 1}] * 200


async def test_who_sends_faster_than_it_may_is_stopped_in_either_way(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=LIMITS) as port:
        async with session(port) as sensor:
            await sensor.hello("pi")
            await sensor.send(BATCH)
            await sensor.acked(201)
            await sensor.send(BATCH)
            assert (await sensor.receive())["code"] == "rate"
            assert (await sensor.closed())[0] == 1013
        port.server._parts.rates._buckets.clear()
        async with connect(port, "/ingest/a?ack=1") as socket:
            await socket.send_message(json.dumps(BATCH))
            assert json.loads(await socket.get_message()) == {"ack": 1}
            await socket.send_message(json.dumps(BATCH))
            assert (await closed(socket))[0] == 1013
        assert port.metrics.get("stops_total", "rate") == 2
        assert port.log.last_seq("main") == 400


class NarrowLog:
    """Takes entries while it has room; `append` waits for some."""

    def __init__(self) -> None:
        self.has_room = True
        self.room = trio.Event()
        self.closed = False
        self.taken: list[Entry] = []

    def offer(self, entry: Entry, *, lazy: bool = False) -> Ticket | None:
        if self.closed:
            raise Closed("the agent is stopping")
        if not self.has_room:
            return None
        self.taken.append(entry)
        return Ticket(entry)

    async def append(self, entry: Entry, *, lazy: bool = False) -> Ticket:
        await self.room.wait()
        if self.closed:
            raise Closed("the agent is stopping")
        self.taken.append(entry)
        return Ticket(entry)


class Debts:
    """Remembers what is owed."""

    def __init__(self) -> None:
        self.uptos: list[int] = []

    def owe(self, owed: Owed) -> None:
        self.uptos.append(owed.upto)


class Case:
    """A feed between an inert socket, a log and debts."""

    def __init__(self) -> None:
        self.log, self.debts = NarrowLog(), Debts()
        self.socket = WebSocketStub()
        self.turns = Turns()
        self.feed = Feed(
            cast(WebSocket, self.socket),
            cast(Log, self.log),
            cast(Answers, self.debts),
            self.turns,
        )

    async def until_end(self) -> None:
        await self.feed.until_end(read_on=self.socket.resume, go_on=self.socket.resume)


class WebSocketStub:
    """What a feed uses of a socket."""

    def __init__(self) -> None:
        self.end: str | None = None
        self.resumed = 0
        self.can_be_told = True
        self._stirred = trio.Event()

    def stir(self) -> None:
        self._stirred.set()

    async def wait_stirred(self) -> None:
        self._stirred = trio.Event()
        await self._stirred.wait()

    def interrupt(self, end: str) -> None:
        self.end = end
        self.stir()

    def resume(self) -> None:
        self.resumed += 1


def entry(number: int) -> Entry:
    return Entry(numbering=Numbering("pi", number, number + 1))


async def test_what_the_log_takes_is_owed_at_once() -> None:
    case = Case()
    assert case.feed.offer(entry(1), 2)
    assert case.log.taken == [entry(1)]
    assert case.debts.uptos == [2]
    assert case.feed.has_room


async def test_what_finds_no_room_is_appended_by_the_pumps_task_which_then_reads_on() -> None:
    case = Case()
    case.log.has_room = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.until_end)
        await trio.testing.wait_all_tasks_blocked()
        assert not case.feed.offer(entry(1), 2)
        assert not case.feed.has_room
        await trio.testing.wait_all_tasks_blocked()
        assert case.debts.uptos == []
        case.log.room.set()
        await trio.testing.wait_all_tasks_blocked()
        assert case.debts.uptos == [2]
        assert case.socket.resumed == 1
        case.log.has_room = True
        assert case.feed.offer(entry(2), 3)
        case.socket.interrupt("peer")
    assert case.log.taken == [entry(1), entry(2)]


async def test_what_waits_for_room_is_still_appended_after_the_end() -> None:
    case = Case()
    case.log.has_room = False
    case.feed.offer(entry(1), 2)
    case.socket.interrupt("peer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.until_end)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        case.log.room.set()
    assert case.debts.uptos == [2]


async def test_a_log_that_closes_ends_the_connection_either_way() -> None:
    case = Case()
    case.log.closed = True
    assert case.feed.offer(entry(1), 2)
    assert case.socket.end == "closing"
    case = Case()
    case.log.has_room = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.until_end)
        case.feed.offer(entry(1), 2)
        await trio.testing.wait_all_tasks_blocked()
        case.log.closed = True
        case.log.room.set()
    assert case.socket.end == "closing"
    assert case.debts.uptos == []


async def test_nothing_takes_the_place_of_an_entry_that_waits_for_room() -> None:
    case = Case()
    case.log.has_room = False
    assert not case.feed.offer(entry(0), 1)
    with pytest.raises(AssertionError):
        case.feed.offer(entry(1), 2)


async def test_who_does_not_read_its_acks_is_not_read_on_for_room_alone() -> None:
    case = Case()
    case.log.has_room = case.socket.can_be_told = False
    case.feed.offer(entry(1), 2)
    case.log.room.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.until_end)
        await trio.testing.wait_all_tasks_blocked()
        assert case.debts.uptos == [2]
        assert case.socket.resumed == 0
        case.socket.interrupt("idle")
