"""This module decodes a run's records one by one; a peer's bad record hides no other."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.record import TimeQuality, resolve_time

_MAPS = msgspec.msgpack.Decoder(list[dict[str, Any]])
_MAP = msgspec.msgpack.Decoder(dict[str, Any])
_RAWS = msgspec.msgpack.Decoder(list[msgspec.Raw])


def decode_maps(records: msgspec.Raw) -> list[dict[str, Any]]:
    """A run's records; {} for one that cannot be decoded."""
    try:
        return _MAPS.decode(records)
    except (ValueError, RecursionError, OverflowError):
        return [_decode_map(raw) for raw in _RAWS.decode(records)]


def raw_maps(array: bytes | msgspec.Raw) -> list[bytes]:
    """A run's records, or what else an array holds, each as its own bytes. Raises StoreDamaged."""
    try:
        return [bytes(raw) for raw in _RAWS.decode(array)]
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a run's records cannot be read: {error}") from error


def last_map(array: msgspec.Raw) -> bytes:
    """The last of a run's records as its own bytes. Raises StoreDamaged."""
    try:
        return bytes(_RAWS.decode(array)[-1])
    except (ValueError, RecursionError, IndexError) as error:
        raise StoreDamaged(f"a run's records cannot be read: {error}") from error


def time_of(value: object, arrival_ns: int) -> tuple[int, TimeQuality]:
    """`resolve_time`, and the arrival for a ``time`` that is none."""
    try:
        return resolve_time(value, arrival_ns)
    except (ProtocolError, OverflowError):
        return arrival_ns, "arrival"


def _decode_map(raw: msgspec.Raw) -> dict[str, Any]:
    try:
        return _MAP.decode(raw)
    except (ValueError, RecursionError, OverflowError):
        return {}
