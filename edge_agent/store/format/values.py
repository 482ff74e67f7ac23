"""This module has the values other than blocks: small msgpack arrays, each under a checksum.

They are read and written through typed structs. The checksum has four bytes and covers the key too:
a flipped bit in a source's next number would otherwise pass its records off for duplicates.

Arrays may grow at the end: a reader ignores elements it does not know. Anything else is a new
`FORMAT`, which an older version refuses to touch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.seal import OPEN, KeyRing, is_sealed, key_id

_CRC_BYTES = 4
#: What an entry of quarantine is sealed for. Its number is not told: a salvage may give another.
_ENTRY = b"quarantine"
#: The longest value is a consumer's state, of 256 KiB at most. What claims more is not touched: it
#: would reach beyond what is mapped.
SMALL_BYTES_MAX = 512 * 1024

#: The newest version that is read here of everything in the file; and the two that are written: a
#: file in which something is sealed has another, so that an older version does not take it for
#: damaged.
FORMAT = 2
OPEN_FORMAT, SEALED_FORMAT = 1, 2


class OpeningValue(msgspec.Struct, array_like=True, frozen=True):
    """One opening of the store: its random id, and (log id, last seq) of each log when the next
    one followed it.
    """

    id: bytes
    last: tuple[tuple[int, int], ...] = ()


class CopyNote(msgspec.Struct, array_like=True, frozen=True):
    """That the store was found to be a copy: ``times`` so far, when and why the last time, and the
    epoch that it had until then.
    """

    times: int
    when_ns: int
    reason: str
    epoch: str


class StoreHeader(msgspec.Struct, array_like=True, frozen=True):
    """Who this store is. ``opened`` counts openings: the marker that each of them commits.

    ``lane``: what its numbers are kept under at other agents, "" for the usual one. ``numbering``:
    the epoch of the numbers of its sources, "" where it is the store's own. ``machine`` and
    ``medium``: where it was opened last. ``openings``: the newest, the last one being that which
    wrote this. See `identity`.

    ``seals``: ids of the keys that something in the file may be sealed with. ``salvaged_from``: the
    epoch of the store that this one was read back of, "" where it is none such.
    """

    format: int
    store_id: str
    epoch: str
    agent_id: str
    board: str
    created_ns: int
    opened: int
    #: Id of the boot of the last opening; b"" where it was not noted yet.
    boot: bytes = b""
    lane: str = ""
    machine: str = ""
    medium: tuple[str, ...] = ()
    openings: tuple[OpeningValue, ...] = ()
    copied: CopyNote | None = None
    numbering: str = ""
    seals: tuple[bytes, ...] = ()
    salvaged_from: str = ""

    def with_seals(self, seals: Iterable[bytes]) -> StoreHeader:
        """The header where these are the ids of the keys that are needed."""
        seals = tuple(seals)
        version = SEALED_FORMAT if seals else OPEN_FORMAT
        return msgspec.structs.replace(self, format=version, seals=seals)


class LogHeader(msgspec.Struct, array_like=True, frozen=True):
    """A log's counters, rewritten in the transaction of each change.

    ``first`` to ``last`` are the seqs still stored; ``first == last + 1`` when none is. In a
    salvaged log some of them are missing, and all may be. ``bytes`` is as `keys.stored_bytes`
    counts; ``trimmed`` and ``discarded`` are records since creation, a thinned block counted as
    the records that it stood for.

    ``looked``: thinning has looked at all blocks up to this seq, of which what is still held has
    ``looked_bytes``. ``thinned`` records have since creation given way to ``aggregates``.

    ``passed``: first and last of the seqs that were never given, because a salvage or a restore
    counted on above them. Who looks for what is missing does not count them.
    """

    id: int
    first: int = 1
    last: int = 0
    records: int = 0
    bytes: int = 0
    trimmed: int = 0
    discarded: int = 0
    looked: int = 0
    looked_bytes: int = 0
    thinned: int = 0
    aggregates: int = 0
    passed: tuple[tuple[int, int], ...] = ()

    def rewritten(self, records: int, held_bytes: int) -> LogHeader:
        """Its blocks are other ones by now, of so many records and bytes. Thinning looks again, as
        what it left alone may not be what is there.
        """
        return msgspec.structs.replace(
            self, records=records, bytes=held_bytes, looked=0, looked_bytes=0
        )

    def given(self, after: int, last: int) -> int:
        """How many seqs in ``(after, last]`` were given to records: all but those in ``passed``."""
        never = (min(end, last) - max(first, after + 1) + 1 for first, end in self.passed)
        return max(0, last - after) - sum(one for one in never if one > 0)

    def counting_on(self, known: int, by: int) -> LogHeader:
        """As if ``by`` seqs behind ``known``, the last one that may have been given, were."""
        passed = tuple(pair for pair in self.passed if pair[1] >= self.first)
        return msgspec.structs.replace(
            self, last=known + by, passed=(*passed, (known + 1, known + by))
        )


class PositionValue(msgspec.Struct, array_like=True, frozen=True):
    """How far a consumer is, and what it asked to be kept for it; whether a person has paused it,
    and how many records it was told to skip. ``span``: first and last seq of a backlog that is sent
    beside newer records; (0, 0) for any other consumer. ``sealed``: whether ``state`` is.
    """

    floor: int
    state: bytes | None
    paused: bool = False
    skipped: int = 0
    span: tuple[int, int] = (0, 0)
    sealed: bool = False


class SourceValue(msgspec.Struct, array_like=True, frozen=True):
    """The number expected next, and when the source was last heard, by whose clock.

    ``owner`` is the identity that alone may use it; None for whoever comes first, as in stores of
    before there were owners, and where no tokens are asked for. ``opening``: which opening of the
    sender's store sent what is before ``next`` (`edge_agent.session.History`), "" if unknown.
    """

    next: int
    seen_ns: int
    synced: bool
    owner: str | None = None
    opening: str = ""


class SalvageNote(msgspec.Struct, array_like=True, frozen=True):
    """What the last salvage saved: ``missing`` records are known to be lost. ``complete``: False
    where the new file was too small for all.

    ``possible`` records more may be lost: nobody can tell whether they were trimmed before, or
    never acked. ``all_known``: False where there may be others that nothing tells of.
    """

    when_ns: int
    reason: str
    moved_to: str
    blocks: int
    records: int
    missing: int
    complete: bool
    possible: int = 0
    all_known: bool = True


class QuarantineHeader(msgspec.Struct, array_like=True, frozen=True):
    """Entries ``first`` to ``last`` are stored, but for ``released`` between them that a person
    has taken out; ``dropped`` older ones had to make room.
    """

    first: int = 1
    last: int = 0
    bytes: int = 0
    dropped: int = 0
    released: int = 0

    @property
    def entries(self) -> int:
        """How many are stored."""
        return self.last - self.first + 1 - self.released


class QuarantineValue(msgspec.Struct, array_like=True, frozen=True):
    """One entry, as `types.Quarantined`."""

    code: str
    reason: str
    stream: str
    source: str
    number: int
    arrival_ns: int
    body: bytes
    consumer: str = ""
    log: str = ""
    seq: int = 0


class ClockValue(msgspec.Struct, array_like=True, frozen=True):
    """What is known of one boot's clock, as `edge_agent.values.clock_note.ClockNote`. ``number``
    counts the notes of this store, those that took another's place included; ``noted_ns`` is when
    it was stored, by our wall clock; ``owner`` is as in `SourceValue`.
    """

    number: int
    offset_ns: int
    boot_ns: int
    hops: int
    needed: bool
    noted_ns: int
    owner: str | None = None


#: Where a header's ``seals`` stand, for whoever reads it without knowing all of it.
SEALS_AT = StoreHeader.__struct_fields__.index("seals")

_Value = TypeVar("_Value", bound=msgspec.Struct)
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[type, msgspec.msgpack.Decoder[msgspec.Struct]] = {
    kind: msgspec.msgpack.Decoder(kind)
    for kind in (
        StoreHeader,
        LogHeader,
        PositionValue,
        SourceValue,
        SalvageNote,
        QuarantineHeader,
        QuarantineValue,
        ClockValue,
    )
}


def encode(key: bytes, value: msgspec.Struct) -> bytes:
    """The bytes to store under ``key``: the array, then the checksum of key and array."""
    return with_checksum(key, _ENCODER.encode(value))


def encode_entry(key: bytes, value: QuarantineValue, keys: KeyRing) -> bytes:
    """The same of an entry of quarantine, its array sealed where ``keys`` seal."""
    return with_checksum(key, keys.sealed(_ENTRY, _ENCODER.encode(value)))


def resealed_entry(key: bytes, stored: bytes, keys: KeyRing) -> bytes:
    """An entry as it would be stored now. Raises StoreDamaged where it cannot be opened."""
    body = bytes(checked_body(key, stored))
    if (key_id(body) if is_sealed(body) else b"") == keys.current:
        return stored
    return with_checksum(key, keys.sealed(_ENTRY, keys.opened(_ENTRY, body)))


def with_checksum(key: bytes, body: bytes) -> bytes:
    """``body`` and behind it the checksum of key and body."""
    return body + zlib.crc32(body, zlib.crc32(key)).to_bytes(_CRC_BYTES, "big")


def decode(
    key: bytes, stored: bytes | memoryview, kind: type[_Value], seals: KeyRing = OPEN
) -> _Value:
    """The value stored under ``key``; one that is sealed (an entry of quarantine) with its key.

    Raises:
        StoreDamaged: these bytes were not written there by us.
    """
    try:
        raw = checked_body(key, stored)
    except StoreDamaged as error:
        raise StoreDamaged(f"a {kind.__name__} fails its checksum") from error
    if is_sealed(raw):
        raw = seals.opened(_ENTRY, raw)
    try:
        value = _DECODERS[kind].decode(raw)
    except ValueError as error:
        raise StoreDamaged(f"a {kind.__name__} cannot be read: {error}") from error
    assert isinstance(value, kind)
    return value


def checked_body(key: bytes, stored: bytes | memoryview) -> bytes | memoryview:
    """The array in what is stored under ``key``, not decoded. Raises StoreDamaged."""
    if len(stored) > SMALL_BYTES_MAX:
        raise StoreDamaged("a value is longer than any of ours")
    raw = stored[:-_CRC_BYTES]
    if zlib.crc32(raw, zlib.crc32(key)).to_bytes(_CRC_BYTES, "big") != stored[-_CRC_BYTES:]:
        raise StoreDamaged("a value fails its checksum")
    return raw
