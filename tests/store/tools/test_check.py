"""The checker must find what is wrong: each test breaks one thing behind the store's back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lmdb
import pytest

from edge_agent.store import Entry, Position, Quarantined
from edge_agent.store.commit.stamp import writing
from edge_agent.store.create import open_environment
from edge_agent.store.format.keys import block_key
from edge_agent.store.tools.check import check_store, problems
from tests.store.conftest import Stores
from tests.store.support import MIB, START_NS, entry, foreign, pack, sealed

Txn = Any


@pytest.fixture
def filled(stores: Stores) -> Stores:
    engine = stores.open(block_bytes=8192)
    for first in range(1, 31, 10):
        engine.commit([entry(10, first, pad=2000)])
    bad = Quarantined("bad_time", "why", "a", "pi", 0, START_NS, b"x")
    position = Position("up", "main", 5, b"state")
    engine.commit([Entry(blocks=(foreign(3, 1),), positions=(position,), quarantine=(bad,))])
    engine.close()
    return stores


def test_a_good_store_has_no_problems_and_is_counted(filled: Stores) -> None:
    report = check_store(filled.path())
    assert not report.problems
    assert not report.gaps
    log = report.logs["main"]
    assert (log.records, log.first, log.last) == (33, 1, 33)
    assert (report.sources, report.positions, report.quarantined) == (1, 1, 1)
    assert list(problems(filled.path())) == []


def flip(txn: Txn, key: bytes, at: int) -> None:
    value = bytearray(txn.get(key))
    value[at] ^= 1
    txn.put(key, bytes(value))


def put(txn: Txn, key: bytes, value: object) -> None:
    txn.put(key, sealed(key, pack(value)))


def last_block(txn: Txn) -> bytes:
    cursor = txn.cursor()
    assert cursor.last()
    key = cursor.key()
    assert isinstance(key, bytes)
    return key


BREAKS: dict[str, tuple[Callable[[Txn], object], str]] = {
    "payload": (lambda txn: flip(txn, block_key(1, 1), -1), "fails its checksum"),
    "count": (lambda txn: flip(txn, last_block(txn), 7), "fails its checksum"),
    "moved": (lambda txn: txn.put(block_key(1, 40), txn.pop(last_block(txn))), "checksum"),
    "lost": (lambda txn: txn.delete(last_block(txn)), "records in"),
    "log counters": (
        lambda txn: put(txn, b"\x01main", [1, 1, 33, 32, 1, 0, 0]),
        "32 records in 1 bytes",
    ),
    "log range": (lambda txn: put(txn, b"\x01main", [1, 2, 30, 33, 1, 0, 0]), "claims 2"),
    "thinning": (
        lambda txn: put(txn, b"\x01main", [1, 1, 33, 33, 1, 0, 0, 40, 1, 0, 0]),
        "thinning says 40",
    ),
    "aggregates": (
        lambda txn: put(txn, b"\x01main", [1, 1, 33, 33, 1, 0, 0, 0, 0, 1, 2]),
        "2 aggregates",
    ),
    "stray log": (lambda txn: txn.put(block_key(9, 1), b"x" * 100), "belongs to no log"),
    "header": (lambda txn: put(txn, b"\x00", [1, "aa", "bb", "cc", "", 0, 1]), "header"),
    "position": (lambda txn: put(txn, b"\x02up\x00main", [34, None]), "beyond 33"),
    "source": (lambda txn: put(txn, b"\x03pi", [0, 0, True]), "expects 0"),
    "garbage": (lambda txn: put(txn, b"\x03pj", 7), "03706a"),
    "quarantine": (lambda txn: txn.delete(b"\x04" + bytes(7) + b"\x01"), "quarantine"),
    "clock": (lambda txn: put(txn, b"\x05" + bytes(16), [1, 5, -1, 1, True, 7]), "clock note"),
    "hops": (
        lambda txn: put(txn, b"\x05" + bytes(16) + b"pi", [1, 5, 6, 9, True, 7]),
        "clock note",
    ),
    "short boot": (lambda txn: put(txn, b"\x05" + bytes(9), [1, 5, 6, 1, True, 7]), "clock note"),
    "counter bit": (lambda txn: flip(txn, b"\x03pi", 1), "fails its checksum"),
    "stranger": (lambda txn: put(txn, b"\x77", 1), "none of ours"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_found(filled: Stores, name: str) -> None:
    breaking, message = BREAKS[name]
    filled.damaged.add("agent")
    env: lmdb.Environment = open_environment(filled.path() / "store", 4 * MIB)
    with writing(env) as txn:
        breaking(txn)
    env.close()
    found = list(problems(filled.path()))
    assert any(message in problem for problem in found), found


def test_a_hole_in_a_log_is_a_gap(filled: Stores) -> None:
    filled.damaged.add("agent")
    env = open_environment(filled.path() / "store", 4 * MIB)
    with writing(env) as txn:
        txn.delete(block_key(1, 1))
    env.close()
    assert check_store(filled.path()).gaps


def test_a_broken_root_and_a_broken_page_are_found(filled: Stores) -> None:
    filled.damaged.add("agent")
    raw = bytearray(filled.data().read_bytes())
    raw[16] ^= 1
    filled.data().write_bytes(raw)
    assert "roots" in check_store(filled.path()).problems[0]
    filled.data().write_bytes(b"x" * 9000)
    assert "neither" in check_store(filled.path()).problems[-1]
