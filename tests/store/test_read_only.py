"""Stores on disks that refuse writes: what may be told, and what may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from edge_agent.errors import StoreFailed, StoreLocked
from edge_agent.store import Entry, Gap, Position, Stored
from edge_agent.store import read_only as module
from edge_agent.store.commit import stamp, transaction
from edge_agent.store.format.block import Block
from edge_agent.store.read.cursor import cut_off
from edge_agent.store.repair.salvage import salvage
from tests.manual_clock import ManualClock
from tests.store.conftest import Stores
from tests.store.support import entry, failing_disk, seeded, small, values


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Openings that write are refused, without anything being written."""

    def refuse(*arguments: object) -> None:
        raise StoreFailed("Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(module, "open_or_salvage", refuse)
        yield


def reboot(stores: Stores) -> None:
    stores.clock = ManualClock(boot=2)


def test_what_an_earlier_boot_stored_is_read_and_positions_are_told(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1), Entry(positions=(Position("hub", "main", 2, b"state"),))])
    engine.close()
    reboot(stores)
    with refusing(monkeypatch):
        engine = stores.open()
        assert "Read-only file system" in str(engine.refusal)
        assert (engine.first_seq("main"), engine.last_seq("main")) == (1, 3)
        assert values(engine) == [1, 2, 3]
        assert engine.position("hub", "main") == (2, b"state")
        assert engine.statistics().logs["main"].records == 3
        with pytest.raises(StoreFailed, match="Read-only"):
            engine.next_of("pi")
        with pytest.raises(StoreFailed, match="Read-only"):
            engine.commit([entry(1, 4)])
        with pytest.raises(StoreFailed, match="Read-only"):
            engine.reopen()
        assert values(engine) == [1, 2, 3]
    engine.reopen()
    assert engine.next_of("pi") == 4
    assert engine.commit([entry(1, 4)]).answers == (Stored({"main": 4}, 5, 0),)


def test_what_this_boot_may_have_in_its_cache_alone_is_read_but_positions_are_not(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1), Entry(positions=(Position("hub", "main", 2),))])
    engine.close()
    with refusing(monkeypatch):
        engine = stores.open()
        assert values(engine) == [1, 2, 3]
        with pytest.raises(StoreFailed, match="Read-only"):
            engine.position("hub", "main")
    engine.reopen()
    assert engine.position("hub", "main") == (2, None)


def test_a_group_whose_sync_failed_is_not_read_though_the_file_has_it(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    real = stamp.writing

    @contextmanager
    def late(env: lmdb.Environment) -> Iterator[lmdb.Transaction[bytes]]:
        # The last write of a commit arrives in the cache, and is answered EIO.
        with real(env) as txn:
            yield txn
        monkeypatch.setattr(transaction, "writing", real)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(transaction, "writing", late)
    with pytest.raises(StoreFailed):
        engine.commit([entry(2, 4)])
    with refusing(monkeypatch):
        with pytest.raises(StoreFailed):
            engine.reopen()
        assert engine.last_seq("main") == 3
        assert values(engine) == [1, 2, 3]
    engine.reopen()
    # Now it is durable, by the marker.
    assert values(engine) == [1, 2, 3, 4, 5]
    assert engine.commit([entry(2, 4)]).duplicates == 2


def test_a_disk_that_refuses_all_writes_is_read_until_it_takes_them(stores: Stores) -> None:
    stores.open().close()
    with failing_disk():
        engine = stores.open()
        assert engine.refusal is not None
        assert values(engine) == []
        with pytest.raises(StoreFailed):
            engine.reopen()
    engine.reopen()
    assert engine.refusal is None


def test_what_an_earlier_salvage_lost_is_told_by_a_refusing_disk_too(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.damaged.add("agent")
    engine = stores.open()
    engine.commit([entry(3, 1)])
    engine.close()
    salvage(stores.path(), small(), stores.clock, seeded(5), "a bit was wrong")
    with refusing(monkeypatch):
        engine = stores.open()
    assert engine.salvage_report is not None
    assert engine.salvage_report["reason"] == "a bit was wrong"


def test_a_store_of_another_board_is_not_told_under_its_old_name(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.open(board="a" * 16).close()
    reboot(stores)
    with refusing(monkeypatch), pytest.raises(StoreFailed, match="Read-only"):
        stores.open(board="b" * 16)


def test_where_there_is_nothing_to_read_the_refusal_is_raised(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing(monkeypatch), pytest.raises(StoreFailed, match="Read-only"):
        stores.open()


def test_two_agents_cannot_read_one_refusing_disk(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.open().close()
    with refusing(monkeypatch):
        stores.open()
        with pytest.raises(StoreLocked):
            stores.open()


def test_a_gap_is_cut_where_what_may_be_read_ends(tmp_path: Path) -> None:
    gap: list[Block | Gap] = [Gap("main", 1, 9, "damaged")]
    assert cut_off(gap, 5) == [Gap("main", 1, 5, "damaged")]
    assert cut_off(gap, 9) == gap
    assert cut_off(gap, 0) == []
