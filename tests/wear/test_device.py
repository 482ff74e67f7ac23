"""The kernel's counters of bytes written."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edge_agent.wear import Written, by_agent, by_process, card_of, written_of
from edge_agent.wear.device import name_of
from tests.boards import DISKS, Board


def test_what_is_written_and_synced_is_counted(tmp_path: Path) -> None:
    counter = written_of(tmp_path)
    before = counter.bytes()
    with (tmp_path / "data").open("wb") as stream:
        stream.write(os.urandom(1 << 20))
        stream.flush()
        os.fsync(stream.fileno())
    after = counter.bytes()
    assert before is not None and after is not None and after - before >= 1 << 20


def test_a_device_that_cannot_be_asked_is_not_an_error(tmp_path: Path) -> None:
    assert Written("nobody", tmp_path / "nowhere").bytes() is None
    (tmp_path / "stat").write_text("1 2 3")
    assert Written("short", tmp_path / "stat").bytes() is None
    assert isinstance(Written("this process", None).bytes(), int)


def test_the_process_counts_what_its_threads_have_written() -> None:
    assert isinstance(by_process().bytes(), int)


def test_an_agents_commit_ends_with_a_block_of_which_it_hands_over_a_part(tmp_path: Path) -> None:
    counter = by_agent(tmp_path, lambda: 1000)
    handed, counted = by_process().bytes(), counter.bytes()
    assert handed is not None and counted is not None
    assert counter.block_bytes == os.statvfs(tmp_path).f_bsize
    assert counted - handed == pytest.approx(1000 * (counter.block_bytes - 120), abs=1000)


def test_a_file_system_that_cannot_be_asked_has_blocks_as_most_do(tmp_path: Path) -> None:
    assert by_agent(tmp_path / "nowhere", lambda: 0).block_bytes == 4096


def test_what_is_sent_to_a_socket_is_not_written() -> None:
    ours, theirs = socket.socketpair()
    before = by_process().bytes()
    for _ in range(100):
        ours.send(bytes(10_000))
        theirs.recv(10_000)
    after = by_process().bytes()
    assert before is not None and after is not None and after - before < 10_000
    ours.close()
    theirs.close()


def test_of_a_partition_the_whole_card_is_counted(tmp_path: Path) -> None:
    board, card = Board(tmp_path), DISKS["Pi 4, SD"]
    board.holds(board.disk(card), tmp_path)
    found = card_of(tmp_path, board.sys)
    assert found is not None and found.bytes() == 100 * 512
    assert "mmcblk0" in found.source


def test_what_lies_on_no_single_device_has_no_card(tmp_path: Path) -> None:
    board = Board(tmp_path)
    assert card_of(tmp_path, board.sys, board.proc) is None
    assert name_of(tmp_path, board.sys, board.proc) == ""


def test_a_card_is_known_by_the_number_that_its_maker_gave_it(tmp_path: Path) -> None:
    board, card = Board(tmp_path), DISKS["Pi 4, SD"]
    board.holds(board.disk(card), tmp_path)
    assert name_of(tmp_path, board.sys) == card.number == "035344534e3634478011223344017700"
