from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from edge_agent.digest import (
    BACKUP,
    HistoryFile,
    HistoryOwner,
    back_up_history,
    check_history,
    restore_history,
    rewrite_history,
)
from edge_agent.digest.file import DAMAGED, REBUILT
from edge_agent.errors import StoreFailed, StoreSealed
from edge_agent.history import FOLDER, keys
from edge_agent.history.keys import HOUR_NS, HOURS, MINUTE_NS, MINUTES, RAW
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import DATA, writing
from edge_agent.system.files import acting_as_owner
from tests.digest.whole_files import LIMIT_BYTES, MIDNIGHT_NS, flushed, run_of
from tests.other_user import UID, open_folder

SECRET = "what nobody may read any more"


def a_day(path: Path, seals: KeyRing = OPEN) -> None:
    """Two streams for 26 hours, flushed each hour."""
    flushed(
        path,
        [
            [
                run_of(stream, hour * 60 + 1, (MIDNIGHT_NS + hour * HOUR_NS + minute * MINUTE_NS
                                               for minute in range(60)), t=hour / 10, note=note)
                for stream, note in (("a", "x"), ("b/secret", SECRET))
            ]
            for hour in range(26)
        ],
        seals=seals,
    )  # fmt: skip


def change(path: Path, key: bytes, value: bytes | None) -> None:
    """What a faulty card or a mistake of ours would have done."""
    env = lmdb.open(str(path / FOLDER), map_size=64 * 2**20, lib_version=0)
    with writing(env) as txn:
        if value is None:
            assert txn.delete(key)
        else:
            txn.put(key, value)
    env.close()


def test_what_was_flushed_is_sound_and_counted(tmp_path: Path) -> None:
    a_day(tmp_path)
    report = check_history(tmp_path, deep=True)
    assert report is not None and not report.problems
    assert (report.records, report.series) == (2 * 26 * 60, 2)
    assert report.parts == {
        "hours of records": 52,
        "hours by minute": 52,
        "days by hour": 2,
        "months by hour": 0,
    }


def test_there_is_nothing_to_check_without_history(tmp_path: Path) -> None:
    assert check_history(tmp_path) is None
    assert rewrite_history(tmp_path) == []
    assert back_up_history(tmp_path, tmp_path) == {}


