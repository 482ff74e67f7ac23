from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_agent.errors import StoreFailed, StoreLocked
from edge_agent.store import Stored
from edge_agent.store.folder_check import FolderCheck
from tests.store.conftest import Stores
from tests.store.support import entry, values


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
