from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import structs

from edge_agent.config import Size
from edge_agent.errors import SinkRefused
from edge_agent.forward.batches import planned_reader
from edge_agent.forward.batches.open_reader import OpenBatches
from edge_agent.forward.batches.plan import (
    RANGES_MAX,
    RANGES_MAX_QUICK,
    SINGLES_MAX,
    Plan,
    decode_plan,
    encode_plan,
    shape_of,
)
from edge_agent.forward.batches.planned_reader import PlannedBatches, SinkMisconfigured
from edge_agent.forward.consumer_orders import LogRange, position_for
from edge_agent.forward.sink import Batch
from edge_agent.store import (
    Block,
    ConsumerView,
    Gap,
    Position,
)
from edge_agent.values.stream_names import compile_patterns
from tests.forward.support import NOW_NS, Station, running_station, upstream
from tests.forward.thinned import THIN, fill
from tests.manual_clock import ManualClock
from tests.patience import eventually

CONFIG = upstream("http://hub/in", batch_records=4)
CONSUMER = "upstream/hub"
NO = SinkRefused("HTTP 422: no", "refused")


def planned(station: Station, *patterns: str, **more: Any) -> PlannedBatches:
    config = upstream("http://hub/in", **{"batch_records": 4, **more})
    matches = compile_patterns(patterns or ("**",))
    batches = PlannedBatches(config, station.log, "main", CONSUMER, matches, station.clock)
    floor, state = station.engine.position(CONSUMER, "main")
    batches.restore(state, floor)
    batches.resume(floor + 1)
    return batches


def stored_plan(station: Station) -> Plan:
    floor, state = station.engine.position(CONSUMER, "main")
    return decode_plan(state, shape_of(CONFIG), floor)