@pytest.mark.parametrize("level", [RAW, MINUTES, HOURS])
def test_a_flipped_byte_is_a_problem_that_says_where(tmp_path: Path, level: int) -> None:
    a_day(tmp_path)
    key = keys.part_key(level, MIDNIGHT_NS // keys.BUCKET_NS[level], 1, 0)
    with lmdb.open(str(tmp_path / FOLDER), readonly=True, lock=False) as env, env.begin() as txn:
        value = bytearray(txn.get(key, b""))
    value[len(value) // 2] ^= 1
    change(tmp_path, key, bytes(value))
    report = check_history(tmp_path)
    assert report is not None
    assert any("bucket" in problem and "series 1" in problem for problem in report.problems)


@pytest.mark.parametrize("level", [RAW, MINUTES])
def test_a_part_that_is_missing_does_not_go_unnoticed(tmp_path: Path, level: int) -> None:
    a_day(tmp_path)
    change(tmp_path, keys.part_key(level, MIDNIGHT_NS // HOUR_NS, 1, 0), None)
    report = check_history(tmp_path)
    if level == MINUTES:
        assert report is not None and len(report.problems) == 2
    else:
        # Records are forgotten before their minutes are: nothing says that it was not meant.
        assert report is not None and not report.problems


def test_what_is_erased_is_in_no_byte_of_the_file(tmp_path: Path) -> None:
    a_day(tmp_path)
    data = tmp_path / FOLDER / DATA
    assert b"b/secret" in data.read_bytes()
    assert rewrite_history(tmp_path, lambda stream: stream.startswith("b/")) == ["b/secret"]
    assert b"b/secret" not in data.read_bytes() and SECRET.encode() not in data.read_bytes()
    report = check_history(tmp_path, deep=True)
    assert report is not None and (report.series, report.records) == (1, 26 * 60)
    assert not report.problems


def test_a_rewriting_that_a_power_cut_interrupted_is_finished(tmp_path: Path) -> None:
    a_day(tmp_path)
    (tmp_path / FOLDER).rename(tmp_path / REBUILT)
    file, told = HistoryFile.open(tmp_path, LIMIT_BYTES, owner(tmp_path / REBUILT))
    assert file.header.records == 2 * 26 * 60 and not told
    file.close()


def test_a_backup_is_restored_as_the_history_of_the_new_store(tmp_path: Path) -> None:
    there, backup, here = (tmp_path / name for name in ("there", "backup", "here"))
    for folder in (backup, here):
        folder.mkdir()
    a_day(there)
    assert list(back_up_history(there, backup)) == [BACKUP]
    assert restore_history(backup, here, "another", "epoch")
    report = check_history(here, deep=True)
    assert report is not None and not report.problems and report.records == 2 * 26 * 60
    file, told = HistoryFile.open(here, LIMIT_BYTES, HistoryOwner("another", "epoch"))
    assert not told and file.numbers == {"a": 1, "b/secret": 2}
    file.close()


def test_a_backup_without_history_leaves_none_of_another_store(tmp_path: Path) -> None:
    a_day(tmp_path / "here")
    assert not restore_history(tmp_path, tmp_path / "here", "another", "epoch")
    assert check_history(tmp_path / "here") is None


def test_a_damaged_file_is_told_and_not_rewritten(tmp_path: Path) -> None:
    a_day(tmp_path)
    data = tmp_path / FOLDER / DATA
    data.write_bytes(data.read_bytes()[:8192])
    report = check_history(tmp_path)
    assert report is not None and len(report.problems) == 1
    with pytest.raises(StoreFailed):
        rewrite_history(tmp_path)
    assert data.stat().st_size == 8192 and not (tmp_path / DAMAGED).exists()


def owner(folder: Path) -> HistoryOwner:
    """Whose history it is."""
    from edge_agent.history import read_header

    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin(buffers=True) as txn:
        header = read_header(txn)
    return HistoryOwner(header.store_id, header.epoch)


FIRST, SECOND = (KeyRing((bytes([n]) * 32,), os.urandom) for n in (1, 2))


def lies_open(file: Path) -> bool:
    data = file.read_bytes()
    return SECRET.encode() in data or b"b/secret" in data


def test_nothing_lies_open_in_a_history_with_a_key_and_its_checksums_need_none(
    tmp_path: Path,
) -> None:
    a_day(tmp_path, FIRST)
    assert not lies_open(tmp_path / FOLDER / DATA)
    report = check_history(tmp_path, deep=True)
    assert report is not None and not report.problems and report.sealed == 106
    report = check_history(tmp_path, deep=True, seals=FIRST)
    assert report is not None and not report.problems
    assert (report.records, report.sealed) == (2 * 26 * 60, 0)
    # A backup is as it is.
    target = tmp_path / "backup"
    target.mkdir()
    assert BACKUP in back_up_history(tmp_path, target)
    assert not lies_open(target / BACKUP)
    assert restore_history(target, tmp_path, "other", "epoch")
    report = check_history(tmp_path, seals=FIRST)
    assert report is not None and (report.records, report.problems) == (2 * 26 * 60, [])


def test_history_is_sealed_erased_and_opened_again_as_it_is_written_anew(tmp_path: Path) -> None:
    a_day(tmp_path)
    assert lies_open(tmp_path / FOLDER / DATA)
    rewrite_history(tmp_path, seals=FIRST)
    assert not lies_open(tmp_path / FOLDER / DATA)
    for lacking in (OPEN, SECOND):
        with pytest.raises(StoreSealed, match=r"store\.key_file"):
            rewrite_history(tmp_path, seals=lacking)
    both = KeyRing((*SECOND.secrets, *FIRST.secrets), os.urandom)
    assert rewrite_history(tmp_path, lambda name: name == "b/secret", both) == ["b/secret"]
    report = check_history(tmp_path, seals=SECOND)
    assert report is not None and (report.records, report.sealed) == (26 * 60, 0)
    rewrite_history(tmp_path, seals=KeyRing(SECOND.secrets))
    report = check_history(tmp_path)
    assert report is not None and (report.records, report.sealed) == (26 * 60, 0)


@pytest.mark.needs("root")
def test_what_root_restores_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    a_day(tmp_path / "here")
    copy, own = tmp_path / "copy", tmp_path / "own"
    copy.mkdir()
    own.mkdir()
    os.chown(own, UID, UID)
    back_up_history(tmp_path / "here", copy)
    assert restore_history(copy, own, "another", "epoch")
    for made in (own / FOLDER, own / FOLDER / DATA):
        assert made.stat().st_uid == UID


@pytest.mark.needs("root")
def test_what_may_not_be_opened_is_told_and_not_set_aside() -> None:
    with open_folder() as path:
        a_day(path)
        os.chown(path, UID, UID)
        whose = owner(path / FOLDER)
        for mode in (0o700, 0o755):
            (path / FOLDER).chmod(mode)
            with acting_as_owner(path):
                with pytest.raises(StoreFailed, match="Permission denied"):
                    HistoryFile.open(path, LIMIT_BYTES, whose)
                with pytest.raises(StoreFailed, match="Permission denied"):
                    rewrite_history(path)
            assert not (path / DAMAGED).exists()


def test_parts_of_a_stream_whose_name_is_damaged_stay_behind(tmp_path: Path) -> None:
    """Its number may become another stream's."""
    a_day(tmp_path)
    change(tmp_path, keys.series_key(2), b"what nobody wrote")
    assert rewrite_history(tmp_path) == []
    report = check_history(tmp_path, deep=True)
    assert report is not None and not report.problems
    assert (report.records, report.series) == (26 * 60, 1)
