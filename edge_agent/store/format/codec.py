"""This module bounds zstd: what decompresses to more than was announced is refused."""

from __future__ import annotations

from edge_agent.errors import StoreDamaged
from edge_agent.zstd import zstd

RAW = 0
ZSTD = 1

#: Shorter payloads gain less than a block's header costs to explain.
COMPRESS_FROM_BYTES = 512
# 8 MiB, what level 19 uses; a foreign block cannot make us allocate zstd's 2 GiB window.
_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


class Compressor:
    """Compresses payloads that gain by it. Keeps its tables between calls, so one thread at a
    time; a new context per block would cost as much again as compressing a small one.
    """

    def __init__(self, level: int) -> None:
        self._zstd = zstd.ZstdCompressor(level=level) if level > 0 else None

    def compress(self, raw: bytes) -> tuple[int, bytes]:
        """``(codec, payload as stored)``."""
        if self._zstd is None or len(raw) < COMPRESS_FROM_BYTES:
            return RAW, raw
        packed = self._zstd.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME)
        return (ZSTD, packed) if len(packed) < len(raw) else (RAW, raw)


def decompress(codec: int, payload: bytes, raw_len: int) -> bytes:
    """The payload as it was before compression, exactly ``raw_len`` bytes.

    Raises:
        StoreDamaged: it is not what it claims to be; at most ``raw_len + 1`` bytes were made.
    """
    if codec == RAW:
        raw = payload
    elif codec == ZSTD:
        decompressor = zstd.ZstdDecompressor(options=_OPTIONS)
        try:
            raw = decompressor.decompress(payload, max_length=raw_len + 1)
        except zstd.ZstdError as error:
            raise StoreDamaged(f"a block does not decompress: {error}") from error
        if not decompressor.eof or decompressor.unused_data:
            raise StoreDamaged("a block does not decompress to the length it claims")
    else:
        raise StoreDamaged(f"a block has the unknown codec {codec}")
    if len(raw) != raw_len:
        raise StoreDamaged(f"a block claims {raw_len} bytes and has {len(raw)}")
    return raw
