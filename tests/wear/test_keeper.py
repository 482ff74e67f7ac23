"""The budget over days on a clock that is turned; what is told; what is noted for good."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from trio.testing import MockClock

from edge_agent.commit import CommitStatistics, Committer
from edge_agent.config import Config, parse
from edge_agent.errors import StoreFailed
from edge_agent.metrics import Metrics
from edge_agent.ops.forecast import about_budget
from edge_agent.store import CommitResult, Entry
from edge_agent.system.clock import Reading
from edge_agent.wear.keeper import Keeper, Ledger
from tests.commit.recording import RecordingStore, committer_on, entry
from tests.manual_clock import ManualClock
from tests.waist import open_waist, run_of

DAY_S = 86_400.0


@dataclass
class Card:
    """A counter that a test turns."""

    written: int | None = 0
    source: str = "counted by a test"

    def bytes(self) -> int | None:
        return self.written


class TrioClock:
    """Trio's clock as the boot clock, so that a mock clock turns both."""

    def read(self) -> Reading:
        now_ns = round(trio.current_time() * 1e9)
        return Reading(1_795_341_600_000_000_000 + now_ns, now_ns, bytes(16), synced=True)


class WritingStore(RecordingStore):
    """Writes 26,000 bytes for each commit and the records' bytes, to a card that counts."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card, self.at = card, list[tuple[float, int]]()

    def commit(self, entries: Sequence[Entry]) -> CommitResult:
        size = 26_000 + sum(len(run.body) for one in entries for run in one.runs)
        assert self.card.written is not None
        self.card.written += size
        self.at.append((trio.current_time(), size))
        return super().commit(entries)


@dataclass
class Waist:
    """Of the log what the keeper asks for; ``state`` is what the store holds of its note."""

    committer: Committer
    state: bytes | None = None
    failing: bool = False
    notes: list[bytes] = field(default_factory=list)

    def spread(self, intervals: dict[str, float], lazy_s: float) -> None:
        self.committer.spread(intervals, lazy_s)

    def offer(self, entry: Entry, *, lazy: bool) -> object:
        assert lazy and entry.positions[0].floor == 0 and not entry.runs
        self.notes.append(entry.positions[0].state or b"")
        return self.committer.offer(entry, lazy=lazy)

    async def position(self, consumer: str, log: str) -> tuple[int, bytes | None]:
        await trio.lowlevel.checkpoint()
        if self.failing:
            raise StoreFailed("input/output error")
        return 0, self.state


@dataclass
class Rig:
    """A committer on a writing store, its keeper, and how long acks took."""

    store: WritingStore
    committer: Committer
    keeper: Keeper
    waist: Waist
    metrics: Metrics
    acks: list[float] = field(default_factory=list)

    async def sensor(self, every_s: float, seconds: float, *, size: int = 500) -> None:
        """A record now and then, for so long."""
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            ticket = await self.committer.append(entry("telemetry", size=size))
            began = trio.current_time()
            ticket.watcher = lambda began=began: self.acks.append(trio.current_time() - began)
            await trio.sleep(every_s)

    def most_in_a_day(self) -> int:
        """Bytes in the fullest 24 hours, looked at each hour."""
        hours = [0] * (int(self.store.at[-1][0] // 3600) + 1)
        for at, size in self.store.at:
            hours[int(at // 3600)] += size
        return max(sum(hours[index : index + 24]) for index in range(max(1, len(hours) - 23)))


@asynccontextmanager
async def rig(text: str, *, records: int = 50_000) -> AsyncIterator[Rig]:
    config = parse(text, "test")
    card, metrics = Card(), Metrics()
    store = WritingStore(card)
    committer = committer_on(store, records=records, metrics=metrics)
    committer.spread({name: float(one.commit_interval) for name, one in config.log.items()})
    waist = Waist(committer)
    keeper = Keeper(config, waist, TrioClock(), metrics, own=card, card=card)  # type: ignore[arg-type]  # of the log only what is asked

    async def ticking() -> None:
        while True:
            await keeper.tick()
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        nursery.start_soon(ticking)
        yield Rig(store, committer, keeper, waist, metrics)
        nursery.cancel_scope.cancel()


BUDGET = '[wear]\nbytes_per_day_max = "200MB"\n[log.main]\ncommit_interval = "5s"\n'


async def test_over_days_the_budget_is_kept_and_acks_come_within_the_bound(
    autojump_clock: MockClock,
) -> None:
    """Without a budget it would be 230 MB a day."""
    async with rig(BUDGET.replace("200MB", "100MB").replace("5s", "10s")) as running:
        await running.sensor(10, 1.5 * DAY_S)
        told = running.keeper.look()
    assert 0.85 * 100e6 <= running.most_in_a_day() <= 100e6
    assert max(running.acks) <= 60.0
    assert told.budget is not None and told.budget.kept and not told.budget.at_bound
    assert told.day.written_bytes is not None and told.day.written_bytes <= 100e6
    assert about_budget(told) == (
        f"commits are spread to {told.budget.interval_s:.3g} s to keep 100 MB a day"
    )


async def test_without_a_budget_no_interval_is_touched(autojump_clock: MockClock) -> None:
    async with rig('[log.main]\ncommit_interval = "5s"\n') as running:
        await running.sensor(5, 3600)
        assert running.keeper.look().budget is None
    assert running.committer.intervals["main"] == 5
    assert max(running.acks) == pytest.approx(5)


async def test_a_log_with_a_bound_of_its_own_stays_quick(autojump_clock: MockClock) -> None:
    alarms = '[log.alarms]\nshare = "5%"\ncommit_interval = "50ms"\ncommit_interval_max = "200ms"\n'
    async with rig(BUDGET.replace("200MB", "20MB") + alarms) as running:
        await running.sensor(5, DAY_S / 4)
        assert running.committer.intervals == {"main": 60.0, "alarms": 0.2}


async def test_a_budget_that_cannot_be_kept_is_told_with_the_reason(
    autojump_clock: MockClock,
) -> None:
    async with rig(BUDGET) as running:
        await running.sensor(10, DAY_S / 4, size=50_000)  # 0.43 GB a day of records alone
        running.metrics.add("committed_bytes_total", 10_000, "main")
        told = running.keeper.look()
    assert told.budget is not None and told.budget.at_bound and not told.budget.kept
    assert max(running.acks) <= 60.0
    sentence = about_budget(told)
    assert sentence is not None and "more than the budget of 200 MB a day" in sentence


async def test_while_widened_a_lazy_entry_waits_as_long_as_the_records(
    autojump_clock: MockClock,
) -> None:
    """Else an upstream's acknowledgement would be what commits, every 30 s."""
    async with rig(BUDGET.replace("200MB", "20MB")) as running:
        await running.sensor(5, DAY_S / 8)
        assert running.committer._lazy_s == 60.0
        await trio.sleep(DAY_S / 4)  # at rest, all is as it was
        await running.sensor(5, 30)
        assert running.committer._lazy_s == 30.0


