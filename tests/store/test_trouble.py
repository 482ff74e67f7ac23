from __future__ import annotations

import lmdb
import pytest

from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.store.trouble import translated


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
