from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from edge_agent.config.quantities import Size
from edge_agent.config.shape import Limits
from edge_agent.errors import ProtocolError
from edge_agent.live import Live, LiveBatch
from edge_agent.live.stepped import SteppedView
from tests.patience import PATIENCE_S
from tests.waist import Waist, open_waist, run_of

#: Where `run_of` puts records.
STREAM = run_of({"t": 1}).stream


def live_on(waist: Waist, limits: Limits | None = None) -> Live:
    return Live(waist.log, limits or Limits(), clock=waist.clock, metrics=waist.metrics)


@asynccontextmanager
async def reading(
    waist: Waist, *, live: Live | None = None, start: str = "new", **options: str
) -> AsyncIterator[AsyncIterator[LiveBatch]]:
    found = live or live_on(waist)
    async with found.subscribe("**", found.parse_start(start), **options) as view:  # type: ignore[arg-type]  # texts, as from a URL
        yield view


def shown(batch: LiveBatch) -> list[tuple[str, dict[str, object], int | None]]:
    return [(record.stream, record.fields, count) for record, count in batch.told()]


async def test_fields_are_picked_by_their_paths_and_what_has_none_is_left_out(
    tmp_path: Path,
) -> None:
    async with (
        open_waist(tmp_path, interval=0.001) as waist,
        reading(waist, fields='t,params."switch:0".apower', filter="not t == 3") as view,
    ):
        await waist.put(
            run_of(
                {"t": 1, "h": 2},
                {"h": 2},
                {"t": 3},
                {"params": {"switch:0": {"apower": 41.5, "output": True}}},
            )
        )
        with trio.fail_after(PATIENCE_S):
            batch = await view.__anext__()
    assert shown(batch) == [
        (STREAM, {"t": 1}, None),
        (STREAM, {'params."switch:0".apower': 41.5}, None),
    ]


async def test_of_each_stream_the_last_record_of_a_step_is_told_with_how_many_it_stands_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        open_waist(tmp_path, interval=0.001) as waist,
        reading(waist, step="10s") as view,
    ):
        assert isinstance(view, SteppedView)
        await waist.put(run_of({"t": 1}, {"t": 2}))
        await waist.put(run_of({"t": 9}, stream="b"))
        await waist.put(run_of({"t": 3}))
        assert shown(await view.__anext__()) == [("b", {"t": 9}, 1), (STREAM, {"t": 3}, 3)]
        await waist.put(run_of({"t": 4}))
        assert shown(await view.__anext__()) == [(STREAM, {"t": 4}, 1)]


async def test_with_fields_the_last_record_that_has_one_of_them_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        open_waist(tmp_path, interval=0.001) as waist,
        reading(waist, step="1s", fields="t", filter="t < 5 or h > 0") as view,
    ):
        await waist.put(run_of({"t": 1}, {"t": 2}, {"h": 3}, {"t": 7}))
        batch = await view.__anext__()
        assert shown(batch) == [(STREAM, {"t": 2}, 2)]


async def test_what_was_there_before_is_told_at_once_a_record_a_step_of_its_own_time(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        for number in range(30):
            await waist.put(run_of({"t": number}), run_of({"t": -number}, stream="b"))
            waist.clock.advance(6)
        async with reading(waist, step="1m", start="main:1") as view:
            told: list[tuple[str, dict[str, object], int | None]] = []
            while len(told) < 4:
                batch = await view.__anext__()
                assert not batch.is_whole, "of the other stream something is still to come"
                told += shown(batch)
            batch = await view.__anext__()
    assert batch.is_whole
    assert [one for one in told if one[0] == STREAM] == [
        (STREAM, {"t": 9}, 10),
        (STREAM, {"t": 19}, 10),
    ]
    assert shown(batch) == [(STREAM, {"t": 29}, 10), ("b", {"t": -29}, 10)]


async def test_every_record_is_counted_once_wherever_the_steps_end(tmp_path: Path) -> None:
    async with (
        open_waist(tmp_path, interval=0.001) as waist,
        reading(waist, step="100ms", start="main:1") as view,
        trio.open_nursery() as nursery,
    ):

        async def fill() -> None:
            for number in range(60):
                await waist.put(run_of(*({"t": number * 20 + n} for n in range(20))))

        nursery.start_soon(fill)
        counted, last, times = 0, -1, []
        with trio.fail_after(PATIENCE_S):
            while last < 1199:
                batch = await view.__anext__()
                times.append(trio.current_time())
                assert batch.missed == 0
                for record, count in batch.told():
                    assert record.fields["t"] > last and count
                    last = record.fields["t"]
                    counted += count
        assert counted == 1200


async def test_views_hold_so_much_and_tell_the_rest_early(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_waist(tmp_path, interval=0.001) as waist:
        live = live_on(waist, Limits(subscription_bytes=Size(64 * 1024)))
        told: list[str] = []
        async with reading(waist, live=live, step="1d") as view, trio.open_nursery() as nursery:

            async def collect() -> None:
                async for batch in view:
                    told.extend(record.stream for record in batch.records)

            nursery.start_soon(collect)
            for number in range(4):
                await waist.put(run_of({"x": "x" * 30_000}, stream=f"s/{number}"))
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert told == ["s/0", "s/1"]


async def test_what_is_wrong_is_said_before_anything_is_read(tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        live = live_on(waist)
        with pytest.raises(ProtocolError, match="step: expected a length of 100ms to 1d"):
            live.subscribe("**", step="often")
        with pytest.raises(ProtocolError, match="fields: expected names"):
            live.subscribe("**", fields="t,,h")
