"""Whoever opens a file of history is its owner, or is told what stands against it."""

from __future__ import annotations

import os

import msgspec
import pytest

from edge_agent.digest import HistoryOwner
from edge_agent.errors import StoreDamaged, StoreSealed
from edge_agent.history import HISTORY_FORMAT, HistoryHeader
from edge_agent.seal import KeyRing

HEADER = HistoryHeader(HISTORY_FORMAT, "store", "epoch", {}, 1, 1, 0, 0)
KEYS = KeyRing((b"1" * 32,), os.urandom)


def test_a_file_is_its_stores_whatever_the_epoch() -> None:
    HistoryOwner("store", "another").check(HEADER)
    with pytest.raises(StoreDamaged, match="another store"):
        HistoryOwner("other", "epoch").check(HEADER)
    HistoryOwner("other", "", inherits=lambda header: header.epoch == "epoch").check(HEADER)


def test_every_key_of_a_file_is_needed_and_a_strangers_is_not_asked_for() -> None:
    sealed = msgspec.structs.replace(HEADER, seals=KEYS.also(()))
    HistoryOwner("store", "epoch", KEYS).check(sealed)
    with pytest.raises(StoreSealed, match=r"store\.key_file"):
        HistoryOwner("store", "epoch").check(sealed)
    with pytest.raises(StoreDamaged, match="another store"):
        HistoryOwner("other", "epoch").check(sealed)
