"""What a record costs by the byte; `test_tiny` runs the section itself."""

from __future__ import annotations

from benchmarks.bench_kinds import HEAD_BYTES, KindRow


def test_each_record_counts_its_head_beside_its_own_bytes() -> None:
    assert KindRow("any", False, 100 - HEAD_BYTES, 80, 20).by_byte == 1.0
