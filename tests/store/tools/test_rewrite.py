"""Copying beside an agent that writes, and stopping in time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from edge_agent.errors import StoreFailed
from edge_agent.store import Entry
from edge_agent.store.tools.changes import Change
from edge_agent.store.tools.rewrite import rewrite, used_bytes
from tests.store.conftest import Stores
from tests.store.support import run


def test_the_copy_is_of_one_commit_and_progress_is_told(stores: Stores, tmp_path: Path) -> None:
    engine = stores.open(compression_level=0)
    for value in range(30):
        engine.commit([Entry((run(2, value=value, pad=30_000),))])
    source = engine._env
    assert source is not None
    told: list[tuple[int, int]] = []
    rewritten = rewrite(
        source, _folder(tmp_path), 4 << 20, Change(), lambda *said: told.append(said)
    )
    assert rewritten.blocks == 30 and told[-1][0] == told[-1][1] == used_bytes(source)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_it_stops_before_the_writer_runs_out_of_pages(stores: Stores, tmp_path: Path) -> None:
    engine = stores.open(compression_level=0)
    for value in range(30):
        engine.commit([Entry((run(1, value=value, pad=30_000),))])

    class Busy(Change):
        """A sensor that sends while each value is copied."""

        def value(self, key: bytes, value: bytes) -> bytes | None:
            engine.commit([Entry((run(1, pad=30_000),))])
            return value

    source = engine._env
    assert source is not None
    with pytest.raises(StoreFailed, match="try again"):
        rewrite(source, _folder(tmp_path), 4 << 20, Busy(), lambda done, total: None)


def test_a_disk_that_refuses_is_our_own_error(stores: Stores, tmp_path: Path) -> None:
    engine = stores.open()
    engine.commit([Entry((run(2),))])
    source = engine._env
    assert isinstance(source, lmdb.Environment)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFailed):
        rewrite(source, tmp_path / "file" / "new", 4 << 20, Change(), lambda done, total: None)


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    return folder


_READS = """
import sys, lmdb
env = lmdb.open(sys.argv[1], map_size=4 << 20, readonly=True, lib_version=0)
with env.begin() as txn:
    txn.get(b"x")
    print("reading", flush=True)
    sys.stdin.read()
"""


def test_a_reader_that_was_killed_keeps_no_pages_for_longer_than_a_pass_of_retention(
    stores: Stores,
) -> None:
    engine = stores.open()
    engine.commit([Entry((run(2),))])
    command = [sys.executable, "-c", _READS, str(stores.path() / "store")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"reading\n"
        assert engine._env is not None and str(reader.pid) in engine._env.readers()
        reader.kill()
    assert str(reader.pid) in engine._env.readers()
    engine.trim()
    assert str(reader.pid) not in engine._env.readers()
