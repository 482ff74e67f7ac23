from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.store.close_marker import CLOSED, closed_at, note_closed
from edge_agent.store.lmdb_file.pages import ROOT_BYTES, PageFile
from tests.store.conftest import Stores
from tests.store.support import entry, failing_disk, values


def test_the_number_of_the_last_commit_is_noted_and_read(tmp_path: Path) -> None:
    assert closed_at(tmp_path) == 0
    for number in (7, 12_345_678_901):
        note_closed(tmp_path, number)
        assert closed_at(tmp_path) == number
    assert [path.name for path in tmp_path.iterdir()] == [CLOSED]


@pytest.mark.parametrize("raw", [b"", b"12", b"12 \n", b"13 6ca6387b\n", b"-1 0\n", b"\xff" * 20])
def test_a_torn_note_is_none(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / CLOSED).write_bytes(raw)
    assert closed_at(tmp_path) == 0


def test_a_disk_that_refuses_keeps_the_note_from_being_written_and_nothing_else(
    tmp_path: Path,
) -> None:
    note_closed(tmp_path, 1)
    with failing_disk():
        note_closed(tmp_path / "not there", 2)
        note_closed(tmp_path, 3_000_000_000_000)
    assert closed_at(tmp_path) == 1


def test_the_last_root_of_a_closed_store_is_missed_at_the_next_start(stores: Stores) -> None:
    """What a power cut would leave of a commit that was never made: told apart by the note."""
    engine = stores.open()
    for number in range(1, 8):
        engine.commit([entry(1, number)])
    with PageFile(stores.data()) as pages:
        newest = pages.meta.txn
        older = pages.read((newest + 1 & 1) * pages.page_bytes, ROOT_BYTES)
        place = (newest + 1 & 1) * pages.page_bytes
    engine.commit([entry(3, 8)])
    engine.close()
    raw = bytearray(stores.data().read_bytes())
    raw[place : place + ROOT_BYTES] = older
    stores.data().write_bytes(raw)
    stores.damaged.add("agent")

    again = stores.open()

    assert again.salvage_report is not None
    assert "there was a commit" in again.salvage_report["reason"]
    assert values(again) == list(range(1, 11))
    assert (again.salvage_report["missing"], again.salvage_report["possible"]) == (0, 0)


def test_what_somebody_put_in_its_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("theirs")
    (tmp_path / "closed.new").symlink_to("victim")
    note_closed(tmp_path, 7)
    assert closed_at(tmp_path) == 7 and (tmp_path / "victim").read_text() == "theirs"
    os.link(tmp_path / "victim", tmp_path / "closed.new")
    note_closed(tmp_path, 8)
    assert closed_at(tmp_path) == 8 and (tmp_path / "victim").read_text() == "theirs"


def test_what_cannot_be_taken_away_is_named_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "closed.new").mkdir()
    note_closed(tmp_path, 7)
    assert f"{tmp_path / 'closed.new'}: " in caplog.text and "taken away" in caplog.text


def test_a_note_that_is_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / CLOSED)
    assert closed_at(tmp_path) == 0
