"""This module reads and writes a foreign block's origin, which lies in the store as msgpack."""

from __future__ import annotations

import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.record import Origin

_ORIGIN = msgspec.msgpack.Decoder(tuple[str, str, str, int, bytes, int, int, bool, tuple[str, ...]])
_ENCODER = msgspec.msgpack.Encoder()


def encode_origin(origin: Origin) -> bytes:
    """An array of its fields."""
    return _ENCODER.encode(
        (
            origin.agent,
            origin.epoch,
            origin.log,
            origin.first,
            origin.boot_id,
            origin.boot_ns,
            origin.stored_ns,
            origin.synced,
            origin.path,
        )
    )


def decode_origin(raw: memoryview) -> Origin:
    """The origin. Raises StoreDamaged."""
    try:
        return Origin(*_ORIGIN.decode(raw))
    except ValueError as error:
        raise StoreDamaged(f"a block's origin cannot be read: {error}") from error
