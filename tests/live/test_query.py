from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edge_agent.errors import ProtocolError
from edge_agent.live import query as querying
from edge_agent.live.query import (
    Queries,
    Query,
    QueryAnswer,
    QueryLimits,
    ScanResult,
    parse_query,
    run_query,
    scan,
)
from edge_agent.store import Block, Gap, LogSettings, encode_runs
from edge_agent.values.stream_names import compile_pattern
from tests.patience import PATIENCE_S
from tests.waist import NOW_NS, SECOND, Waist, inline, open_waist, run_of, settings

TWO_LOGS = settings(
    logs=(LogSettings("alarms", ("alarm/**",), share=0.2), LogSettings("main", share=0.5))
)
BOTH = {"alarms": 0.01, "main": 0.01}


async def ask(waist: Waist, **parameters: str) -> QueryAnswer:
    named = {name.rstrip("_"): value for name, value in parameters.items()}
    return await run_query(waist.log, parse_query(named, NOW_NS))


async def fill(waist: Waist, count: int = 30) -> None:
    """Records a second apart, ending now, in two streams by turns and blocks of three."""
    runs = [
        run_of({"t": number, "time": NOW_NS // SECOND - count + number}, stream=f"s/{number % 2}")
        for number in range(1, count + 1)
    ]
    for start in range(0, count, 3):
        await waist.put(*runs[start : start + 3])


def values(answer: QueryAnswer) -> list[int]:
    return [record.fields["t"] for record in answer.records]


async def test_streams_times_and_filters_select(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist)
        assert values(await ask(waist)) == list(range(1, 31))
        assert values(await ask(waist, stream="s/0")) == list(range(2, 31, 2))
        assert values(await ask(waist, from_="-5s")) == [25, 26, 27, 28, 29, 30]
        assert values(await ask(waist, from_="-5s", to="-3s")) == [25, 26]
        assert values(await ask(waist, filter="t > 28 or t < 2")) == [1, 29, 30]
        assert (await ask(waist, stream="none")).records == []
        assert values(await ask(waist, from_="main:10", to="main:12")) == [10, 11, 12]


async def test_an_answer_says_where_to_go_on_and_pages_join_without_a_seam(
    tmp_path: Path,
) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist)
        answer = await ask(waist, stream="s/1", limit="4")
        assert (answer.truncated, answer.next) == (True, "main:9")
        found = values(answer)
        while answer.next is not None:
            answer = await ask(waist, stream="s/1", limit="4", next=answer.next)
            found += values(answer)
        assert found == list(range(1, 31, 2))
        assert not answer.truncated
        exact = await ask(waist, limit="30")
        assert (exact.truncated, exact.next) == (False, None)


async def test_pages_go_on_in_the_next_log(tmp_path: Path) -> None:
    async with open_waist(tmp_path, using=TWO_LOGS, intervals=BOTH) as waist:
        await waist.put(run_of({"t": 1}, {"t": 2}, stream="alarm/a"), run_of({"t": 3}, {"t": 4}))
        first = await ask(waist, limit="3")
        assert (values(first), first.next) == ([1, 2, 3], "main:2")
        assert values(await ask(waist, limit="3", next="main:2")) == [4]
        assert values(await ask(waist, limit="3", next="alarms:2")) == [2, 3, 4]
        assert values(await ask(waist, from_="alarms:1")) == [1, 2]


async def test_an_aggregate_is_that_of_a_naive_computation(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist)
        answer = await ask(waist, aggregate="t", filter="t != 2")
        even = list(range(4, 31, 2))
        assert answer.records == []
        assert answer.aggregates["s/0"] == {
            "count": 14, "min": 4, "max": 30, "mean": sum(even) / 14, "first": 4, "last": 30,
        }  # fmt: skip
        assert (await ask(waist, aggregate="missing")).aggregates == {}


async def test_memory_bounds_an_answer_but_never_to_nothing(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        await waist.put(*(run_of({"t": n, "x": "x" * 5000}) for n in range(20)))
        answer = await run_query(waist.log, parse_query({}, NOW_NS), QueryLimits(bytes=30_000))
        assert 5 <= len(answer.records) <= 6
        assert answer.next == f"main:{len(answer.records) + 1}"
        answer = await run_query(waist.log, parse_query({}, NOW_NS), QueryLimits(bytes=1))
        assert len(answer.records) == 1


async def test_time_bounds_an_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_waist(tmp_path) as waist:
        noise = random.Random(1)
        await waist.put(*(run_of({"t": n, "x": noise.randbytes(18_000)}) for n in range(50)))

        async def slow(function: object, *args: object) -> object:
            await trio.sleep(1)
            return await inline(function, *args)  # type: ignore[arg-type]  # passed on as it came

        waist.log.run_blocking = slow  # type: ignore[assignment]  # a slow card
        answer = await run_query(waist.log, parse_query({}, NOW_NS), QueryLimits(seconds=0.5))
        assert answer.truncated
        assert 0 < len(answer.records) < 50
        assert answer.next == f"main:{len(answer.records) + 1}"
        assert answer.seconds < 5


async def test_time_bounds_an_answer_within_what_one_read_brings(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist:
        for number in range(1, 51):
            await waist.put(run_of({"v": number}))
        assert len(await waist.log.read("main", 0)) == 50

        async def slow(function: object, *args: object) -> object:
            if function is scan:
                await trio.sleep(0.1)
            return await inline(function, *args)  # type: ignore[arg-type]  # passed on as it came

        waist.log.run_blocking = slow  # type: ignore[assignment]  # a slow board
        answer = await run_query(waist.log, parse_query({}, NOW_NS), QueryLimits(seconds=0.5))
        assert len(answer.records) == pytest.approx(5, abs=1)
        assert answer.next == f"main:{len(answer.records) + 1}"


async def test_one_question_at_a_time_takes_the_processor(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist:
        for number in range(1, 4):
            await waist.put(run_of({"v": number}))
        scanning = most = 0

        async def counted(function: object, *args: object) -> object:
            nonlocal scanning, most
            if function is not scan:
                return await inline(function, *args)  # type: ignore[arg-type]  # passed on
            scanning += 1
            most = max(most, scanning)
            await trio.sleep(0.1)
            scanning -= 1
            return await inline(function, *args)  # type: ignore[arg-type]  # passed on as it came

        waist.log.run_blocking = counted  # type: ignore[assignment]  # a slow board
        queries = Queries(waist.log, QueryLimits(concurrent=3), waist.metrics)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(queries.run, parse_query({}, NOW_NS))
        assert most == 1
        assert waist.metrics.get("queries_total") == 3


async def test_only_so_many_are_worked_on_at_one_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist, 3)
        hold = trio.Event()

        async def held(function: object, *args: object) -> object:
            await hold.wait()
            return await inline(function, *args)  # type: ignore[arg-type]  # passed on as it came

        plain, waist.log.run_blocking = waist.log.run_blocking, held  # type: ignore[assignment]  # a hung card
        queries = Queries(waist.log, QueryLimits(concurrent=1, seconds=3), waist.metrics)
        query = parse_query({}, NOW_NS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queries.run, query)
            await wait_all_tasks_blocked()
            with pytest.raises(ProtocolError, match="try again later") as caught:
                await queries.run(query)
            assert caught.value.code == "busy"
            hold.set()
        waist.log.run_blocking = plain
        assert len((await queries.run(query)).records) == 3
        assert waist.metrics.get("queries_total") == 2
        assert waist.metrics.get("query_seconds_total") >= 3


async def test_what_comes_in_meanwhile_is_not_part_of_the_answer(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist, 3)
        read = waist.log.read

        async def read_and_append(*args: object) -> object:
            await waist.put(run_of({"t": 99}))
            return await read(*args)  # type: ignore[arg-type]  # passed on as it came

        waist.log.read = read_and_append  # type: ignore[assignment, method-assign]  # a busy agent
        with trio.fail_after(PATIENCE_S):
            assert values(await ask(waist)) == [1, 2, 3]


@pytest.mark.parametrize(
    "parameters, says",
    [
        ({"steam": "a"}, "steam: no such parameter; there are stream, from"),
        ({"stream": "a//b"}, "stream: "),
        ({"from": "noon"}, "from: expected RFC 3339"),
        ({"to": "2026-01-01T00:00:00"}, "to: .* has no zone"),
        ({"limit": "0"}, "limit: expected 1 to 100000"),
        ({"limit": "1000000"}, "limit: expected 1 to 100000"),
        ({"limit": "many"}, "limit: expected"),
        ({"next": "17"}, "next: expected log:seq"),
        ({"filter": "t >"}, "filter: expected"),
        ({"from": "main:1", "to": "alarms:2"}, "same log"),
    ],
)
def test_mistakes_name_the_parameter(parameters: Mapping[str, str], says: str) -> None:
    with pytest.raises(ProtocolError, match=says) as caught:
        parse_query(parameters, NOW_NS)
    assert caught.value.code == "bad_query"


@pytest.mark.parametrize("parameters", [{"from": "lost:1"}, {"next": "lost:1"}])
async def test_a_log_that_is_not_there_is_named(tmp_path: Path, parameters: dict[str, str]) -> None:
    async with open_waist(tmp_path) as waist:
        with pytest.raises(ProtocolError, match="no log 'lost'; there are main"):
            await run_query(waist.log, parse_query(parameters, NOW_NS))


EVERYTHING = Query(matches=compile_pattern("**"), limit=100)


def block(first: int, *times_s: int, stream: str = "a") -> Block:
    """One record for each time, whose ``t`` is its number in the log."""
    records = [{"t": first + i, "time": NOW_NS // SECOND + time} for i, time in enumerate(times_s)]
    run = run_of(*records, stream=stream)
    payload = encode_runs([run])
    return Block(
        "main", first, len(records), 0, len(payload), payload, bytes(16), 0, NOW_NS, True,
        run.time_min_ns, run.time_max_ns,
    )  # fmt: skip


def found(query: Query, *items: Block | Gap, first: int = 1, last: int = 10**9) -> list[int]:
    result = ScanResult(room=10**9)
    assert scan(items, query, result, first, last) is None
    return [record.seq for record in result.records]


def test_gaps_and_records_outside_the_positions_are_left_out() -> None:
    items = (block(1, 0, 0, 0), Gap("main", 4, 6, "trimmed"), block(7, 0, 0))
    assert found(EVERYTHING, *items) == [1, 2, 3, 7, 8]
    assert found(EVERYTHING, *items, first=3, last=7) == [3, 7]


def test_times_select_records_and_the_end_is_not_included() -> None:
    query = replace(EVERYTHING, from_ns=NOW_NS + 2 * SECOND, to_ns=NOW_NS + 4 * SECOND)
    assert found(query, block(1, 1, 2, 3, 4)) == [2, 3]


def test_blocks_outside_the_time_range_are_not_decompressed() -> None:
    broken = replace(block(1, 0, 1), payload=b"not a payload")
    early = replace(EVERYTHING, to_ns=NOW_NS)
    late = replace(EVERYTHING, from_ns=NOW_NS + 2 * SECOND)
    result = ScanResult(room=10**9)
    for query in (early, late):
        assert scan([broken], query, result, 1, 9) is None
    assert result.scanned == 0


def test_a_block_that_cannot_be_read_does_not_hide_those_behind_it() -> None:
    broken = replace(block(1, 0, 1), payload=b"not a payload")
    assert found(EVERYTHING, broken, block(3, 0)) == [3]


def test_it_stops_at_the_first_record_that_there_is_no_room_for() -> None:
    result = ScanResult(room=10**9)
    assert scan([block(1, 0, 0, 0)], replace(EVERYTHING, limit=2), result, 1, 9) == 3
    assert (
        scan([block(1, 0, 0)], replace(EVERYTHING, limit=2), ScanResult(room=10**9), 1, 9) is None
    )
    # One record always fits, or a large one could never be read.
    result = ScanResult(room=1)
    assert scan([block(1, 0, 0)], EVERYTHING, result, 1, 9) == 2
    assert [record.seq for record in result.records] == [1]


def test_an_aggregate_keeps_figures_per_stream() -> None:
    result = ScanResult(room=0)
    items = (block(1, 0, 5), block(3, 2, stream="b"), block(4, 1))
    assert scan(items, replace(EVERYTHING, aggregate="t", limit=1), result, 1, 9) is None
    assert result.summaries["a"].figures() == {
        "count": 3, "min": 1, "max": 4, "mean": pytest.approx(7 / 3), "first": 1, "last": 2,
    }  # fmt: skip
    assert result.summaries["b"].count == 1


def test_an_aggregate_over_too_many_streams_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(querying, "AGGREGATED_STREAMS_MAX", 1)
    query = replace(EVERYTHING, aggregate="t")
    with pytest.raises(ProtocolError, match="at most 1 streams"):
        scan([block(1, 0), block(2, 0, stream="b")], query, ScanResult(room=0), 1, 9)
