"""Every store that a test makes is closed and checked by independent eyes afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.store import Engine
from edge_agent.store.tools.check import check_store
from tests.manual_clock import ManualClock
from tests.store.support import KEYS, seeded, small


class Stores:
    """Opens stores below one folder. ``damaged``: names that a test has damaged on purpose, for
    which gaps are no surprise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.damaged: set[str] = set()
        self._entropy = seeded(1)
        self._engines: list[Engine] = []

    def path(self, name: str = "agent") -> Path:
        return self.folder / name

    def data(self, name: str = "agent") -> Path:
        return self.path(name) / "store" / "data.mdb"

    def open(self, name: str = "agent", **settings: Any) -> Engine:
        engine = Engine.open(
            self.path(name), small(**settings), clock=self.clock, entropy=self._entropy
        )
        self._engines.append(engine)
        return engine

    def forget(self, name: str) -> None:
        """A test has looked at this store itself, and removed it."""
        self._engines = [one for one in self._engines if one.path != self.path(name)]

    def close_and_check(self) -> None:
        for engine in self._engines:
            engine.close()
        for path in {engine.path for engine in self._engines}:
            if path.name not in self.damaged:
                report = check_store(path, KEYS)
                assert not report.problems
                assert not report.gaps


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path)
    yield made
    made.close_and_check()
