from __future__ import annotations

import ast
from pathlib import Path

import lmdb
import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store import Entry, LogSettings, Position, Quarantined
from edge_agent.store.commit.stamp import decode_stamp, encode_stamp, writing
from edge_agent.store.format.keys import STAMP
from edge_agent.store.lmdb_file.pages import PageFile
from tests.store.conftest import Stores
from tests.store.support import MIB, START_NS, entry

STORE = Path(__file__).parents[3] / "edge_agent" / "store"


def stamped(data: Path) -> tuple[int, int]:
    """What the newest root says, and what the tree below it."""
    with PageFile(data) as pages:
        nodes = pages.nodes(pages.meta.main.root, print)
        values = {node.key: pages.value(node) for node in nodes}
        return pages.meta.txn, decode_stamp(values[STAMP])


def test_a_transaction_carries_its_number_under_a_checksum(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path), lib_version=0)
    for _ in range(3):
        with writing(env) as txn:
            number = txn.id()
        told, found = stamped(tmp_path / "data.mdb")
        assert told == found == number
    env.close()


def test_what_raises_within_leaves_nothing(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path), lib_version=0)
    with pytest.raises(RuntimeError), writing(env):
        raise RuntimeError
    with env.begin() as txn:
        assert txn.get(STAMP) is None
    env.close()


def test_any_flipped_bit_of_a_stamp_is_noticed() -> None:
    value = encode_stamp(123_456)
    assert decode_stamp(value) == 123_456
    for bit in range(8 * len(value)):
        turned = bytearray(value)
        turned[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreDamaged):
            decode_stamp(bytes(turned))
    with pytest.raises(StoreDamaged):
        decode_stamp(b"")


def test_every_kind_of_transaction_is_stamped(stores: Stores) -> None:
    logs = (LogSettings("main", share=0.2, keep_s=3600.0),)
    engine = stores.open(size=1 * MIB, logs=logs, compression_level=0, source_forgotten_s=1800.0)
    numbers = [stamped(stores.data())[0]]

    def look() -> None:
        told, found = stamped(stores.data())
        assert told == found
        numbers.append(told)

    look()
    for first in range(1, 301, 10):  # trims on the way
        engine.commit([entry(10, first, pad=700)])
        look()
    engine.commit([Entry(positions=(Position("up", "main", 5),))])
    look()
    bad = Quarantined("bad_time", "why", "a", "pi", 0, START_NS, b"x" * 3000)
    for _ in range(12):  # more than quarantine holds
        engine.commit([Entry(quarantine=(bad,))])
        look()
    stores.clock.advance(2 * 3600)
    assert engine.trim().sources_forgotten == 1
    look()
    engine.reopen()
    look()
    assert numbers[-1] > numbers[0] + 45


def test_no_write_transaction_begins_anywhere_else() -> None:
    begun = [
        path.name
        for path in STORE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "write"
    ]
    assert begun == ["stamp.py"]
