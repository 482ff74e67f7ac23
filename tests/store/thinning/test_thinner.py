"""A log at its share gives up detail before it gives up records; counted to the last one."""

from __future__ import annotations

import hashlib
import shutil
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from edge_agent.store import (
    Block,
    ConsumerSettings,
    Engine,
    Entry,
    Gap,
    LogSettings,
    Numbering,
    Position,
    Stored,
    encode_runs,
)
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import block_key
from edge_agent.store.repair.salvage import salvage
from edge_agent.store.thinning import thinner
from edge_agent.store.tools.check import check_store
from edge_agent.values.aggregates import THINNED_SOURCE
from edge_agent.values.record import Record, Run
from tests.store.conftest import Stores
from tests.store.support import foreign, pack, read_all, records, seeded, small

THIN = (LogSettings("main", share=0.15, when_full="thin-oldest"),)
UP = (ConsumerSettings("up", "main"),)
SMALL: dict[str, Any] = {"size": 1024 * 1024, "logs": THIN}
SENSORS, HERTZ = 3, 10


class Sent:
    """Sensors at 10 Hz, one commit a second; what became of all that they sent."""

    def __init__(self, stores: Stores, engine: Engine) -> None:
        self.stores, self.engine = stores, engine
        self.records = 0
        self.seconds = 0
        self.gone = 0
        self.thinned = 0

    def go_on(self, seconds: int, *, trims: bool = True) -> None:
        for _ in range(seconds):
            self.stores.clock.advance(1.0)
            first = 1 + HERTZ * self.seconds
            entries = tuple(self.entry(f"pi-{n}", first) for n in range(SENSORS))
            results = [self.engine.commit(entries)]
            assert all(isinstance(answer, Stored) for answer in results[0].answers)
            if results[0].crowded and trims:
                results.append(self.engine.trim())
            for result in results:
                self.gone += sum(result.trimmed.values()) + sum(result.discarded.values())
                self.thinned += sum(result.thinned.values())
            self.seconds += 1
            self.records += HERTZ * SENSORS

    def entry(self, source: str, first: int) -> Entry:
        now_ns = self.stores.clock.read().wall_ns
        fields = ({"v": self.records + i, "t": (self.records + i) % 7} for i in range(HERTZ))
        body = b"".join(map(pack, fields))
        run = Run(f"a/{source}", source, first, now_ns, True, HERTZ, body, now_ns, now_ns)
        return Entry(runs=(run,), numbering=Numbering(source, first, first + HERTZ))


def weight(record: Record) -> int:
    is_aggregate = record.source.startswith(THINNED_SOURCE)
    return int(record.fields["records"]) if is_aggregate else 1


def stand_for(engine: Engine, after: int = 0) -> int:
    return sum(map(weight, records(engine, after=after)))


def blocks_of(engine: Engine) -> list[Block]:
    return [item for item in read_all(engine) if isinstance(item, Block)]


def acknowledge(engine: Engine, floor: int) -> None:
    engine.commit([Entry(positions=(Position("up", "main", floor),))])


@pytest.mark.parametrize("consumers", [(), UP])
@pytest.mark.parametrize("trims", [True, False])
def test_counts_and_records_make_up_all_that_was_sent_but_what_was_discarded(
    stores: Stores, consumers: tuple[ConsumerSettings, ...], trims: bool
) -> None:
    engine = stores.open(consumers=consumers, **SMALL)
    sent = Sent(stores, engine)
    for _ in range(4):
        sent.go_on(125, trims=trims)
        assert stand_for(engine) + sent.gone == sent.records
        log = engine.statistics().logs["main"]
        assert log.bytes <= log.share_bytes
    assert sent.thinned > sent.records / 2
    assert log.thinned == sent.thinned
    assert 0 < log.aggregates < log.thinned / 50
    assert (log.first, log.last) == (1 + sent.gone, sent.records)
    assert log.records == len(records(engine))


