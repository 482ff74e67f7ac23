"""Every bench that a test makes is closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.digest.support import Bench, Opened


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Opened]:
    made: list[Bench] = []

    def make(name: str = "agent", **settings: Any) -> Bench:
        made.append(Bench(tmp_path / name, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
