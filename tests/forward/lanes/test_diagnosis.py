from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.lanes.diagnosis import Blame, Diagnosis, is_cut, may_be_content
from edge_agent.forward.sink import Batch
from edge_agent.store import Block
from edge_agent.values.stream_names import compile_patterns
from tests.forward.support import FakeSink, Station, running_station, upstream
from tests.forward.thinned import THIN, fill
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S


def diagnosis_for(station: Station, sink: FakeSink, *patterns: str, **more: Any) -> Diagnosis:
    config = upstream("http://hub/in", **more)
    matches = compile_patterns(patterns or ("**",))
    return Diagnosis(config, station.log, "main", sink, matches, station.clock)


def unavailable(status: int = 0, **more: Any) -> SinkUnavailable:
    error = SinkUnavailable("no", **more)
    error.status = status
    return error


@pytest.mark.parametrize("status", [403, 406, 409, 412, 415, 418, 451, 499])
def test_these_answers_may_be_about_one_record(status: int) -> None:
    assert may_be_content(unavailable(status)) and not is_cut(unavailable(status))


@pytest.mark.parametrize("status", [0, 200, 302, 401, 404, 405, 407, 429, 500, 503])
def test_these_never_are(status: int) -> None:
    assert not may_be_content(unavailable(status)) and not is_cut(unavailable(status))


def test_a_sink_may_say_that_it_is_about_the_batch() -> None:
    error = unavailable()
    error.about_batch = True
    assert may_be_content(error) and not is_cut(error)


def test_what_a_smaller_batch_may_help_against() -> None:
    assert is_cut(unavailable(408)) and is_cut(unavailable(504))
    assert is_cut(unavailable(cut=True)) and is_cut(unavailable(halve=True))


async def batch_of(station: Station, first: int, last: int) -> Batch:
    return Batch("main", first, last, tuple(await station.log.read("main", first - 1)))