def test_the_newest_quarter_keeps_every_record(stores: Stores) -> None:
    engine = stores.open(**SMALL)
    Sent(stores, engine).go_on(450)
    blocks = blocks_of(engine)
    kinds = [bool(block.thinned) for block in blocks]
    assert kinds == sorted(kinds, reverse=True), "first the thinned ones, then the others"
    assert kinds.count(False) > 60
    assert all(block.last + 1 == after.first for block, after in pairwise(blocks))


def test_a_commit_waits_for_thinning_only_where_nobody_did_it_before(stores: Stores) -> None:
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    sent.go_on(450)
    assert sent.thinned
    before = engine.statistics().logs["main"]
    result = engine.commit([sent.entry("pi-0", 1 + HERTZ * sent.seconds)])
    assert not result.thinned
    assert engine.statistics().logs["main"].thinned == before.thinned


@pytest.mark.parametrize("size, block_bytes", [(1024, 16), (512, 256)])
def test_a_full_log_goes_round_many_times_without_filling_the_file(
    stores: Stores, size: int, block_bytes: int
) -> None:
    """Free pages are needed before the old ones are free, and the file is full all the time: many
    streams whose aggregates are nearly as long as their records, so that it turns over quickly. The
    second file has not even headroom for one of its own blocks; there the oldest go instead.
    """
    logs = (LogSettings("main", share=0.8, when_full="thin-oldest"),)
    engine = stores.open(size=size * 1024, logs=logs, block_bytes=block_bytes * 1024)
    total = gone = thinned = written = 0

    def fields(value: int) -> bytes:
        return pack({"v": value, "pad": hashlib.shake_128(b"%d" % value).digest(50)})

    for _ in range(1500):
        stores.clock.advance(3.0)
        now_ns = stores.clock.read().wall_ns
        runs = tuple(
            Run(f"s/{n}", "pi", 0, now_ns, True, 1, fields(total + n), now_ns, now_ns)
            for n in range(60)
        )
        result = engine.commit([Entry(runs=runs)])
        assert isinstance(result.answers[0], Stored)
        total += 60
        written += result.block_bytes["main"]
        for one in (result, *((engine.trim(),) if result.crowded else ())):
            gone += sum(one.trimmed.values()) + sum(one.discarded.values())
            thinned += sum(one.thinned.values())
    assert written > 4 * engine.settings.share_bytes("main")
    assert thinned > total / 20
    assert gone
    assert stand_for(engine) + gone == total
    assert stores.data().stat().st_size == size * 1024


def test_what_everybody_has_is_trimmed_and_not_thinned(stores: Stores) -> None:
    engine = stores.open(consumers=UP, **SMALL)
    sent = Sent(stores, engine)
    for _ in range(10):
        sent.go_on(100)
        acknowledge(engine, engine.last_seq("main") - 300)
    log = engine.statistics().logs["main"]
    assert (log.thinned, log.discarded) == (0, 0)
    assert log.trimmed == sent.gone > 0


def test_what_a_consumer_may_have_in_part_stays_as_it_is(stores: Stores) -> None:
    engine = stores.open(consumers=UP, **SMALL)
    sent = Sent(stores, engine)
    sent.go_on(20)
    acknowledge(engine, 105)
    engine.note_handed("up", "main", 500)
    sent.go_on(350)
    assert sent.thinned
    blocks = blocks_of(engine)
    begun = next(block for block in blocks if block.first <= 106 <= block.last)
    assert begun.first < 106, "the position lies within a block"
    handed = [block for block in blocks if block.last > 105 and block.first <= 500]
    assert not any(block.thinned for block in handed)
    assert next(block for block in blocks if block.thinned).first > 500
    assert stand_for(engine) + sent.gone == sent.records


def test_all_of_a_consumers_later_records_are_in_aggregates_behind_its_position(
    stores: Stores,
) -> None:
    engine = stores.open(consumers=UP, **SMALL)
    sent = Sent(stores, engine)
    sent.go_on(20)
    acknowledge(engine, 300)
    sent.go_on(300)
    assert sent.thinned
    assert stand_for(engine, after=300) == sent.records - 300
    assert engine.first_seq("main") == 301 - (300 - sent.gone)


