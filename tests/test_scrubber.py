from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from edge_agent.errors import StoreFailed, StoreFull
from edge_agent.scrubber import CODE, STEP_BYTES, Scrubber
from edge_agent.store import Block, CommitResult, Entry, Gap, Quarantined
from edge_agent.store.format.keys import block_key, source_key
from edge_agent.store.lmdb_file.pages import PageFile
from tests.waist import Waist, numbered, open_waist, run_of

#: A short one: the committer's own rounds go on meanwhile.
PASS_S = 600.0


async def fill(waist: Waist, groups: int = 40) -> None:
    for group in range(groups):
        # What does not compress, so that a pass takes several steps.
        pads = [hashlib.shake_128(b"%d %d" % (group, i)).digest(1500) for i in range(10)]
        await waist.put(run_of(*({"n": group * 10 + i, "pad": pad} for i, pad in enumerate(pads))))


def scrubber(waist: Waist, interval_s: float = PASS_S) -> Scrubber:
    return Scrubber(waist.log, interval_s, waist.clock, waist.metrics)


def flip(path: Path, key: bytes, at: int) -> None:
    """A bit of the value under ``key``, in the file, while the store is open."""
    data = path / "store" / "data.mdb"
    with PageFile(data) as pages:
        node = next(one for one in pages.nodes(pages.meta.main.root, print) if one.key == key)
        value = pages.value(node)
    raw = data.read_bytes()
    places = [node.overflow * 4096 + 16]
    if not node.overflow:
        places = [place for place in range(len(raw)) if raw.startswith(value, place)]
    with data.open("r+b") as file:
        for place in places:
            file.seek(place + at)
            file.write(bytes((value[at] ^ 1,)))


async def test_a_pass_takes_its_interval_and_reads_all_of_it(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist, 60)
        scrub = scrubber(waist)
        with trio.move_on_after(0.9 * PASS_S):
            await scrub.run()
        assert scrub.status.finished_ns == 0
        assert 0 < scrub.status.blocks < 60
        with trio.move_on_after(1.1 * PASS_S):
            await scrub.run()
        assert (scrub.status.last_blocks, scrub.status.damaged) == (60, 0)
        assert scrub.status.finished_ns > 0


async def test_an_interval_of_zero_is_no_scrub(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with open_waist(tmp_path) as waist:
        with trio.fail_after(1):
            await scrubber(waist, 0).run()


async def test_a_damaged_block_is_counted_once_told_once_and_kept_for_a_person(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist)
        flip(tmp_path, block_key(1, 101), 70)
        scrub = scrubber(waist)
        with trio.move_on_after(5 * PASS_S):
            await scrub.run()
        assert scrub.status.damaged == 1
        assert waist.metrics.get("records_damaged_total", "main") == 10
        ((_, entry),) = await waist.log.quarantine(0, 10)
        assert (entry.code, entry.number) == (CODE, 101)
        assert entry.reason.startswith("log main: block 101 to 110 fails its checksum")
        assert entry.body
        assert caplog.text.count("fails its checksum") == 1
        items = await waist.log.read("main", 95)
        assert items[1] == Gap("main", 101, 110, "damaged")
        assert isinstance(items[2], Block)
        # After a restart quarantine tells what was told.
        again = scrubber(waist)
        with trio.move_on_after(2 * PASS_S):
            await again.run()
        assert again.status.damaged == 0
        assert len(await waist.log.quarantine(0, 10)) == 1


async def test_what_quarantine_did_not_take_is_found_again(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist)
        flip(tmp_path, block_key(1, 101), 70)
        commit, refusals = waist.engine.commit, [StoreFull("the store is full")]

        def refusing(entries: Sequence[Entry]) -> CommitResult:
            result = commit([Entry()] if refusals else entries)
            return replace(result, answers=(refusals.pop(),)) if refusals else result

        monkeypatch.setattr(waist.engine, "commit", refusing)
        scrub = scrubber(waist)
        with trio.move_on_after(3 * PASS_S):
            await scrub.run()
        assert not refusals
        assert len(await waist.log.quarantine(0, 10)) == 1
        assert (scrub.status.damaged, waist.metrics.get("records_damaged_total", "main")) == (1, 10)


async def test_what_was_told_is_known_whole_or_not_at_all(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist)
        flip(tmp_path, block_key(1, 101), 70)
        flip(tmp_path, block_key(1, 201), 70)
        with trio.move_on_after(2 * PASS_S):
            await scrubber(waist).run()
        # One entry a page, and the disk refuses the second one, once.
        monkeypatch.setattr("edge_agent.scrubber._PAGE_OF_ENTRIES", 1)
        really, asked = waist.log.quarantine, 0

        async def refusing(after: int, limit: int) -> list[tuple[int, Quarantined]]:
            nonlocal asked
            asked += 1
            if asked == 2:
                raise StoreFailed("EIO")
            return await really(after, limit)

        monkeypatch.setattr(waist.log, "quarantine", refusing)
        with trio.move_on_after(3 * PASS_S):
            await scrubber(waist).run()
        assert asked > 2
        assert len(await really(0, 10)) == 2


async def test_other_damage_is_salvaged_while_the_agent_runs(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with open_waist(tmp_path) as waist:
        ticket = await waist.log.append(numbered(1, {"n": 1}, source="pi"))
        await ticket.wait()
        await fill(waist, 5)
        flip(tmp_path, source_key("pi"), 1)
        with trio.move_on_after(1.5 * PASS_S):
            await scrubber(waist).run()
        assert waist.engine.salvage_report is not None
        assert waist.engine.salvage_report["records"] == 51
        await waist.put(run_of({"n": 2}))


async def test_a_disk_that_refuses_is_tried_again(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_waist(tmp_path) as waist:
        await fill(waist, 5)
        failures = iter((OSError(5, "EIO"),))
        really = PageFile.__init__

        def opened(self: PageFile, data: Path) -> None:
            for failure in failures:
                raise failure
            really(self, data)

        monkeypatch.setattr(PageFile, "__init__", opened)
        scrub = scrubber(waist)
        with trio.move_on_after(4 * PASS_S):
            await scrub.run()
        assert scrub.status.last_blocks == 5


def test_a_step_is_short() -> None:
    assert STEP_BYTES <= 1024 * 1024
