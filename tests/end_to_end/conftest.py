"""What the tests of locked ports share."""

from __future__ import annotations

import pytest

from tests.end_to_end.keys import Keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """An authority, and a token of each kind."""
    made = Keys.make(tmp_path_factory.mktemp("keys"))
    made.add("sensor", "--write", "**")
    made.add("narrow", "--write", "greenhouse/**", "--source", "pi/**")
    made.add("reader", "--read", "**")
    made.add("agent", "--forward")
    return made
