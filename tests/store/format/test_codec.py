from __future__ import annotations

import os

import pytest

from edge_agent.errors import StoreDamaged
from edge_agent.store.format.codec import RAW, ZSTD, Compressor, decompress


def test_what_gains_is_compressed_and_comes_back() -> None:
    raw = b"temperature" * 1000
    codec, packed = Compressor(3).compress(raw)
    assert codec == ZSTD
    assert len(packed) < len(raw) / 10
    assert decompress(codec, packed, len(raw)) == raw


@pytest.mark.parametrize("raw", [b"short" * 20, os.urandom(4096)], ids=["short", "random"])
def test_what_gains_nothing_is_stored_as_it_came(raw: bytes) -> None:
    assert Compressor(3).compress(raw) == (RAW, raw)


def test_level_zero_never_compresses() -> None:
    assert Compressor(0).compress(b"a" * 10_000) == (RAW, b"a" * 10_000)


def test_a_bomb_is_not_unpacked_beyond_what_it_claims() -> None:
    _, bomb = Compressor(3).compress(bytes(50_000_000))
    with pytest.raises(StoreDamaged, match="length it claims"):
        decompress(ZSTD, bomb, 1000)


@pytest.mark.parametrize("codec, claimed", [(RAW, 5), (ZSTD, 9999), (ZSTD, 10_001), (2, 10_000)])
def test_a_payload_that_is_not_what_it_claims_is_damage(codec: int, claimed: int) -> None:
    _, packed = Compressor(3).compress(bytes(10_000))
    with pytest.raises(StoreDamaged):
        decompress(codec, packed, claimed)


def test_trailing_bytes_and_a_cut_frame_are_damage() -> None:
    _, packed = Compressor(3).compress(bytes(10_000))
    for wrong in (packed + b"x", packed[:-1], b"not zstd at all"):
        with pytest.raises(StoreDamaged):
            decompress(ZSTD, wrong, 10_000)
