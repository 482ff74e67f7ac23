from __future__ import annotations

from pathlib import Path

from edge_agent.store.identity import (
    board_fingerprint,
    identity,
    new_header,
    opened_header,
)
from tests.store.support import seeded


def test_ids_have_the_lengths_that_the_wire_promises() -> None:
    found = identity(new_header("board", 7, seeded(1)))
    assert [len(bytes.fromhex(t)) for t in (found.store_id, found.epoch, found.agent_id)] == [
        16,
        8,
        6,
    ]
    assert found.created_ns == 7


def test_opening_on_the_same_board_changes_nothing_but_the_count() -> None:
    made = new_header("board", 7, seeded(1))
    opened = opened_header(made, "board", seeded(2))
    assert identity(opened) == identity(made)
    assert opened.opened == made.opened + 1


def test_a_card_copied_to_another_board_becomes_another_agent() -> None:
    made = new_header("board", 7, seeded(1))
    copied = identity(opened_header(made, "other", seeded(2)))
    assert copied.agent_id != identity(made).agent_id
    assert copied.epoch != identity(made).epoch
    assert copied.store_id != identity(made).store_id


def test_a_board_that_cannot_be_told_is_learnt_later_and_never_a_reason() -> None:
    made = new_header("", 7, seeded(1))
    learnt = opened_header(made, "board", seeded(2))
    assert identity(learnt) == identity(made)
    assert learnt.board == "board"
    assert identity(opened_header(learnt, "", seeded(3))) == identity(made)


def test_the_fingerprint_is_of_the_first_source_that_says_anything(tmp_path: Path) -> None:
    serial, machine = tmp_path / "serial", tmp_path / "machine"
    assert board_fingerprint((serial, machine)) == ""
    machine.write_text("abc\n")
    by_machine = board_fingerprint((serial, machine))
    serial.write_bytes(b"10000000deadbeef\x00")
    by_serial = board_fingerprint((serial, machine))
    assert len(by_serial) == 16
    assert by_serial != by_machine
    assert b"deadbeef".hex() not in by_serial
    serial.write_bytes(b"\x00")
    assert board_fingerprint((serial, machine)) == by_machine
