from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest

from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.store.lmdb_errors import translated, why_refused


@pytest.mark.parametrize(
    "error",
    [lmdb.CorruptedError("x"), lmdb.PageNotFoundError("x"), lmdb.InvalidError("x")],
)
def test_a_wrong_file_is_damage(error: Exception) -> None:
    assert isinstance(translated(error, "opening"), StoreDamaged)


@pytest.mark.parametrize(
    "error",
    [lmdb.DiskError("x"), lmdb.PanicError("x"), lmdb.Error("x"), OSError(5, "Input/output error")],
)
def test_everything_else_is_the_disk(error: Exception) -> None:
    found = translated(error, "committing")
    assert isinstance(found, StoreFailed)
    assert str(found).startswith("committing: ")


@pytest.mark.parametrize(
    "available,flags,expected",
    [
        (512, 0, "committing: EIO"),
        (255, 0, "the file system of {} is full (1020 KiB left): committing: EIO"),
        (0, os.ST_RDONLY, "the file system of {} is mounted read-only: committing: EIO"),
    ],
)
def test_a_full_or_read_only_file_system_is_named_before_the_card_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, flags: int, expected: str
) -> None:
    room = SimpleNamespace(f_bavail=available, f_frsize=4096, f_flag=flags)
    monkeypatch.setattr(os, "statvfs", lambda folder: room)
    assert why_refused(tmp_path, "committing: EIO") == expected.format(tmp_path)


def test_where_nobody_can_tell_the_disk_has_the_word(tmp_path: Path) -> None:
    assert why_refused(tmp_path / "gone", "committing: EIO") == "committing: EIO"
