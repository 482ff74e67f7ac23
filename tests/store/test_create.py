from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from edge_agent.errors import StoreFailed
from edge_agent.store import create
from edge_agent.store.format.values import LogHeader
from edge_agent.store.settings import LogSettings
from tests.store.conftest import Stores
from tests.store.support import MIB, entry, small, values


def test_the_file_has_its_full_size_and_space_from_the_start(stores: Stores) -> None:
    stores.open(size=3 * MIB)
    status = stores.data().stat()
    assert status.st_size == 3 * MIB
    assert status.st_blocks * 512 >= 3 * MIB
    assert status.st_mode & 0o077 == 0


def test_a_store_is_made_in_an_empty_folder_whose_parent_is_not_ours(
    tmp_path: Path, stores: Stores
) -> None:
    # As systemd's StateDirectory makes it.
    (tmp_path / "state" / "agent").mkdir(parents=True)
    (tmp_path / "state").chmod(0o555)
    try:
        stores.folder = tmp_path / "state"
        assert stores.open().last_seq("main") == 0
    finally:
        (tmp_path / "state").chmod(0o755)


def test_missing_folders_are_made(stores: Stores) -> None:
    stores.open("some/where/agent")


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(
    tmp_path: Path, stores: Stores
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFailed, match="create this folder"):
        stores.open("file/agent")


def test_too_little_space_says_what_would_fit_and_leaves_nothing(stores: Stores) -> None:
    # A limit of the process stands in for a small disk: posix_fallocate fails the same way.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    try:
        with pytest.raises(StoreFailed, match=r'MiB would fit: set store.size = "\d+MiB"'):
            stores.open(size=8 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in stores.path().iterdir()] == ["lock"]
    assert stores.open(size=8 * MIB).last_seq("main") == 0


@pytest.mark.parametrize("leftover", [create.BUILDING, create.SALVAGING])
def test_what_a_power_cut_left_half_built_is_started_over(stores: Stores, leftover: str) -> None:
    half = stores.path() / leftover
    half.mkdir(parents=True)
    (half / "data.mdb").write_bytes(b"half a page")
    assert stores.open().last_seq("main") == 0
    assert not half.exists()


def test_a_salvaged_store_not_yet_in_place_is_put_there(stores: Stores) -> None:
    engine = stores.open()
    engine.commit([entry(3, 1)])
    engine.close()
    (stores.path() / "store").rename(stores.path() / create.SALVAGED)
    assert values(stores.open()) == [1, 2, 3]


def test_a_restored_store_takes_its_place_and_the_one_there_stays_beside(stores: Stores) -> None:
    engine = stores.open("backed-up")
    engine.commit([entry(3, 1)])
    engine.close()
    engine = stores.open()
    engine.commit([entry(2, 1)])
    engine.close()
    shutil.copytree(stores.path("backed-up") / "store", stores.path() / create.RESTORED)
    assert values(stores.open()) == [1, 2, 3]
    left = sorted(path.name for path in stores.path().iterdir())
    assert left == ["lock", "replaced-1", "store"]


def test_a_salvaged_store_beside_the_damaged_one_is_made_again(stores: Stores) -> None:
    stores.open().close()
    (stores.path() / create.SALVAGED).mkdir()
    stores.open()
    assert not (stores.path() / create.SALVAGED).exists()


def test_damaged_folders_never_overwrite_one_another(tmp_path: Path) -> None:
    assert create.next_damaged(tmp_path).name == "damaged-1"
    (tmp_path / "damaged-1").mkdir()
    assert create.next_damaged(tmp_path).name == "damaged-2"


def test_logs_get_ids_that_are_never_taken_twice_and_main_is_one() -> None:
    settings = small(logs=(LogSettings("alarms", share=0.1), LogSettings("main", share=0.1)))
    made = create.first_logs(settings, {})
    assert {name: log.id for name, log in made.items()} == {"alarms": 2, "main": 1}
    more = create.first_logs(settings, {"main": LogHeader(1), "old": LogHeader(2)})
    assert {name: log.id for name, log in more.items()} == {"alarms": 3}


def test_a_rename_reaches_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    really = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        really(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "a").mkdir()
    create.rename(tmp_path / "a", tmp_path / "b")
    assert synced == [tmp_path]


def test_every_folder_that_is_made_gets_its_name_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(create, "sync_folder", synced.append)
    create.prepare_folder(tmp_path / "some" / "where")
    assert synced == [tmp_path, tmp_path / "some"]
    create.prepare_folder(tmp_path / "some" / "where")
    assert len(synced) == 2
