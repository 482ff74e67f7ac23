"""A file system whose own checksums fail: ext4 answers EBADMSG for what it cannot vouch for."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edge_agent.errors import StoreFailed
from edge_agent.store import Engine
from edge_agent.store.tools.check import check_store
from tests.end_to_end.disks import Card, card
from tests.manual_clock import ManualClock
from tests.store.support import entry, seeded, small, values

pytestmark = pytest.mark.needs("loop", "mkfs.ext4", "debugfs", "losetup")


def open_store(card: Card, seed: int = 1) -> Engine:
    return Engine.open(card.place / "agent", small(), clock=ManualClock(), entropy=seeded(seed))


def forgotten(made: Card, name: str) -> Path:
    """The file system fails for one file of a store with five records."""
    engine = open_store(made)
    engine.commit([entry(5, 1)])
    engine.close()
    path = made.place / "agent" / name
    made.forget(path)
    with pytest.raises(OSError) as told:
        path.stat()
    assert told.value.errno == errno.EBADMSG
    return path


def test_a_store_that_cannot_be_opened_is_set_aside(tmp_path: Path) -> None:
    with card(tmp_path, errors="continue") as made:
        forgotten(made, "store/data.mdb")
        assert "cannot be opened: Bad message" in check_store(made.place / "agent").problems[0]
        engine = open_store(made, 2)
        report = engine.salvage_report
        assert report is not None
        assert "Bad message" in report["reason"]
        assert not report["all_known"]
        engine.commit([entry(3, 1)])
        assert values(engine) == [1, 2, 3]
        engine.close()
        assert (made.place / "agent" / "damaged-1").is_dir()


def test_lmdbs_own_lock_file_costs_nothing(tmp_path: Path) -> None:
    with card(tmp_path, errors="continue") as made:
        forgotten(made, "store/lock.mdb")
        engine = open_store(made, 2)
        assert engine.salvage_report is not None
        assert engine.salvage_report["missing"] == 0
        assert values(engine) == [1, 2, 3, 4, 5]
        engine.close()


def test_where_the_lock_is_lost_the_message_says_what_helps(tmp_path: Path) -> None:
    with card(tmp_path, errors="continue") as made:
        forgotten(made, "lock")
        with pytest.raises(StoreFailed, match="fsck") as told:
            open_store(made, 2)
        assert "writable" not in str(told.value)
        made.repair()
