"""Tests in emulation: ``make arm64`` makes everything for them; other runs pass them over."""

import os
from collections.abc import Iterator

import pytest

from tests.systemd.arm64.installed import Root, installed

#: The folder with what make made: the package in "debs", and "root", a file system.
collect_ignore_glob = [] if "EDGE_AGENT_ARM64" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """Once for all tests: what is installed there is compiled in emulation, which takes minutes."""
    with installed(tmp_path_factory.mktemp("arm64") / "root") as made:
        yield made
