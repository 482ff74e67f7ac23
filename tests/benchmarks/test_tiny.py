"""What the benchmarks are made of; that every one runs is `test_whole`."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

from benchmarks.__main__ import KINDS, reached, with_sections, write
from benchmarks.machine import MEMORY_FILE_SYSTEMS, describe, file_system_of
from benchmarks.peers import PEERS
from benchmarks.plot import Group
from benchmarks.readback import verify
from benchmarks.records import RECORD_BYTES, checksum, encoded_records, messages
from benchmarks.section import Section
from benchmarks.sections import SECTIONS, measure, run

ROOT = Path(__file__).parents[2]


def test_a_section_that_fails_leaves_nothing_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path, tiny: bool) -> Section:
        (folder / "store").write_bytes(b"x")
        raise SystemExit("1 records were acked, 0 are stored")

    monkeypatch.setitem(SECTIONS, "ingest", fails)

    with pytest.raises(SystemExit, match="0 are stored"):
        measure("ingest", tmp_path, True)
    assert not list(tmp_path.iterdir())


def test_full_sections_are_measured_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def section(folder: Path, tiny: bool) -> Section:
        assert not tiny and [path.name for path in tmp_path.iterdir()] == [folder.name]
        seen.append(folder.name)
        return Section(f"## {folder.name}")

    for name in SECTIONS:
        monkeypatch.setitem(SECTIONS, name, section)

    texts = [found.text for found in run(["wear", "start"], tmp_path, False)]

    assert seen == ["wear", "start"] and texts == ["## wear", "## start"]


def test_the_results_hold_machine_goals_plot_and_all_sections(tmp_path: Path) -> None:
    bars = (Group("edge_agent", (("1 connection", 400_000.0),), next(iter(KINDS))),)
    sections = [
        Section("## Ingest: x", {"singles_1": 400_000.0}, bars),
        Section("## Drain", {"drain": 1.0}),
    ]

    write(tmp_path / "RESULTS.md", ["- 2026-11-24", "- 2 cores"], sections)

    text = (tmp_path / "RESULTS.md").read_text()
    assert re.findall(r"^## (\w+)", text, re.MULTILINE) == ["Goals", "Ingest", "Drain"]
    assert "- 2026-11-24\n- 2 cores\n" in text and reached(sections) in text
    assert "](results.svg)" in text and "400,000" in (tmp_path / "results.svg").read_text()


def test_sections_of_another_run_take_the_places_of_their_own(tmp_path: Path) -> None:
    bars = (Group("edge_agent", (("1 connection", 400_000.0),), next(iter(KINDS))),)
    first = [Section("## Ingest: x\n\nold", {"singles_1": 400_000.0}, bars), Section("## Wear", {})]
    write(tmp_path / "RESULTS.md", ["- 2026-11-24"], first)
    later = [
        Section("## Ingest: x\n\nnew", {"singles_1": 500_000.0}),
        Section("## Drain", {"drain": 2e6}),
    ]

    text = with_sections(
        (tmp_path / "RESULTS.md").read_text(), ["- 2026-11-29"], later, reached(later)
    )
    again = with_sections(text, ["- 2026-11-30"], later[1:], reached(later[1:]))

    assert re.findall(r"^## (\w+)", again, re.MULTILINE) == ["Goals", "Ingest", "Wear", "Drain"]
    assert "old" not in again and "\n\nnew\n" in again
    assert "| 500,000 /s |" in again and "| 2,000,000 records/s |" in again
    assert again.count("- 2026-11-29") == again.count("- 2026-11-30") == 1
    assert "- 2026-11-24" in again.partition("## Goals")[0]


def test_a_file_system_in_memory_is_refused() -> None:
    assert file_system_of(Path("/dev/shm")) in MEMORY_FILE_SYSTEMS

    with pytest.raises(SystemExit, match="a sync is free there"):
        describe(Path("/dev/shm"))


def test_the_machine_is_described_with_the_versions_of_all_that_ran(tmp_path: Path) -> None:
    lines = "\n".join(describe(tmp_path).lines())

    for name, peer in PEERS.items():
        assert (f"no {name}" if peer.missing() else peer.version()) in lines
    assert re.search(r"SQLite 3\.\d+", lines) and "trio-websocket 0." in lines


def test_the_generator_gives_many_different_records_of_one_size() -> None:
    records = encoded_records(1)

    assert len(set(records)) == len(records) == 100_000
    assert {len(record) for record in records} == {RECORD_BYTES}
    assert records != encoded_records(2)
    assert b"".join(messages(250, 1)) == b"".join(records[:250])
    assert encoded_records(1, 1000) == records[:1000]


def test_messages_cycle_from_where_they_are_told_to_begin() -> None:
    records = encoded_records(1)

    assert messages(3, 1, start=99_998) == [records[99_998], records[99_999], records[0]]
    batches = messages(250, 100, start=99_900)
    assert [batch[-RECORD_BYTES:] for batch in batches] == [
        records[99_999], records[99], records[149],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="do not fit"):
        messages(10, 100, start=50)


def test_the_checksum_is_that_of_the_joined_records() -> None:
    records = encoded_records(1)

    assert checksum(3, start=99_998) == zlib.crc32(records[99_998] + records[99_999] + records[0])
    assert checksum(200_001) == zlib.crc32(b"".join(records) * 2 + records[0])


def test_a_store_that_lacks_an_acked_record_gets_no_figure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="1 records were acked, 0 are stored"):
        verify(tmp_path, 1, {})
