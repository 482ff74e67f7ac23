"""What outlives a test and is ended with the last one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forward.sinks.postgres import server


@pytest.fixture(scope="session", autouse=True)
def _shared_servers() -> Iterator[None]:
    yield
    server.STACK.close()
