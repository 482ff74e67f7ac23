from __future__ import annotations

from datetime import UTC, datetime

import trio
import trio.testing

from edge_agent.client import Trouble
from edge_agent.session import Window
from edge_agent.wire import WireLimits
from tests.client.stub import StubAgent, make


async def test_json_is_spoken_as_text(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    async with make(agent, format="json") as producer:
        await producer.send([{"n": 1}, {"n": 2}])
        await producer.send(21.5, stream="t", time=datetime(2026, 1, 1, tzinfo=UTC))
    assert all(isinstance(message, str) for message in agent.messages)
    assert agent.records[2] == (
        "me", 3, {"value": 21.5, "time": "2026-01-01T00:00:00Z", "stream": "t"}
    )  # fmt: skip


async def test_what_waits_goes_in_one_message(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    async with make(agent) as producer:
        for n in range(50):
            producer.send_nowait({"n": n})
    assert len(agent.messages) == 1
    assert agent.kept() == list(range(50))


async def test_a_list_longer_than_the_limits_is_cut_into_messages(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.limits = WireLimits(message_bytes=1000, record_bytes=500, batch_records=7)
    async with make(agent) as producer:
        await producer.send([{"n": n, "pad": "x" * 200} for n in range(10)])
        await producer.send([{"n": n} for n in range(10, 40)])
    assert agent.kept() == list(range(40))
    assert max(map(len, agent.messages)) <= 1000


async def test_a_nack_is_told_once_with_its_number_and_is_not_sent_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    troubles: list[Trouble] = []
    async with make(agent, on_error=troubles.append) as producer:
        await producer.send([{"n": 1}, {"n": 2, "time": "noon"}, {"n": 3}])
        await producer.flush(1)
        assert producer.acked == 3
    assert agent.kept() == [1, 3]
    assert [(t.kind, t.code, t.number) for t in troubles] == [("nack", "bad_time", 2)]


async def test_a_message_that_cannot_be_read_is_passed_singly_and_costs_only_itself(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    troubles: list[Trouble] = []
    producer = make(agent, on_error=troubles.append)
    async with producer:
        await producer.send({"n": 0})
        await producer.flush(1)
        good = [{"n": n} for n in range(1, 4)]
        await producer.send(good[:1])
        # Only a fault on the way makes such bytes; 0xc1 is never msgpack.
        await producer._buffer.append([b"\xc1"])
        await producer.send(good[1:])
        await producer.flush(600)
    assert agent.kept() == [0, 1, 2, 3]
    assert [(t.kind, t.number) for t in troubles if t.kind == "nack"] == [("nack", 3)]


async def test_no_more_is_in_flight_than_the_window_allows(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.window = Window(10, 1000)
    agent.holding = True
    async with make(agent) as producer:
        await producer.send([{"n": n} for n in range(35)])
        await trio.sleep(1)
        assert len(agent.records) == 10
        agent.holding = False
        await agent.release()
        await producer.flush(5)
    assert agent.kept() == list(range(35))


async def test_one_message_is_allowed_whatever_the_window_says(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.window = Window(0, 0)
    async with make(agent) as producer:
        await producer.send([{"n": n} for n in range(5)])
        await producer.flush(5)
    assert agent.kept() == [0, 1, 2, 3, 4]