async def test_ranges_are_durable_before_they_are_given_out(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(10)
        batches = planned(station)
        batch = await batches.next()
        assert (batch.first, batch.last) == (1, 4)
        assert stored_plan(station).ranges == [(1, 4), (5, 8), (9, 10)]


async def test_after_a_kill_the_same_ranges_come_again(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(3)
        first = await planned(station).next()
        await station.put(9, start=3)
        again = await planned(station).next()
        assert (again.first, again.last) == (first.first, first.last) == (1, 3)


async def test_after_a_kill_all_that_was_planned_comes_again_as_it_was_whatever_the_link_takes(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(400)
        batches = planned(station, batch_records=400)
        # It is quick, so each may be larger than the one before: 100 and 300.
        first = await batches.next()
        ranges = decode_plan(
            station.engine.position(CONSUMER, "main")[1], shape_of(CONFIG), 0
        ).ranges
        batches.sent(first, 100)
        second = await batches.next()
        batches.sent(second, 100)
        assert ranges == [(1, 100), (101, 400)] == [(b.first, b.last) for b in (first, second)]
        # A kill: of what was acknowledged nothing is on the disk; today a batch has to be smaller.
        once_more = planned(station, batch_records=50)
        for batch in (first, second):
            again = await once_more.next()
            assert (again.first, again.last) == (batch.first, batch.last)
            once_more.sent(again, 100)


async def test_of_a_long_plan_no_more_is_acknowledged_beyond_what_is_durable_than_of_a_short_one(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(400)
        batches = planned(station)

        def is_durable(upto: int) -> bool:
            return station.engine.position(CONSUMER, "main")[0] >= upto

        for count in range(1, 3 * RANGES_MAX):
            batches.sent(await batches.next(), 100)
            upto = 4 * (count - RANGES_MAX)
            await eventually(partial(is_durable, upto), f"{upto} records are done with on the disk")


async def test_after_a_kill_a_half_comes_again_as_a_half(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(4)
        batches = planned(station)
        assert await batches.refused(await batches.next(), NO) == (0, 0)
        assert stored_plan(station).ranges == [(1, 2), (3, 4)]
        again = await planned(station).next()
        assert (again.first, again.last) == (1, 2)


async def test_ranges_behind_the_position_are_not_sent_again(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(10)
        batches = planned(station)
        batches.sent(await batches.next())
        assert (await batches.next()).first == 5
        await station.log.acknowledge(Position(CONSUMER, "main", 4), durable=True)
        assert (await planned(station).next()).first == 5


async def test_a_new_plan_is_made_when_the_old_one_is_done(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(2)
        batches = planned(station)
        batches.sent(await batches.next())
        await station.put(2, start=2)
        batch = await batches.next()
        assert (batch.first, batch.last) == (3, 4)
        assert station.engine.position(CONSUMER, "main")[0] == 2


async def test_another_configuration_does_not_reuse_a_key(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(4)
        await planned(station).next()
        batch = await planned(station, format="msgpack").next()
        assert (batch.first, batch.last) == (1, 3)


async def test_what_was_trimmed_since_is_not_in_the_key(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(4)
        plan = Plan(shape_of(CONFIG), [(1, 3)])
        batches = planned(station)
        await station.log.acknowledge(
            Position(CONSUMER, "main", 0, encode_plan(plan)), durable=True
        )
        read = station.engine.read

        def trimmed(log: str, after: int, limit: int, upto: int | None = None) -> Any:
            items = read(log, max(after, 2), limit, upto)
            return [Gap("main", 1, 2, "trimmed"), *items] if after < 2 else items

        station.engine.read = trimmed  # type: ignore[method-assign, assignment]  # retention would need minutes
        batches = planned(station)
        batch = await batches.next()
        assert (batch.first, batch.last) == (3, 3)
        assert [record.seq for record in batch.records(lambda _: True)] == [3]


async def test_a_plan_beyond_the_end_of_the_log_is_another_stores(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(2)
        plan = Plan(shape_of(CONFIG), [(1, 9)])
        await station.log.acknowledge(
            Position(CONSUMER, "main", 0, encode_plan(plan)), durable=True
        )
        batch = await planned(station).next()
        assert (batch.first, batch.last) == (1, 2)


async def test_the_only_wanted_record_of_a_range_is_set_aside_whatever_the_range(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(2, stream="x")
        await station.put(1, stream="t/1", start=2)
        batches = planned(station, "t/*")
        batch = await batches.next()
        assert (batch.first, batch.last) == (1, 3)
        assert await batches.refused(batch, NO) == (1, 0)
        ((_, aside),) = await station.log.quarantine(0, 9)
        assert (aside.stream, aside.number, aside.code) == ("t/1", 3, "upstream_refused")
        assert station.engine.position(CONSUMER, "main")[0] == 3


async def test_too_many_single_refusals_in_a_row_raise_at_the_next_batch(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(SINGLES_MAX + 5)
        batches = planned(station, batch_records=1)
        for _ in range(SINGLES_MAX):
            assert not batches.exhausted
            await batches.refused(await batches.next(), NO)
        assert batches.exhausted
        with pytest.raises(SinkMisconfigured, match="HTTP 422"):
            await batches.next()


async def test_a_plan_ends_before_it_concerns_too_many_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.forward.batches.planned_reader.BOOTS_MAX", 2)
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station:
        for boot in range(5):
            clock.reboot(wall_ns=boot)
            await station.arrive(2, start=2 * boot)
            clock.step_wall(NOW_NS + boot * 10**15, synced=boot != 3)
            await station.arrive(1)
        batches = planned(station, batch_records=1000)
        lasts, words = [], []
        for _ in range(3):
            batch = await batches.next()
            assert len(stored_plan(station).offsets) <= 2
            words += [record.time_quality for record in batch.records(lambda _: True)]
            lasts.append(batch.last)
            batches.sent(batch)
            await station.log.acknowledge(Position(CONSUMER, "main", batch.last), durable=True)
        assert lasts == [6, 12, 15]
        right = ["corrected", "corrected", "synced"]
        assert words == [*right, *right, *right, *["unsynced"] * 3, *right]


async def through(batches: OpenBatches | PlannedBatches, last: int) -> list[Batch]:
    """Everything up to ``last``, each batch taken at once."""
    found: list[Batch] = []
    while not found or found[-1].last < last:
        found.append(await batches.next())
        batches.sent(found[-1])
    return found


def stand_for(batches: list[Batch]) -> int:
    records = [record for batch in batches for record in batch.records(lambda _: True)]
    return sum(record.fields["records"] if record.source == "$thin/s" else 1 for record in records)


async def test_a_plan_whose_records_were_thinned_with_others_is_made_anew(tmp_path: Path) -> None:
    async with running_station(tmp_path, settings=THIN, clock=ManualClock()) as station:
        await fill(station, blocks=100)
        before = await planned(station, batch_records=2000).next()
        assert (before.first, before.thinned) == (1, 0)
        ranges = stored_plan_of(station, 2000)
        await fill(station)
        found = await through(planned(station, batch_records=2000), station.log.last_seq("main"))
        assert stand_for(found) == 36_000
        assert not any(batch.withheld for batch in found)
        for batch in found:
            assert not batch.thinned or (batch.first, batch.last) not in ranges or batch is found[0]


def stored_plan_of(station: Station, records: int) -> list[tuple[int, int]]:
    floor, state = station.engine.position(CONSUMER, "main")
    config = upstream("http://hub/in", batch_records=records)
    return decode_plan(state, shape_of(config), floor).ranges


async def test_a_thinned_block_that_is_refused_is_cut_and_nothing_of_it_is_withheld(
    tmp_path: Path,
) -> None:
    """The upstream bears one aggregate at a time; each goes once, over kills in between."""
    async with running_station(tmp_path, settings=THIN, clock=ManualClock()) as station:
        await fill(station)
        batches = planned(station, batch_records=10_000)
        while not (batch := await batches.next()).thinned:
            batches.sent(batch)
        upto = batch.last
        found: list[Batch] = []
        expected = stand_for([batch])
        while batch.first <= upto:
            if batch.thinned and len(list(batch.records(lambda _: True))) > 1:
                assert await batches.refused(batch, NO) == (0, 0)
            else:
                batches.sent(batch)
                found.append(batch)
                position = Position(CONSUMER, "main", batch.last)
                await station.log.acknowledge(position, durable=True)
                batches = planned(station, batch_records=10_000)
            batch = await batches.next()
        assert stand_for(found) == expected
        assert not any(one.withheld for one in found)


async def test_the_rest_of_a_range_that_was_cut_off_is_not_thinned_either(tmp_path: Path) -> None:
    """The upstream may have taken all of it: only its answer need have been lost."""
    async with running_station(tmp_path, settings=THIN, clock=ManualClock()) as station:
        await fill(station, blocks=150)
        batches = planned(station, batch_records=10_000, batch_bytes=2**20)
        whole = await batches.next()
        while whole.last - whole.first < 4000:
            # They grow, as answers come at once.
            batches.sent(whole, 1)
            whole = await batches.next()
        assert await batches.cut(whole, 2**20, at_once=True)
        half = await batches.next()
        assert half.last < whole.last
        await fill(station)
        found = [half, *await through(batches, station.log.last_seq("main"))]
        assert any(batch.thinned for batch in found)
        again = {
            record.source
            for batch in found
            for record in batch.records(lambda _: True)
            if record.seq <= whole.last
        }
        assert not any(source.startswith("$thin/") for source in again)


async def test_what_is_sent_again_by_order_is_never_taken_for_what_was_sent_before(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(8)
        keys = []
        for _ in range(3):
            batches = planned(station)
            batch = await batches.next()
            keys.append((batch.first, batch.last, batch.moves))
            held = ConsumerView(
                CONSUMER, "main", 8, station.engine.position(CONSUMER, "main")[1], False, 0
            )
            order = position_for("rewind", held, LogRange(1, 8), configured=True, target=1)
            await station.log.acknowledge(order, durable=True)
        assert keys == [(1, 4, 0), (1, 4, 1), (1, 4, 2)]


@pytest.mark.parametrize("keyed", [False, True])
async def test_all_records_or_what_stands_for_them_go_out_once(tmp_path: Path, keyed: bool) -> None:
    async with running_station(tmp_path, settings=THIN, clock=ManualClock()) as station:
        await fill(station)
        last = station.log.last_seq("main")
        batches: OpenBatches | PlannedBatches
        if keyed:
            batches = planned(station, batch_records=2000)
        else:
            batches = OpenBatches(CONFIG, station.log, "main", station.clock)
            batches.resume(1)
        found = await through(batches, last)
        assert stand_for(found) == last == 30_000
        assert any(batch.thinned for batch in found)
        assert not any(batch.withheld for batch in found)


async def test_what_was_handed_out_is_not_thinned_meanwhile(tmp_path: Path) -> None:
    async with running_station(tmp_path, settings=THIN, clock=ManualClock()) as station:
        await fill(station, blocks=50)
        batches = OpenBatches(CONFIG, station.log, "main", station.clock)
        batches.resume(1)
        first = await batches.next()
        batches.sent(first)
        await fill(station)
        rest = await through(batches, station.log.last_seq("main"))
        assert any(batch.thinned for batch in rest)
        assert stand_for([first, *rest]) == 33_000
        assert not any(batch.withheld for batch in rest)


@pytest.mark.parametrize("records, waits_s", [(32, 0.05), (28, 60.0)])
async def test_a_backlog_does_not_wait_for_the_commits_of_a_log_that_has_them_seldom(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, records: int, waits_s: float
) -> None:
    async with running_station(tmp_path, interval=60.0) as station:
        await station.put(records)
        began = trio.current_time()
        await planned(station).next()
        assert trio.current_time() - began == pytest.approx(waits_s)


async def test_where_each_is_answered_at_once_one_commit_plans_many_and_no_more_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_reader, "READ_BYTES", 1)
    async with running_station(tmp_path) as station:
        for start in range(0, 200, 2):
            await station.put(2, start=start)
        read, cursors = station.log.read, []

        async def noted(
            log: str, after: int, limit_bytes: int, upto: int | None = None
        ) -> list[Block | Gap]:
            cursors.append(after)
            return await read(log, after, limit_bytes, upto)

        monkeypatch.setattr(station.log, "read", noted)
        batches = planned(station)
        for _ in range(RANGES_MAX):
            batches.sent(await batches.next(), 100)
        cursors.clear()
        await batches.next()
        assert stored_plan(station).ranges[-1] == (157, 160)
        assert len(stored_plan(station).ranges) == RANGES_MAX_QUICK
        # Each of the blocks with these records once for the plan, and those of the first range.
        assert sorted(cursors) == sorted([*range(32, 160, 2), 32, 34])


def test_a_cap_changes_how_ranges_are_rendered_and_nothing_else_does_without_one() -> None:
    capped = structs.replace(CONFIG, bytes_per_second=Size(1000))
    assert shape_of(capped) != shape_of(CONFIG)
    assert shape_of(structs.replace(capped, bytes_per_second=Size(2000))) == shape_of(capped)
