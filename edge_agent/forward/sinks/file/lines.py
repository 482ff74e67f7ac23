"""A record as a line of a file: what an HTTP server would get, and all that it takes to bring it
into another agent as it is here.

``id`` to ``time_quality`` read as in ``http/body.py``. Behind them: ``time_ns``, exactly;
``store``, the numbering that ``seq`` is of (AGENT/EPOCH/LOG); ``source_seq``; ``quality``, whose
clock gave the time; ``stored_ns`` and ``synced``, our clock when it was stored and whether it was
set; and only where there is something to say: ``corrected``, that our clock was put right since;
``boot``, which boot's clock was not set (ID/NANOSECONDS); ``path``, the agents that it came by;
``exact``, the fields in msgpack and base64, where JSON cannot say all of them (bytes, NaN, keys
that are numbers).

The same records give the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, cast

import msgspec

from edge_agent.forward.sink import Batch
from edge_agent.forward.sinks.http.body import RenderedRecord, json_lines, rendered
from edge_agent.store import Block, Identity
from edge_agent.values.record import Record, TimeQuality

_PLAIN = frozenset((str, int, bool, type(None)))
_msgpack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


class CarriedRecord(RenderedRecord, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One line: what every upstream sees, and the rest of the record; see the module."""

    time_ns: int
    store: str
    source_seq: int
    quality: TimeQuality
    stored_ns: int
    synced: bool
    corrected: bool = False
    boot: str = ""
    path: tuple[str, ...] = ()
    exact: str = ""

    @property
    def all_fields(self) -> dict[str, Any]:
        """The fields as they were. Raises ValueError."""
        return _unpack(base64.b64decode(self.exact, validate=True)) if self.exact else self.fields


Carried = tuple[Record, Block]
"""A record and the block that it is of, which knows its clock and the way that it came."""


def carried(batch: Batch, records: Iterable[Record]) -> Iterator[Carried]:
    """``records`` of the batch, each with its block."""
    blocks = iter([item for item in batch.items if isinstance(item, Block)])
    block = next(blocks, None)
    for record in records:
        while block is not None and block.last < record.seq:
            block = next(blocks, None)
        assert block is not None, "a record is of one of its batch's blocks"
        yield record, block


def encode_lines(given: Iterable[Carried], identity: Identity) -> bytes:
    """The lines.

    Raises:
        TypeError, ValueError, OverflowError: a record holds something that cannot be said.
    """
    stores: dict[str, str] = {}
    return json_lines([_line(*one, identity, stores) for one in given])


def _line(
    record: Record, block: Block, identity: Identity, stores: dict[str, str]
) -> CarriedRecord:
    shown = rendered(record, identity.agent_id, identity.epoch)
    store = stores.get(record.log)
    if store is None:
        store = stores[record.log] = f"{identity.agent_id}/{identity.epoch}/{record.log}"
    exact = "" if is_plain(record.fields) else base64.b64encode(_msgpack(record.fields)).decode()
    origin = block.origin
    return CarriedRecord(
        id=shown.id,
        agent=shown.agent,
        seq=shown.seq,
        stream=shown.stream,
        time=shown.time,
        source=shown.source,
        fields=shown.fields,
        time_quality=shown.time_quality,
        time_ns=record.time_ns,
        store=store,
        source_seq=record.source_seq,
        quality=record.quality,
        stored_ns=record.stored_ns if origin is None else origin.stored_ns,
        synced=record.synced,
        corrected=record.corrected,
        boot="" if record.synced else _boot(block),
        path=() if origin is None else origin.path,
        exact=exact,
    )


def _boot(block: Block) -> str:
    """Which boot stored it first, and what its boot clock showed."""
    first = block if block.origin is None else block.origin
    return f"{first.boot_id.hex()}/{first.boot_ns}"


def is_plain(value: object) -> bool:
    """Whether JSON gives ``value`` back as it is."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is float:
        return isfinite(cast(float, value))
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(one) for key, one in value.items())
    return isinstance(value, list) and all(map(is_plain, value))
