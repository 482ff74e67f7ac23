from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from edge_agent.errors import StoreDamaged, StoreFailed, StoreLocked, StoreTooNew
from edge_agent.store import LogSettings, Stored, create
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import STORE, open_environment
from edge_agent.store.format.keys import STORE as STORE_KEY
from edge_agent.store.format.keys import log_key
from edge_agent.store.format.values import FORMAT, StoreHeader, decode, encode
from edge_agent.store.opening import FolderCheck, open_store, read_header
from edge_agent.store.tools.check import check_store
from tests.store.conftest import Stores
from tests.store.support import MIB, entry, sealed, seeded, small, values


def test_each_opening_is_counted_in_the_header(stores: Stores) -> None:
    for _ in range(3):
        stores.open().close()
    opened = open_store(stores.path(), small(), seeded(9))
    opened.env.close()
    assert opened.header.opened == 4


def test_a_new_log_of_the_configuration_is_added(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(2, 1)])
    engine.close()
    logs = (LogSettings("alarms", share=0.1), LogSettings("main", share=0.1))
    again = stores.open(logs=logs)
    assert set(again.logs()) == {"main", "alarms"}
    assert values(again) == [1, 2]


def test_a_larger_size_in_the_settings_makes_the_file_larger(stores: Stores) -> None:
    stores.open(size=1 * MIB).close()
    engine = stores.open(size=2 * MIB)
    assert stores.data().stat().st_size == 2 * MIB
    assert engine.statistics().size == 2 * MIB


def test_a_smaller_size_leaves_the_file_and_what_is_in_it(stores: Stores) -> None:
    engine = stores.open(size=2 * MIB)
    engine.commit([entry(5, 1)])
    engine.close()
    assert values(stores.open(size=1 * MIB)) == [1, 2, 3, 4, 5]
    assert stores.data().stat().st_size == 2 * MIB


def test_a_newer_store_is_left_untouched(stores: Stores) -> None:
    stores.open().close()
    env = open_environment(stores.path() / STORE, 4 * MIB)
    with writing(env) as txn:
        raw = txn.get(STORE_KEY)
        assert raw is not None
        header = decode(STORE_KEY, raw, StoreHeader)
        fields = [FORMAT + 1, *[getattr(header, n) for n in header.__struct_fields__[1:]]]
        txn.put(STORE_KEY, sealed(STORE_KEY, msgspec.msgpack.encode(fields)))
    env.close()
    before = stores.data().read_bytes()
    with pytest.raises(StoreTooNew, match=f"format {FORMAT + 1}"):
        stores.open()
    assert stores.data().read_bytes() == before
    stores.damaged.add("agent")


def test_a_store_without_a_readable_header_is_damaged() -> None:
    with pytest.raises(StoreDamaged):
        read_header(None)
    with pytest.raises(StoreDamaged):
        read_header(b"\xc1")
    with pytest.raises(StoreTooNew):
        read_header(encode(STORE_KEY, StoreHeader(9, "", "", "", "", 0, 0)))


def test_a_log_header_that_cannot_be_read_leads_to_a_salvage(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    engine.close()
    env = open_environment(stores.path() / STORE, 4 * MIB)
    with writing(env) as txn:
        txn.put(log_key("main"), b"\xc1")
    env.close()
    stores.damaged.add("agent")
    again = stores.open()
    assert again.salvage_report is not None
    assert "LogHeader" in again.salvage_report["reason"]
    assert values(again) == [1, 2, 3]


def test_a_store_whose_name_could_not_be_synced_gets_it_synced_at_the_next_start(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Path] = []

    def refuse(folder: Path) -> None:
        refused.append(folder)
        if folder == stores.path():
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(create, "sync_folder", refuse)
        engine = stores.open()
        assert "Input/output error" in str(engine.refusal)
        assert stores.path() in refused
    synced: list[Path] = []
    monkeypatch.setattr(create, "sync_folder", synced.append)
    engine.reopen()
    assert engine.refusal is None
    # Its folder's own name, too: who made that may have been killed before syncing it.
    assert synced == [stores.path(), stores.path().parent]


def test_a_folder_whose_parent_nobody_may_look_into_is_the_parents_affair(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = create.sync_folder

    def refuse(folder: Path) -> None:
        if folder == stores.path().parent:
            raise PermissionError(13, "Permission denied")
        real(folder)

    stores.path().mkdir(parents=True)
    monkeypatch.setattr(create, "sync_folder", refuse)
    assert stores.open().last_seq("main") == 0


def test_a_pipe_in_place_of_the_file_holds_nobody_up(stores: Stores) -> None:
    """What a repaired file system made of it, or somebody put there, is set aside like damage."""
    stores.open().close()
    stores.data().unlink()
    os.mkfifo(stores.data())
    assert check_store(stores.path()).problems == [f"{stores.data()} is no plain file"]
    stores.damaged.add("agent")
    engine = stores.open()
    assert engine.salvage_report is not None
    engine.commit([entry(1, 1)])


def test_a_name_that_lost_its_file_is_told(tmp_path: Path) -> None:
    for name in ("deleted", "replaced", "kept"):
        (tmp_path / name).write_text("here")
    place = FolderCheck(tmp_path / name for name in ("kept", "deleted", "replaced", "never there"))
    (tmp_path / "kept").write_text("written to")
    (tmp_path / "never there").write_text("now it is")
    place.check()
    (tmp_path / "other").write_text("here")
    (tmp_path / "other").rename(tmp_path / "replaced")
    with pytest.raises(FileNotFoundError, match=r"replaced.*running.*'.*/replaced'"):
        place.check()
    (tmp_path / "deleted").unlink()
    with pytest.raises(FileNotFoundError, match="/deleted"):
        place.check()


def test_nothing_is_stored_in_a_store_that_was_deleted_under_it(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    epoch = engine.identity.epoch
    shutil.rmtree(engine.path / "store")
    with pytest.raises(StoreFailed, match="deleted or replaced"):
        engine.commit([entry(3, 4)])
    engine.reopen()
    assert engine.identity.epoch != epoch
    assert engine.commit([entry(3, 1)]).answers == (Stored({"main": 3}, 4, 0),)
    engine.close()
    assert values(stores.open()) == [1, 2, 3]


def test_a_folder_that_went_with_its_mount_comes_back_with_its_store(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    elsewhere = engine.path.with_name("elsewhere")
    engine.path.rename(elsewhere)
    with pytest.raises(StoreFailed, match="deleted or replaced"):
        engine.commit([entry(3, 4)])
    for _ in range(2):
        with pytest.raises(StoreFailed, match="No such file"):
            engine.reopen()
    assert not engine.path.exists()
    elsewhere.rename(engine.path)
    engine.reopen()
    engine.commit([entry(3, 4)])
    assert values(engine) == [1, 2, 3, 4, 5, 6]


def test_a_deleted_lock_file_lets_no_second_agent_write_beside_the_first(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    (engine.path / "lock").unlink()
    with pytest.raises(StoreFailed, match="/lock"):
        engine.commit([entry(3, 4)])
    engine.reopen()
    with pytest.raises(StoreLocked):
        stores.open()
    engine.commit([entry(3, 4)])
    assert values(engine) == [1, 2, 3, 4, 5, 6]
