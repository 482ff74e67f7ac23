"""Every kind of record is measured in both encodings where both can say it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_kinds import BATCHES, HEAD_BYTES, KINDS, KindRow, section


def test_each_record_counts_its_head_beside_its_own_bytes() -> None:
    assert KindRow("any", False, 100 - HEAD_BYTES, 80, 20).by_byte == 1.0


def test_all_kinds_are_in_the_table(tmp_path: Path) -> None:
    found = section(tmp_path, tiny=True)
    lines = found.text.splitlines()
    assert sum("| msgpack |" in line for line in lines) == len(KINDS) + sum(
        batch <= 200 for batch in BATCHES
    )
    assert any(line.startswith("| text with escapes | JSON |") for line in lines)
    assert found.figures["kinds"] > 0
    assert not list(tmp_path.iterdir())