def test_ages_discards_and_reads_take_a_thinned_block_for_what_it_stands_for(
    stores: Stores,
) -> None:
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    sent.go_on(450)
    thinned = next(block for block in blocks_of(engine) if block.thinned)
    assert thinned.count < 100 < thinned.thinned
    assert [record.seq for record in thinned.records()] == sorted(
        {record.seq for record in thinned.records()}
    )
    # From anywhere within it the same block comes; nothing in between is a gap.
    for after in (thinned.first, thinned.last - 1):
        (found,) = engine.read("main", after, 1)
        assert isinstance(found, Block)
        assert (found.first, found.last) == (thinned.first, thinned.last)
    stores.clock.advance(40 * 86_400)
    for _ in range(5):
        result = engine.trim()
        sent.gone += sum(result.trimmed.values())
    assert engine.first_seq("main") == sent.records + 1
    assert sent.gone == sent.records


def test_very_many_streams_gain_nothing_and_are_discarded(stores: Stores) -> None:
    engine = stores.open(consumers=UP, **SMALL)
    gone = total = 0
    for group in range(500):
        stores.clock.advance(1.0)
        now_ns = stores.clock.read().wall_ns
        runs = tuple(
            Run(f"s/{group}-{n}", "pi", 0, now_ns, True, 1, pack({"v": n}), now_ns, now_ns)
            for n in range(50)
        )
        result = engine.commit([Entry(runs=runs)])
        total += 50
        gone += sum(result.discarded.values())
        assert not result.aggregates
    assert gone > 0
    assert stand_for(engine) + gone == total


def test_after_a_power_cut_all_of_a_step_is_there_or_nothing(stores: Stores) -> None:
    """The file as each commit left it, in the middle of what goes on: opened elsewhere."""
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    sent.go_on(260)
    seen = set()
    for cut in range(60):
        sent.go_on(5)
        copy = stores.path(f"cut-{cut}")
        shutil.copytree(stores.path(), copy)
        found = stores.open(f"cut-{cut}", **SMALL)
        assert found.salvage_report is None
        assert stand_for(found) + sent.gone == sent.records
        seen.add(found.statistics().logs["main"].thinned)
        found.close()
        assert not check_store(copy).problems
        shutil.rmtree(copy)
        stores.forget(f"cut-{cut}")
    assert len(seen) > 2, "some steps happened meanwhile"


def test_thinning_goes_on_where_it_was_after_a_start(stores: Stores) -> None:
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    sent.go_on(350)
    engine.close()
    sent.engine = engine = stores.open(**SMALL)
    assert engine.statistics().logs["main"].thinned == sent.thinned > 0
    sent.go_on(450)
    assert stand_for(engine) + sent.gone == sent.records


def test_a_damaged_block_is_left_where_it_is_and_thinning_goes_on_behind_it(
    stores: Stores,
) -> None:
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    sent.go_on(100)
    engine.close()
    stores.damaged.add("agent")
    key = block_key(1, 1 + 10 * HERTZ * SENSORS)
    env = open_environment(stores.path() / "store", 1024 * 1024)
    with writing(env) as txn:
        value = txn.get(key)
        assert value is not None
        txn.put(key, value[:-1] + bytes((value[-1] ^ 1,)))
    env.close()
    sent.engine = engine = stores.open(**SMALL)
    sent.go_on(450)
    assert sent.thinned
    gap = next(item for item in read_all(engine) if isinstance(item, Gap))
    assert (gap.first, gap.last, gap.reason) == (301, 330, "damaged")
    assert stand_for(engine) + sent.gone + HERTZ * SENSORS == sent.records


