from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.client import Backoff, Opened, Producer, Unacked
from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.wire import WireLimits
from tests.client.stub import StubAgent, make
from tests.patience import PATIENCE_S


async def test_what_is_sent_arrives_in_order_and_is_acked(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    acks: list[int] = []
    async with make(agent, on_ack=acks.append) as producer:
        assert await producer.send({"n": 1}) == 1
        assert await producer.send([{"n": 2}, {"n": 3}]) == 3
        await producer.flush(1)
        assert (producer.acked, producer.unacked) == (3, 0)
    assert agent.kept() == [1, 2, 3]
    assert acks[-1] == 3


async def test_a_record_over_the_limit_is_refused_by_send_with_both_sizes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.limits = WireLimits(record_bytes=100)
    async with make(agent) as producer:
        await producer.send({"n": 1})
        await producer.flush(1)
        with pytest.raises(ProtocolError, match=r"record 2 of 2 has 2\d\d bytes; 100 may") as e:
            await producer.send([{"n": 2}, {"n": "x" * 200}])
        assert e.value.code == "too_big"
    assert agent.kept() == [1]


async def test_numbering_continues_where_an_earlier_process_ended(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    for n in (1, 2):
        async with make(agent) as producer:
            assert await producer.send({"n": n}) == 1
    assert [(number, record["n"]) for _, number, record in agent.records] == [(1, 1), (2, 2)]


async def test_a_full_buffer_makes_send_wait_and_send_nowait_say_so(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.holding = True
    async with make(agent, buffer_records=3) as producer:
        await producer.send([{"n": 1}, {"n": 2}, {"n": 3}])
        with pytest.raises(trio.WouldBlock):
            producer.send_nowait({"n": 4})
        with trio.move_on_after(5) as waited:
            await producer.send({"n": 4})
        assert waited.cancelled_caught
        agent.holding = False
        await agent.release()
        await producer.send([{"n": n} for n in range(4, 20)])
    assert agent.kept() == list(range(1, 20))


async def test_bytes_bound_the_buffer_too_but_never_one_record(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.holding = True
    async with make(agent, buffer_bytes=1000) as producer:
        producer.send_nowait({"n": "x" * 5000})
        with pytest.raises(trio.WouldBlock):
            producer.send_nowait({"n": 2})
        await trio.testing.wait_all_tasks_blocked()
        agent.holding = False
        await agent.release()
        await producer.send({"n": 2})
    assert agent.kept()[1] == 2


async def test_numbered_records_that_the_agent_has_are_not_sent_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    lines = [{"n": n} for n in range(1, 11)]
    async with make(agent, numbered=True) as producer:
        await producer.send(lines[:6])
    opened: list[Opened] = []
    async with make(agent, numbered=True, buffer_records=4, on_open=opened.append) as producer:
        await producer.send(lines)
        await producer.flush(10)
        assert producer.acked == 10
    assert opened[0].next == 7
    assert agent.kept() == list(range(1, 11))


async def test_leaving_without_acks_raises_and_says_how_many(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.reachable = False
    with pytest.raises(Unacked, match="closed after 2 s with 2 records not acked") as caught:
        async with make(agent, close_timeout=2) as producer:
            await producer.send([{"n": 1}, {"n": 2}])
    assert caught.value.count == 2


async def test_the_bodys_own_error_comes_out_as_it_was_raised(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    with pytest.raises(ZeroDivisionError):
        async with make(agent) as producer:
            await producer.send({"n": 1 // 0})


async def test_an_error_in_a_callback_ends_the_producer_and_comes_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)

    def fail(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError):  # noqa: PT012 - the scope is what raises
        async with make(agent, on_ack=fail) as producer:
            await producer.send({"n": 1})
            await trio.sleep(60)
            raise AssertionError("the body must have been cancelled")


async def test_a_flush_in_vain_times_out_and_loses_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.reachable = False
    async with make(agent, backoff=Backoff(maximum=1)) as producer:
        await producer.send({"n": 1})
        with pytest.raises(trio.TooSlowError):
            await producer.flush(3)
        agent.reachable = True
        await producer.flush(3)
    assert agent.kept() == [1]


async def test_with_a_buffer_on_disk_a_second_process_sends_what_the_first_could_not(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    agent = StubAgent(nursery)
    path = tmp_path / "buffer"
    fast = Backoff(base=0.01, maximum=0.01)
    async with make(agent, buffer_path=path, backoff=fast) as producer:
        await producer.send({"n": 1})
        await producer.flush(PATIENCE_S)
        agent.cut_after = 2
        await producer.send({"n": 2})
        while len(agent.records) < 2:
            await trio.sleep(0.001)
        agent.reachable = False
        await producer.send({"n": 3})
        producer._close_timeout = 0
    agent.reachable = True
    async with make(agent, buffer_path=path, backoff=fast) as producer:
        assert await producer.send({"n": 4}) == 4
        await producer.flush(PATIENCE_S)
    assert [(number, record["n"]) for _, number, record in agent.records] == [
        (1, 1), (2, 2), (3, 3), (4, 4)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url, source, says",
    [
        ("http://h/ingest/s", "me", "a URL like ws://"),
        ("ws://h/other/s", "me", "a path /ingest/STREAM"),
        ("ws://h/ingest/$x", "me", "the agent's own"),
        ("ws://h/ingest/s", "a b", "a source name has parts"),
        ("ws://u:p@h/ingest/s", "me", "the token beside the URL"),
    ],
)
def test_a_mistake_in_the_arguments_is_told_at_once(url: str, source: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Producer(url, source=source)
    assert says in str(caught.value)


@pytest.mark.parametrize("token", ["", "\n", "two words", "two\nlines", "schlüssel", "a\x00b"])
def test_what_is_no_token_is_told_at_once_and_never_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="one word") as caught:
        Producer("ws://h/ingest/s", source="me", token=token)
    assert not token.strip() or token not in str(caught.value)
