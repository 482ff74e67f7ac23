"""Every benchmark runs on tiny input, so that none rots; its figures mean nothing here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import MEMORY_FILE_SYSTEMS, describe, file_system_of
from benchmarks.readback import verify
from benchmarks.records import RECORD_BYTES, encoded_records, messages

ROOT = Path(__file__).parents[2]
HEADINGS = ("Ingest", "Drain", "Ack latency", "Start, memory, queries")


def test_all_benchmarks_run_and_print_their_tables(tmp_path: Path) -> None:
    results = ROOT / "benchmarks" / "RESULTS.md"
    before = results.read_bytes() if results.exists() else None

    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "--folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert [line.split(":")[0][3:] for line in run.stdout.splitlines() if line[:3] == "## "]
    for heading in HEADINGS:
        assert f"## {heading}" in run.stdout
    rates = re.findall(r"^\| (?:single|batches).*? \| 1 \| ([\d,.]+) \|", run.stdout, re.MULTILINE)
    assert len(rates) == 2 and all(float(rate.replace(",", "")) > 0 for rate in rates)
    assert (results.read_bytes() if results.exists() else None) == before
    assert not list(tmp_path.iterdir()), "it cleans up after itself"


def test_a_file_system_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_system_of(Path("/dev/shm")) in MEMORY_FILE_SYSTEMS

    with pytest.raises(SystemExit, match="a sync is free there"):
        describe(Path("/dev/shm"))


def test_the_generator_gives_many_different_records_of_one_size() -> None:
    records = encoded_records(1)

    assert len(set(records)) == len(records) == 100_000
    assert {len(record) for record in records} == {RECORD_BYTES}
    assert records != encoded_records(2)
    assert b"".join(messages(250, 1)) == b"".join(records[:250])


def test_a_store_that_lacks_an_acked_record_gets_no_figure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="1 records were acked, 0 are stored"):
        verify(tmp_path, 1, {})