async def test_a_record_of_another_stream_is_tried_first(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(5, stream="a")
        await station.put(5, stream="b", start=5)
        await station.put(5, stream="c", start=10)
        sink = FakeSink(keyed=True)
        diagnosis = diagnosis_for(station, sink)
        found = await diagnosis.judge(await batch_of(station, 2, 2), 0, {"a"}, plain=False)
        assert found is Blame.CONTENT and sink.sent == [(6, 6)]
        sink.sent.clear()
        found = await diagnosis.judge(None, 5, {"b"}, plain=False)
        assert found is Blame.CONTENT and sink.sent == [(11, 11)]


async def test_of_the_same_stream_the_next_and_the_last_where_there_is_no_other(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station:
        for start in range(0, 20, 5):
            await station.put(5, stream="a", start=start)
        sink = FakeSink(keyed=True, refuse=lambda batch: SinkRefused("no"))
        diagnosis = diagnosis_for(station, sink, compression="none")
        found = await diagnosis.judge(await batch_of(station, 2, 2), 0, {"a"}, plain=False)
        assert found is Blame.UNKNOWN and sink.sent == [(3, 3), (16, 16)]
        assert diagnosis.tried == "record 16, tried by itself, was refused as well"


async def test_a_record_that_was_tried_by_itself_is_not_thinned_before_its_turn(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path, settings=THIN, clock=ManualClock()) as station:
        await fill(station, blocks=150)
        # It may have taken the record; its answer is lost.
        sink = FakeSink(keyed=True, refuse=lambda batch: unavailable(cut=True))
        diagnosis = diagnosis_for(station, sink, compression="none")
        await diagnosis.judge(await batch_of(station, 1, 1), 0, {"t/1"}, plain=False)
        tried = sink.sent[-1][0]
        assert tried > 5000
        await fill(station)
        found = {item.first: item for item in await station.log.read("main", 0, 2**20)}
        thinned = [item.last for item in found.values() if isinstance(item, Block) and item.thinned]
        assert max(thinned) > tried and any(last < tried for last in thinned)
        kept = found[tried]
        assert isinstance(kept, Block) and not kept.thinned
        assert next(kept.records()).seq == tried


async def test_what_was_thinned_is_not_tried(tmp_path: Path) -> None:
    async with running_station(tmp_path, settings=THIN, clock=ManualClock()) as station:
        await fill(station, blocks=150)
        before = await station.log.read("main", 0, 2**20)
        await fill(station)
        thinned = next(
            item
            for item in await station.log.read("main", 0, 2**20)
            if isinstance(item, Block) and item.thinned
        )
        inside = [item for item in before if thinned.first <= item.first <= thinned.last]
        batch = Batch("main", thinned.first, inside[-1].last, tuple(inside))
        sink = FakeSink(keyed=True)
        diagnosis = diagnosis_for(station, sink, compression="none")
        end = station.log.last_seq("main")
        found = await diagnosis.judge(replace(batch, last=end), 0, {"t/1"}, plain=False)
        assert found is Blame.UNKNOWN and sink.sent == []


async def test_parts_of_the_batch_itself_are_tried_where_nothing_follows(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(3, stream="x")
        await station.put(3, stream="a", start=3)
        await station.put(3, stream="b", start=6)
        sink = FakeSink(keyed=True, refuse=lambda batch: SinkRefused("no"))
        diagnosis = diagnosis_for(station, sink, "a", "b", compression="none")
        found = await diagnosis.judge(await batch_of(station, 1, 9), 0, set(), plain=False)
        assert found is Blame.UNKNOWN and sink.sent == [(4, 4), (7, 7), (9, 9)]


async def test_with_nothing_else_to_try_nothing_is_known(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(1)
        sink = FakeSink(keyed=True)
        diagnosis = diagnosis_for(station, sink)
        found = await diagnosis.judge(await batch_of(station, 1, 1), 0, {"t/1"}, plain=False)
        assert found is Blame.UNKNOWN and sink.sent == []
        assert diagnosis.tried == "there is no other record to try"


async def test_what_passes_only_uncompressed_blames_the_compression(tmp_path: Path) -> None:
    def plain_only(batch: Batch) -> SinkError | None:
        return None if batch.plain else unavailable(415)

    async with running_station(tmp_path) as station:
        await station.put(5, stream="a")
        await station.put(5, stream="b", start=5)
        batch = await batch_of(station, 2, 2)
        for compression, verdict in (("gzip", Blame.COMPRESSION), ("none", Blame.UNKNOWN)):
            sink = FakeSink(keyed=True, refuse=plain_only)
            diagnosis = diagnosis_for(station, sink, compression=compression)
            assert await diagnosis.judge(batch, 0, {"a"}, plain=False) is verdict
            assert await diagnosis.only_plain_passes(batch) is (compression == "gzip")


async def test_an_upstream_that_changes_its_mind_is_asked_again_later(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(1)
        sink = FakeSink(keyed=True)  # It takes both by now.
        with pytest.raises(SinkUnavailable, match="is taken now"):
            await diagnosis_for(station, sink).only_plain_passes(await batch_of(station, 1, 1))
        assert len(sink.sent) == 2


async def test_an_upstream_that_is_away_is_no_verdict(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(9)
        sink = FakeSink(keyed=True, script=[unavailable()])
        with pytest.raises(SinkUnavailable):
            await diagnosis_for(station, sink).judge(None, 3, {"t/1"}, plain=False)


async def test_each_probe_has_a_key_of_its_own_and_none_is_the_batchs(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(2)
        variants: list[str] = []

        def note(batch: Batch) -> SinkError:
            variants.append(batch.variant)
            return SinkRefused("no")

        diagnosis = diagnosis_for(station, FakeSink(keyed=True, refuse=note))
        batch = await batch_of(station, 1, 1)
        await diagnosis.judge(batch, 0, {"t/1"}, plain=False)
        assert batch.variant == "" and len(variants) == 2
        assert variants[0].startswith("/probe-") and variants[1] == variants[0] + "/plain"


async def test_a_stream_that_was_not_tried_is_waited_for(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(3, stream="a")
        diagnosis = diagnosis_for(station, FakeSink(keyed=True))
        await diagnosis.judge(None, 3, {"a"}, plain=False)
        came = trio.Event()

        async def wait() -> None:
            await diagnosis.wait_for_another({"a"})
            came.set()

        nursery.start_soon(wait)
        await station.put(3, stream="a", start=3)
        await trio.testing.wait_all_tasks_blocked()
        assert not came.is_set()
        await station.put(1, stream="b", start=6)
        with trio.fail_after(PATIENCE_S):
            await came.wait()
