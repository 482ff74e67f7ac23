"""One connection per source: who waits for whom."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.metrics import Metrics
from edge_agent.server.source_claims import Claims


class Holder:
    """A connection that claims a source, and lets go when told."""

    def __init__(self, claims: Claims, source: str = "pi") -> None:
        self.claims, self.source = claims, source
        self.interrupted = 0
        self.thrown_out = trio.Event()
        self.has = trio.Event()
        self.let_go = trio.Event()

    def interrupt(self) -> None:
        self.interrupted += 1
        self.thrown_out.set()

    async def run(self) -> None:
        claim = self.claims.take(self.source, self.interrupt)
        try:
            await self.claims.settled(claim)
            self.has.set()
            await self.let_go.wait()
        finally:
            self.claims.release(claim)


async def test_a_second_claim_interrupts_the_first_and_waits_for_it() -> None:
    metrics = Metrics()
    claims = Claims(metrics)
    first, second = Holder(claims), Holder(claims)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run)
        await first.has.wait()
        nursery.start_soon(second.run)
        await trio.testing.wait_all_tasks_blocked()
        assert first.interrupted == 1
        assert not second.has.is_set()
        first.let_go.set()
        await second.has.wait()
        second.let_go.set()
    assert metrics.get("takeovers_total") == 1


async def test_other_sources_are_not_concerned() -> None:
    claims = Claims(Metrics())
    first, second = Holder(claims, "a"), Holder(claims, "b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run)
        nursery.start_soon(second.run)
        await first.has.wait()
        await second.has.wait()
        assert first.interrupted == 0
        first.let_go.set()
        second.let_go.set()


async def test_a_third_waits_for_all_that_came_before(autojump_clock: trio.abc.Clock) -> None:
    claims = Claims(Metrics())
    first, second, third = Holder(claims), Holder(claims), Holder(claims)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run)
        await first.has.wait()
        nursery.start_soon(second.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(third.run)
        await trio.sleep(1)
        assert second.interrupted == 1
        second.let_go.set()
        await trio.sleep(1)
        assert not third.has.is_set()
        first.let_go.set()
        await third.has.wait()
        third.let_go.set()


async def test_one_that_gives_up_while_waiting_leaves_the_first_to_be_waited_for(
    autojump_clock: trio.abc.Clock,
) -> None:
    claims = Claims(Metrics())
    first, second, third = Holder(claims), Holder(claims), Holder(claims)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run)
        await first.has.wait()
        with trio.move_on_after(1):
            await second.run()
        nursery.start_soon(third.run)
        await trio.sleep(1)
        assert not third.has.is_set()
        assert first.interrupted == 2
        first.let_go.set()
        await third.has.wait()
        third.let_go.set()


async def test_repeated_takeovers_wait_longer_each_time(autojump_clock: trio.abc.Clock) -> None:
    claims = Claims(Metrics())
    waits = []
    async with trio.open_nursery() as nursery:
        holder = Holder(claims)
        nursery.start_soon(holder.run)
        await holder.has.wait()
        for _ in range(5):
            since = trio.current_time()
            newer = Holder(claims)
            nursery.start_soon(newer.run)
            await holder.thrown_out.wait()
            holder.let_go.set()
            await newer.has.wait()
            waits.append(trio.current_time() - since)
            holder = newer
        holder.let_go.set()
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert 1 < waits[-1] < 16


async def test_while_a_repeated_takeover_waits_the_holder_goes_on(
    autojump_clock: trio.abc.Clock,
) -> None:
    metrics = Metrics()
    claims = Claims(metrics)
    first, second, third = Holder(claims), Holder(claims), Holder(claims)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run)
        await first.has.wait()
        nursery.start_soon(second.run)
        await first.thrown_out.wait()
        first.let_go.set()
        await second.has.wait()
        since = trio.current_time()
        nursery.start_soon(third.run)
        await trio.sleep(0.1)
        assert second.interrupted == 0
        # It leaves by itself: nobody has to wait any longer, and nobody was taken over.
        second.let_go.set()
        await third.has.wait()
        assert trio.current_time() == pytest.approx(since + 0.1)
        third.let_go.set()
    assert metrics.get("takeovers_total") == 1


async def test_a_takeover_long_after_the_last_one_is_not_slowed(
    autojump_clock: trio.abc.Clock,
) -> None:
    claims = Claims(Metrics())
    async with trio.open_nursery() as nursery:
        holder = Holder(claims)
        nursery.start_soon(holder.run)
        await holder.has.wait()
        for _ in range(3):
            await trio.sleep(100)
            since = trio.current_time()
            newer = Holder(claims)
            nursery.start_soon(newer.run)
            await holder.thrown_out.wait()
            holder.let_go.set()
            await newer.has.wait()
            assert trio.current_time() == since
            holder = newer
        holder.let_go.set()


async def test_a_source_that_is_free_is_claimed_at_once_and_counts_no_takeover() -> None:
    metrics = Metrics()
    claims = Claims(metrics)
    for _ in range(3):
        holder = Holder(claims)
        holder.let_go.set()
        await holder.run()
    assert metrics.get("takeovers_total") == 0
