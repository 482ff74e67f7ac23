"""Agents that start quickly, and a flow without a server behind it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from benchmarks import processes
from benchmarks.pump import Flow
from tests.benchmarks.preloaded import start


def ignore(flow: Flow, data: bytes) -> None:
    """Stands where a protocol would take answers."""


@pytest.fixture(autouse=True)
def _preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "start", start)


@pytest.fixture
def flow() -> Iterator[Flow]:
    """Four chunks of ten records and a hundred bytes each; the window takes two of them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Flow(ours, [bytes(100)] * 4, [10, 20, 30, 40], 20, ignore)
