"""A backup is whole or is not there; what was changed in it is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_agent.errors import StoreDamaged, StoreFailed, StoreTooNew
from edge_agent.store import Engine, Entry, Position
from edge_agent.store.identity import new_header
from edge_agent.store.repair.salvage import SALVAGE_JUMP
from edge_agent.store.tools.backup import Manifest, read_manifest, take_backup, verify
from edge_agent.store.tools.replace import restore_store
from tests.store.conftest import Stores
from tests.store.support import entry, run, seeded, values


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def back_up(stores: Stores, target: Path) -> Manifest:
    return take_backup(stores.path(), target, "1.2.3", 77, quiet)


def with_records(stores: Stores) -> Engine:
    engine = stores.open()
    engine.commit([entry(9, 1), Entry(positions=(Position("up", "main", 4, b"s"),))])
    return engine


def test_a_backup_says_whose_it_is_and_passes_its_own_check(stores: Stores, tmp_path: Path) -> None:
    engine = with_records(stores)
    engine.close()
    target = tmp_path / "backups" / "one"
    manifest = back_up(stores, target)
    assert read_manifest(target) == manifest
    assert (manifest.agent_id, manifest.last) == (engine.identity.agent_id, {"main": 9})
    assert (manifest.version, manifest.created_ns, manifest.size) == ("1.2.3", 77, 4 << 20)
    assert manifest.bytes < 200_000
    assert {file.name for file in target.iterdir()} == {"data.mdb", "manifest.json"}
    assert {file.name for file in target.parent.iterdir()} == {"one"}
    assert verify(target, manifest, quiet).problems == []


def test_a_flipped_bit_is_noticed_and_a_newer_backup_refused(
    stores: Stores, tmp_path: Path
) -> None:
    with_records(stores).close()
    target = tmp_path / "one"
    manifest = back_up(stores, target)
    data = bytearray((target / "data.mdb").read_bytes())
    data[5000] ^= 1
    (target / "data.mdb").write_bytes(data)
    with pytest.raises(StoreDamaged, match="SHA-256"):
        verify(target, manifest, quiet)
    text = (target / "manifest.json").read_text()
    (target / "manifest.json").write_text(text.replace('"format": 1', '"format": 3'))
    with pytest.raises(StoreTooNew):
        read_manifest(target)
    (target / "manifest.json").unlink()
    with pytest.raises(StoreFailed, match="is no backup"):
        read_manifest(target)


def test_what_is_there_is_not_written_over(stores: Stores, tmp_path: Path) -> None:
    with_records(stores).close()
    back_up(stores, tmp_path / "one")
    with pytest.raises(StoreFailed, match="exists"):
        back_up(stores, tmp_path / "one")
    with pytest.raises(StoreFailed):
        take_backup(tmp_path / "nothing", tmp_path / "two", "1", 1, quiet)
    assert not (tmp_path / "two").exists() and not (tmp_path / "two.part").exists()


def test_a_restored_store_is_another_one_that_gives_no_number_twice(
    stores: Stores, tmp_path: Path
) -> None:
    engine = with_records(stores)
    engine.close()
    back_up(stores, tmp_path / "one")
    stores.path("new").mkdir()
    header = new_header("", 99, seeded(5))
    restore_store(stores.path("new"), tmp_path / "one" / "data.mdb", header, 4 << 20, quiet)
    stores.damaged.add("new")  # the jump reads as a gap
    restored = stores.open("new")
    assert restored.identity.store_id == header.store_id != engine.identity.store_id
    assert restored.identity.epoch != engine.identity.epoch
    assert restored.identity.agent_id == header.agent_id != engine.identity.agent_id
    assert values(restored) == [*range(1, 10)] and restored.position("up", "main") == (4, b"s")
    restored.commit([Entry((run(1, value=77),))])
    assert restored.last_seq("main") == 9 + SALVAGE_JUMP + 1
    # Five that "up" has not had, and the new one: the million between was never given.
    assert restored.given("main", 4, restored.last_seq("main")) == 6
    assert restored.next_of("pi") == 10
    assert stores.data("new").stat().st_size == 4 << 20


def test_a_target_without_room_is_told_before_anything_is_mapped_there(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_records(stores).close()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    monkeypatch.setattr(
        "edge_agent.store.tools.backup.rewrite", lambda *given: pytest.fail("written")
    )
    with pytest.raises(StoreFailed, match="has 1 MiB free; a backup needs 2 MiB"):
        back_up(stores, tmp_path / "backups" / "one")
    assert list((tmp_path / "backups").iterdir()) == []