async def test_what_nobody_counts_is_not_judged(autojump_clock: MockClock) -> None:
    async with rig(BUDGET) as running:
        card = running.store.card
        running.keeper._own = running.keeper._card = Card(None)
        await running.sensor(5, 3600)
        told = running.keeper.look()
        assert card.written
    assert told.counted_by is None and told.hour.written_bytes is None
    assert told.budget is not None and told.budget.factor == 1 and told.budget.kept
    assert told.total_bytes is None and told.life_s is None


async def test_the_total_is_noted_now_and_then_and_not_at_rest(autojump_clock: MockClock) -> None:
    async with rig('[log.main]\ncommit_interval = "5s"\n') as running:
        await running.sensor(5, 2 * 3600)
        noted = len(running.waist.notes)
        assert 10 <= noted <= 12  # every ten minutes
        assert Ledger.decode(running.waist.notes[-1]).own > 20_000_000
        commits = len(running.store.at)
        await trio.sleep(DAY_S)
        assert len(running.waist.notes) <= noted + 1
        assert len(running.store.at) <= commits + 2


async def test_the_total_goes_on_where_the_last_run_ended(autojump_clock: MockClock) -> None:
    async with rig('[wear]\nendurance = "30TB"\n[log.main]\ncommit_interval = "5s"\n') as running:
        running.waist.state = Ledger(10**12, 12 * 10**12, 1_700_000_000_000_000_000).encode()
        running.keeper._before = None
        await running.sensor(5, 3600)
        told = running.keeper.look()
    written = running.store.card.written
    assert written is not None and written > 10_000_000
    assert told.total_bytes == 10**12 + written
    assert told.total_card_bytes == 12 * 10**12 + written
    assert told.total_since == "2023-11-14T22:13:20Z"
    # What is left, at the rate of the hour that it ran.
    assert told.life_s is not None
    assert told.life_s == pytest.approx(18 * 10**12 / written * 3600, rel=0.01)