def test_a_salvage_keeps_thinned_blocks_and_what_they_were_counted_as(stores: Stores) -> None:
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    sent.go_on(450)
    engine.close()
    stores.damaged.add("agent")
    env = open_environment(stores.path() / "store", 1024 * 1024)
    with env.begin(write=True) as txn:
        txn.put(b"\x04", b"no header of a quarantine")
    env.close()
    sent.engine = engine = stores.open(**SMALL)
    assert engine.salvage_report is not None
    log = engine.statistics().logs["main"]
    assert log.thinned == sent.thinned > 0
    assert any(block.thinned for block in blocks_of(engine))
    assert stand_for(engine) + sent.gone == sent.records
    before = engine.last_seq("main")
    sent.go_on(450)
    assert engine.statistics().logs["main"].thinned == sent.thinned
    assert stand_for(engine, after=before) <= sent.records
    engine.close()
    assert not check_store(stores.path()).problems


def test_a_stretch_of_one_origin_is_thinned_under_that_origin(stores: Stores) -> None:
    engine = stores.open(**SMALL)
    number = 1
    for _ in range(450):
        stores.clock.advance(1.0)
        now_ns = stores.clock.read().wall_ns
        body = b"".join(pack({"v": i}) for i in range(30))
        payload = encode_runs([Run("$x", "pi", 0, now_ns, True, 30, body, now_ns, now_ns)])
        block = structs.replace(
            foreign(30, number), payload=payload, raw_len=len(payload), time_min_ns=now_ns,
            time_max_ns=now_ns,
        )  # fmt: skip
        number += 40  # a filter on the way has left some out
        result = engine.commit([Entry(blocks=(block,))])
        if result.crowded:
            engine.trim()
    made = next(block for block in blocks_of(engine) if block.thinned)
    assert made.origin is not None
    assert made.origin.first == 1
    assert made.origin.path == ("feedfacecafe",)
    found = list(made.records())
    assert {record.stream for record in found} == {"$agents/feedfacecafe/x"}
    assert {record.source for record in found} == {"$thin/pi"}
    assert [record.seq for record in found] == list(
        range(made.last - made.count + 1, made.last + 1)
    )
    assert sum(map(weight, found)) == made.thinned
    # The last of the records that one stands for: 40 numbers for 30 records.
    assert all(record.origin_seq % 40 == 30 for record in found)


def test_other_policies_never_thin(stores: Stores) -> None:
    engine = stores.open(size=1024 * 1024, logs=(LogSettings("main", share=0.3),))
    sent = Sent(stores, engine)
    sent.go_on(300)
    assert sent.thinned == 0
    assert not any(block.thinned for block in blocks_of(engine))


def test_one_step_reads_no_more_than_it_may(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thinner, "STEP_RAW_BYTES", 8192)
    engine = stores.open(**SMALL)
    sent = Sent(stores, engine)
    seen: list[int] = []
    for _ in range(450):
        sent.go_on(1, trims=False)
        result = engine.trim()
        seen.append(sum(result.thinned.values()))
        sent.gone += sum(result.discarded.values())
        sent.thinned += seen[-1]
    assert 0 < max(seen) < 2 * 8192 / 20
    assert stand_for(engine) + sent.gone == sent.records


def test_what_was_thinned_before_a_salvage_is_looked_at_again_in_steps(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.damaged.add("agent")
    engine = stores.open(consumers=UP, **SMALL)
    sent = Sent(stores, engine)
    sent.go_on(1500)
    engine.close()
    settings = small(consumers=UP, **SMALL)
    salvage(stores.path(), settings, stores.clock, seeded(5), "to see what is looked at")
    engine = sent.engine = stores.open(consumers=UP, **SMALL)
    before = blocks_of(engine)
    assert sum(block.thinned > 0 for block in before) > 8
    while not engine.commit([sent.entry("pi-0", 1 + HERTZ * sent.seconds)]).crowded:
        sent.go_on(1, trims=False)
    monkeypatch.setattr(thinner, "STEP_BLOCKS", 5)
    assert engine.trim().crowded
    assert engine._state.logs["main"].looked == before[5].last
    assert engine.trim().crowded
    assert engine._state.logs["main"].looked == before[11].last
