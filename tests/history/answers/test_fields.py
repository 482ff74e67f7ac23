"""Fields that nobody named are those of the newest hours or days, joined or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.digest import months
from edge_agent.history.answers.fields import fields_of_stream
from edge_agent.history.keys import DAY_NS, MONTH_DAYS, MONTH_NS, MONTHS
from tests.digest.support import parts
from tests.history.answers.made import START_NS, Plain, made

BEGIN_NS = START_NS // MONTH_NS * MONTH_NS


@pytest.mark.parametrize("joined", [False, True])
def test_the_newest_days_of_a_range_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, joined: bool
) -> None:
    if not joined:
        monkeypatch.setattr(months, "JOIN_FROM", 10**9)
    with made(tmp_path) as history:
        for day in range(MONTH_DAYS + 2):
            at = BEGIN_NS + day * DAY_NS
            history.put([Plain("a", at + 5, {"z": 1, f"f{day // 4}": 2, "text": "no"})])
            history.flush(at + DAY_NS + DAY_NS // 24)
        # Of half a month ago, and known late.
        history.put([Plain("a", BEGIN_NS + 15 * DAY_NS + 9, {"late": 1})])
        history.flush()
        assert bool([*parts(history.history.file, MONTHS)]) == joined
        for level in (b"\x10", b"\x11"):
            with history.history.file._env.begin(write=True) as txn:
                cursor = txn.cursor()
                while cursor.set_range(level) and cursor.key()[:1] == level:
                    cursor.delete()
        with history.view([], BEGIN_NS, BEGIN_NS) as view:

            def fields(first: int, behind: int) -> list[str]:
                span = BEGIN_NS + first * DAY_NS, BEGIN_NS + behind * DAY_NS
                return [".".join(path) for path in fields_of_stream(view, "a", 1, *span)]

            assert fields(0, 3) == ["z", "f0"]
            assert fields(0, 14) == ["z", "f3", "f2"]
            assert sorted(fields(0, 16)) == ["f3", "late", "z"]
            assert fields(0, 17) == ["z", "f4", "f3", "late"]
            assert fields(15, 16)[-1] == "late"
            assert fields(0, 60) == ["z", "f8", "f7"]
            assert fields(-9, 0) == fields(60, 90) == []