async def test_a_store_that_refuses_is_asked_again(autojump_clock: MockClock) -> None:
    async with rig("") as running:
        running.waist.failing, running.keeper._before = True, None
        await trio.sleep(60)
        assert running.keeper.look().total_bytes is None
        running.waist.failing = False
        await trio.sleep(20)
        assert running.keeper.look().total_bytes == 0


async def test_a_new_store_begins_when_the_agent_started_by_a_clock_that_is_set() -> None:
    clock, metrics = ManualClock(synced=False), Metrics()
    store = WritingStore(Card())
    waist: Any = Waist(committer_on(store))
    keeper = Keeper(Config(), waist, clock, metrics, own=store.card, card=store.card)
    await keeper.tick()
    assert keeper.look().total_since is None
    clock.advance(3600)
    clock.step_wall(1_795_341_600_000_000_000 + 3600 * 10**9, synced=True)
    assert keeper.look().total_since == "2026-11-22T10:00:00Z"


async def test_the_counters_are_metrics(autojump_clock: MockClock) -> None:
    async with rig("") as running:
        running.store.card.written = 5000
        running.keeper.look()
        running.store.card.written = 7000
        running.keeper.look()
        for by in ("agent", "everybody"):
            assert running.metrics.get("device_written_bytes_total", by) == 7000


async def test_the_note_survives_in_a_real_store(tmp_path: Path) -> None:
    clock, card = ManualClock(), Card()
    async with open_waist(tmp_path, clock=clock) as waist:
        keeper = Keeper(Config(), waist.log, clock, Metrics(), own=card, card=card)
        await keeper.tick()
        card.written = 5_000_000
        clock.advance(601)
        await keeper.tick()
        await (await waist.log.append(Entry((run_of({"t": 1}),)))).wait()
    async with open_waist(tmp_path, clock=clock) as waist:
        again = Keeper(Config(), waist.log, clock, Metrics(), own=Card(0), card=Card(0))
        await again.tick()
        told = again.look()
    assert (told.total_bytes, told.total_card_bytes) == (5_000_000, 5_000_000)


async def test_an_agent_that_stops_notes_nothing_more() -> None:
    clock, card = ManualClock(), Card()
    committer = committer_on(WritingStore(card))
    waist: Any = Waist(committer)
    keeper = Keeper(Config(), waist, clock, Metrics(), own=card, card=card)
    await keeper.tick()
    committer.close()
    card.written = 5_000_000
    clock.advance(601)
    await keeper.tick()
    assert isinstance(committer.statistics(), CommitStatistics)


def test_what_was_noted_is_read_back() -> None:
    ledger = Ledger(10**12, 2 * 10**12, 1_795_341_600_000_000_000, "035344534c333247")
    assert Ledger.decode(ledger.encode()) == ledger
    assert len(ledger.encode()) < 60


def test_it_may_grow_at_its_end() -> None:
    assert Ledger.decode(msgpack.packb([1, 2, 3, "a", "later"])) == Ledger(1, 2, 3, "a")


@pytest.mark.parametrize("raw", [None, b"", b"\xc1", b"\x90", b"\x93\x01", msgpack.packb("abc")])
def test_what_cannot_be_read_begins_anew(raw: bytes | None) -> None:
    assert Ledger.decode(raw) == Ledger()


def test_more_is_added_to_both() -> None:
    assert Ledger(1, 2, 3).add(10, 20) == Ledger(11, 22, 3)


@pytest.mark.parametrize(
    "noted,here,expected",
    [
        ("a", "a", Ledger(1, 2, 3, "a")),
        ("a", "b", Ledger(device="b")),
        ("", "b", Ledger(1, 2, 3, "b")),
        ("a", "", Ledger(1, 2, 3, "a")),
        ("", "", Ledger(1, 2, 3)),
    ],
)
def test_on_another_card_a_new_note_begins(noted: str, here: str, expected: Ledger) -> None:
    assert Ledger.decode(Ledger(1, 2, 3, noted).encode(), here) == expected
