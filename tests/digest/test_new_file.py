"""A new file of history holds its header and every part whose stream has a name."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from edge_agent.digest import new_file
from edge_agent.digest.file import NEVER
from edge_agent.digest.new_file import write_new
from edge_agent.history import HISTORY_FORMAT, HistoryHeader, keys, read_header, scan, to_store
from tests.digest.support import MIB

HEADER = HistoryHeader(HISTORY_FORMAT, "store", "epoch", {"main": 7}, 1, 7, 0, NEVER)


def values(folder: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin(buffers=True) as txn:
        assert read_header(txn) == HEADER
        return {key: bytes(raw) for key, raw in scan(txn, keys.SERIES, b"\xff")}


def test_an_empty_one_has_its_header(tmp_path: Path) -> None:
    assert write_new(tmp_path / "new", MIB, HEADER) == (0, 0)
    assert values(tmp_path / "new") == {}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_parts_are_written_in_several_transactions_but_for_those_of_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_file, "_BATCH", 3)
    name = keys.series_key(1)
    given = [(name, to_store(name, b"a"))]
    for series in (1, 2):
        parts = (keys.part_key(keys.RAW, hour, series, 0) for hour in range(5))
        given += [(key, to_store(key, b"part")) for key in parts]
    assert write_new(tmp_path / "new", MIB, HEADER, given) == (5, 5)
    assert values(tmp_path / "new") == dict(given[:6])
