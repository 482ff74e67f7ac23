"""Every value of history's file stands under a checksum that knows its key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import StoreDamaged
from edge_agent.history import (
    HISTORY_FORMAT,
    HistoryHeader,
    checked,
    keys,
    read_header,
    scan,
    to_store,
)

HEADER = HistoryHeader(HISTORY_FORMAT, "store", "epoch", {"main": 7}, 1, 2, 3, 4)


@given(
    st.binary(min_size=1, max_size=9),
    st.binary(max_size=99),
    st.integers(0, 2**16),
    st.integers(1, 255),
)
def test_a_value_is_read_as_it_was_or_not_at_all(
    key: bytes, value: bytes, place: int, flip: int
) -> None:
    raw = to_store(key, value)
    assert bytes(checked(key, memoryview(raw))) == value
    damaged = bytearray(raw)
    damaged[place % len(raw)] ^= flip
    for other in ((key, damaged), (key + b"a", raw), (key, raw[:-1]), (key, b"")):
        with pytest.raises(StoreDamaged):
            checked(other[0], memoryview(other[1]))


@pytest.fixture
def env(tmp_path: Path) -> Iterator[lmdb.Environment]:
    with lmdb.open(str(tmp_path / "env"), map_size=2**20) as env:
        yield env


def header_of(env: lmdb.Environment, raw: bytes | None) -> HistoryHeader:
    if raw is not None:
        with env.begin(write=True) as txn:
            txn.put(keys.META, raw)
    with env.begin(buffers=True) as txn:
        return read_header(txn)


def test_the_header_is_read_as_it_was(env: lmdb.Environment) -> None:
    assert header_of(env, to_store(keys.META, msgspec.msgpack.encode(HEADER))) == HEADER


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        to_store(b"\x01", msgspec.msgpack.encode(HEADER)),
        to_store(keys.META, b"\xc1"),
        to_store(keys.META, b"\x91" * 4000),
        to_store(keys.META, msgspec.msgpack.encode([1, "store"])),
        to_store(keys.META, b"\x98\x01\xa2o\xea\xa1e\x80\x00\x00\x00\x00"),
        to_store(keys.META, msgspec.msgpack.encode([99, "s", "e", {}, 0, 0, 0, 0])),
    ],
)
def test_a_header_that_cannot_be_is_told(env: lmdb.Environment, raw: bytes | None) -> None:
    with pytest.raises(StoreDamaged):
        header_of(env, raw)


def test_a_scan_gives_a_range_of_keys_in_order(env: lmdb.Environment) -> None:
    with env.begin(write=True) as txn:
        for key in (b"\x10a", b"\x10b", b"\x11a", b"\x12"):
            txn.put(key, key)
    with env.begin(buffers=True) as txn:
        assert [key for key, _ in scan(txn, b"\x10")] == [b"\x10a", b"\x10b"]
        assert [key for key, _ in scan(txn, b"\x10b", b"\x12")] == [b"\x10b", b"\x11a"]
        assert list(scan(txn, b"\x13")) == []
