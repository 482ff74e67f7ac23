"""The note of what was written over the store's life."""

from __future__ import annotations

import msgpack
import pytest

from edge_agent.wear.ledger import Ledger


def test_what_was_noted_is_read_back() -> None:
    ledger = Ledger(10**12, 2 * 10**12, 1_795_341_600_000_000_000, "035344534c333247")
    assert Ledger.decode(ledger.encode()) == ledger
    assert len(ledger.encode()) < 60


def test_it_may_grow_at_its_end() -> None:
    assert Ledger.decode(msgpack.packb([1, 2, 3, "a", "later"])) == Ledger(1, 2, 3, "a")


@pytest.mark.parametrize("raw", [None, b"", b"\xc1", b"\x90", b"\x93\x01", msgpack.packb("abc")])
def test_what_cannot_be_read_begins_anew(raw: bytes | None) -> None:
    assert Ledger.decode(raw) == Ledger()


def test_more_is_added_to_both() -> None:
    assert Ledger(1, 2, 3).add(10, 20) == Ledger(11, 22, 3)


@pytest.mark.parametrize(
    "noted,here,expected",
    [
        ("a", "a", Ledger(1, 2, 3, "a")),
        ("a", "b", Ledger(device="b")),
        ("", "b", Ledger(1, 2, 3, "b")),
        ("a", "", Ledger(1, 2, 3, "a")),
        ("", "", Ledger(1, 2, 3)),
    ],
)
def test_on_another_card_a_new_note_begins(noted: str, here: str, expected: Ledger) -> None:
    assert Ledger.decode(Ledger(1, 2, 3, noted).encode(), here) == expected
