from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_agent.store.format.values import LogHeader, StoreHeader
from edge_agent.store.identity import (
    OPENINGS_MAX,
    Here,
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
    opened = opened_header(made, Here("board"), seeded(2))
    assert identity(opened) == identity(made)
    assert opened.opened == made.opened + 1


def test_a_card_copied_to_another_board_becomes_another_agent() -> None:
    made = new_header("board", 7, seeded(1))
    copied = identity(opened_header(made, Here("other"), seeded(2)))
    assert copied.agent_id != identity(made).agent_id
    assert copied.epoch != identity(made).epoch
    assert copied.store_id != identity(made).store_id


def test_a_board_that_cannot_be_told_is_learnt_later_and_never_a_reason() -> None:
    made = new_header("", 7, seeded(1))
    learnt = opened_header(made, Here("board"), seeded(2))
    assert identity(learnt) == identity(made)
    assert learnt.board == "board"
    assert identity(opened_header(learnt, Here(), seeded(3))) == identity(made)


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


MEDIUM = ("born", "card")
AT_HOME = Here("board", "machine", MEDIUM)


def at_home() -> StoreHeader:
    return opened_header(new_header("board", 7, seeded(1)), AT_HOME, seeded(2))


@pytest.mark.parametrize(
    "here",
    [
        Here("board", "another", MEDIUM),
        Here("board", "machine", ("born anew", "card")),
        Here("board", "machine", ("born", "another card")),
        Here("board", "machine", MEDIUM, ran=(b"of later",)),
    ],
)
def test_a_copy_has_a_new_epoch_and_lane_and_stays_the_same_agent(here: Here) -> None:
    made = at_home()
    copied = opened_header(made, here, seeded(3))
    assert copied.copied is not None
    assert (copied.copied.times, copied.copied.epoch) == (1, made.epoch)
    assert copied.epoch != made.epoch and copied.store_id != made.store_id
    assert (copied.agent_id, copied.lane) == (made.agent_id, copied.epoch[:8])
    assert (copied.machine, copied.medium) == (here.machine, here.medium)
    # It is told once: at the next start it is at home where it is.
    again = opened_header(copied, here if not here.ran else AT_HOME, seeded(4))
    assert (again.epoch, again.copied) == (copied.epoch, copied.copied)


def test_what_cannot_be_told_is_no_reason() -> None:
    made = at_home()
    for here in (Here(), Here("board", "machine", ("", "")), Here(medium=("born",))):
        opened = opened_header(made, here, seeded(3))
        assert (opened.epoch, opened.copied) == (made.epoch, None)
    old = new_header("board", 7, seeded(1))
    learnt = opened_header(old, Here("board", "machine", MEDIUM, ran=(b"x",)), seeded(3))
    assert (learnt.epoch, learnt.medium) == (old.epoch, MEDIUM)


def test_openings_are_remembered_with_the_ends_that_they_had() -> None:
    header, ends = new_header("board", 7, seeded(1)), []
    for last in range(40):
        logs = {"main": LogHeader(1, last=last), "alarms": LogHeader(2)}
        header = opened_header(header, AT_HOME, seeded(50 + last), logs)
        ends.append(last)
    told = identity(header, {"main": LogHeader(1), "later": LogHeader(3)})
    assert told.opening == header.openings[-1].id.hex()
    assert len({opening for opening, _ in told.ends["main"]} | {told.opening}) == OPENINGS_MAX
    assert [last for _, last in told.ends["main"]] == ends[-OPENINGS_MAX + 1 :]
    assert {last for _, last in told.ends["later"]} == {0}


def test_a_reopening_goes_on_as_the_same_opening_of_the_same_file_only() -> None:
    made = at_home()
    running = made.openings[-1].id
    here = Here("board", "machine", MEDIUM, running=running)
    assert opened_header(made, here, seeded(3)).openings == made.openings
    older = new_header("board", 7, seeded(1))
    assert opened_header(older, here, seeded(3)).openings[-1].id != running


def test_a_store_of_an_older_version_has_no_history_and_no_reason() -> None:
    raw = msgspec.msgpack.encode([1, "s" * 32, "e" * 16, "a" * 12, "board", 7, 3, bytes(16)])
    header = msgspec.msgpack.decode(raw, type=StoreHeader)
    assert identity(header).opening == ""
    opened = opened_header(header, AT_HOME, seeded(1))
    assert (opened.epoch, opened.copied, opened.lane) == ("e" * 16, None, "")
    assert len(opened.openings) == 1
