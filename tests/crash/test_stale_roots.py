"""Some of `make crash`'s stores with an old root, and that a silent loss would be noticed."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from edge_agent.store import Engine
from tests.crash.proof import Scale
from tests.crash.stale_roots import build, prove, try_one


def test_an_old_root_costs_nothing_that_is_not_told() -> None:
    outcome = prove(Scale(168, processes=1), seed=7)
    assert outcome.failures == (), "\n".join((*outcome.lines, *outcome.failures))
    counts = re.match(r"168 stores .*: (\d+) back, (\d+) counted", outcome.lines[-1])
    assert counts and all(int(count) > 20 for count in counts.groups()), outcome.lines[-1]


def test_a_loss_that_is_not_told_and_a_wrong_record_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = build(tmp_path / "base", random.Random(3))
    roots = {0: history.back(0, 2)}
    assert try_one(tmp_path, history, roots, [], "as it is").wrong == ""

    seq, value = next(iter(history.acked["main"].items()))
    history.acked["main"][seq] = (value or 0) + 1
    assert "not what was stored" in try_one(tmp_path, history, roots, [], "changed").wrong
    history.acked["main"][seq] = value

    open_ = Engine.open

    def silent(*arguments: Any, **named: Any) -> Engine:
        engine = open_(*arguments, **named)
        engine.salvage_report = None
        return engine

    monkeypatch.setattr(Engine, "open", silent)
    history.acked["main"][10**9] = 1
    assert "acked records are not there" in try_one(tmp_path, history, roots, [], "less").wrong
