from __future__ import annotations

from edge_agent.zstd import zstd


def test_what_is_compressed_comes_back() -> None:
    packed = zstd.compress(b"21.5 " * 100, 3)
    assert len(packed) < 50 and zstd.decompress(packed) == b"21.5 " * 100
