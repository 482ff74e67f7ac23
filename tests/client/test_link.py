from __future__ import annotations

import ssl
from typing import Any

import trio
import trio.testing

from edge_agent.client import Backoff, Trouble
from tests.client.stub import StubAgent, make


async def test_a_cut_after_the_commit_doubles_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.cut_after = 1
    closes: list[str] = []
    async with make(agent, on_close=closes.append) as producer:
        await producer.send([{"n": 1}, {"n": 2}])
        await producer.flush(120)
    assert agent.kept() == [1, 2]
    assert agent.hellos == [(None, None), ("epoch-1", 1)]
    assert len(closes) == 2  # the cut, and our own goodbye


async def test_a_cut_before_the_commit_loses_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.deaf_after = 2
    async with make(agent) as producer:
        for n in range(5):
            await producer.send({"n": n})
            await trio.sleep(1)
        await producer.flush(120)
    assert agent.kept() == [0, 1, 2, 3, 4]


async def test_with_a_new_epoch_only_the_unacked_is_sent_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    troubles: list[Trouble] = []
    async with make(agent, on_error=troubles.append) as producer:
        await producer.send({"n": 1})
        await producer.flush(1)
        agent.holding, agent.cut_after = True, 2
        await producer.send({"n": 2})
        await trio.testing.wait_all_tasks_blocked()
        # The store is deleted, and with it what was stored.
        agent.epoch, agent.next, agent.holding = "epoch-2", {}, False
        agent.records.clear()
        await producer.send({"n": 3})
        await producer.flush(120)
    assert agent.kept() == [2, 3]
    assert agent.hellos[-1] == ("epoch-1", 2)
    assert "renumbered" in [trouble.kind for trouble in troubles]


async def test_numbers_that_somebody_else_used_lose_none_of_ours(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    troubles: list[Trouble] = []
    async with make(agent, on_error=troubles.append) as producer:
        await producer.send({"n": 1})
        await producer.flush(1)
        agent.reachable, agent.cut_after = False, 2
        await producer.send({"n": 2})
        await trio.testing.wait_all_tasks_blocked()
        agent.next["me"] = 50
        agent.reachable = True
        await producer.send({"n": 3})
        await producer.flush(200)
    # Number 2 was ours or theirs, nobody can tell: rather twice than lost.
    assert [(number, record["n"]) for _, number, record in agent.records] == [
        (1, 1), (2, 2), (50, 2), (51, 3)
    ]  # fmt: skip
    assert [trouble.kind for trouble in troubles if trouble.kind == "renumbered"]


async def test_a_stop_is_respected_and_what_it_refused_arrives_later(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.stop = ("store_full", 40.0)
    troubles: list[Trouble] = []
    async with make(agent, on_error=troubles.append) as producer:
        await producer.send({"n": 1})
        await producer.flush(100)
    assert [(t.kind, t.code) for t in troubles] == [("stop", "store_full")]
    assert 40 <= agent.dialled_at[1] - agent.dialled_at[0] < 45
    assert agent.kept() == [1]


async def test_a_token_as_it_is_read_from_a_file_is_sent_without_the_line_feed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    async with make(agent, token="secret\n") as producer:
        await producer.send({"n": 1})
        await producer.flush(100)
    assert (b"authorization", b"Bearer secret") in agent.headers


async def test_a_refused_token_is_told_with_the_agents_sentence_and_tried_slowly(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.refuse = (401, b"unknown token")
    troubles: list[Trouble] = []
    async with make(agent, token="secret", on_error=troubles.append) as producer:
        await producer.send({"n": 1})
        await trio.sleep(100)
        assert (b"authorization", b"Bearer secret") in agent.headers
        agent.refuse = None
        await producer.flush(100)
    assert troubles[0].kind == "refused"
    assert troubles[0].status == 401 and troubles[0].lasting
    assert troubles[0].message == "HTTP 401: unknown token"
    assert agent.dials <= 5
    assert agent.kept() == [1]


async def test_while_nobody_answers_attempts_become_rare_and_jittered(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    agent.reachable = False
    async with make(agent, backoff=Backoff(base=1, maximum=30)) as producer:
        await producer.send({"n": 1})
        await trio.sleep(600)
        assert 20 < agent.dials < 80
        agent.reachable = True
        await producer.flush(31)
    pauses = {round(b - a, 3) for a, b in zip(agent.dialled_at, agent.dialled_at[1:], strict=False)}
    assert len(pauses) > 10
    assert max(pauses) <= 30


async def test_a_silent_peer_is_left_and_the_data_goes_to_the_next_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)
    troubles: list[Trouble] = []
    real_dial, deaf = agent.dial, True

    async def dial(host: str, port: int, tls: Any) -> trio.abc.Stream:
        if deaf:
            # Takes everything and never says a word, like a host that has lost its power.
            agent.dialled_at.append(trio.current_time())
            return trio.testing.memory_stream_pair()[0]
        return await real_dial(host, port, tls)

    async with make(agent, dial=dial, on_error=troubles.append, connect_timeout=5) as producer:
        await producer.send({"n": 1})
        await trio.sleep(6)
        deaf = False
        await producer.flush(100)
    assert troubles[0].message == "no answer to the upgrade within 5 s"
    assert agent.kept() == [1]


class Unsendable(trio.abc.Stream):
    """Fails to send from the ``good``-th time on, and waits for something to read all the same."""

    def __init__(self, inner: trio.abc.Stream, good: int) -> None:
        self._inner, self._good = inner, good

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._good -= 1
        if self._good < 0:
            raise trio.BrokenResourceError("the sending side of TLS is broken")
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_a_stream_that_only_fails_to_send_holds_up_no_further_attempt(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    agent = StubAgent(nursery)

    async def dial(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        stream = await agent.dial(host, port, tls)
        # The upgrade and the hello get through the first time, the first record does not.
        return Unsendable(stream, 2) if agent.dials == 1 else stream

    async with make(agent, dial=dial) as producer:
        await producer.send({"n": 1})
        await producer.flush(120)
    assert agent.kept() == [1]
    assert agent.dials == 2
