"""Every kind of record is measured in both encodings where both can say it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_kinds import BATCHES, HEAD_BYTES, KINDS, KindRow, ratios, section


def test_a_kind_is_held_against_the_usual_one_of_its_encoding() -> None:
    rows = [
        KindRow("usual", False, 100 - HEAD_BYTES, 80, 20),
        KindRow("dear", False, 200 - HEAD_BYTES, 500, 100),
        KindRow("usual", True, 100 - HEAD_BYTES, 160, 40),
        KindRow("cheap", True, 100 - HEAD_BYTES, 90, 10),
    ]
    assert ratios(rows) == [1.0, 3.0, 1.0, 0.5]


def test_all_kinds_are_in_the_table(tmp_path: Path) -> None:
    found = section(tmp_path, tiny=True)
    lines = found.text.splitlines()
    assert sum("| msgpack |" in line for line in lines) == len(KINDS) + sum(
        batch <= 200 for batch in BATCHES
    )
    assert any(line.startswith("| text with escapes | JSON |") for line in lines)
    assert found.figures["kinds"] > 0
    assert not list(tmp_path.iterdir())
