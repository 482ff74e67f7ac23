"""A `Change` says what becomes of each value when a store is written anew (`rewrite.py`).

`Change` alone keeps everything: a backup. `Resealing` seals or opens what is not as it would be
stored now: a compaction. `Erasing` takes a stream out. `Renewing` makes the store another one, with
numbers that were never given before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from edge_agent.errors import StoreDamaged
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store.commit.positions import state_in, with_state
from edge_agent.store.copy_signs import Medium
from edge_agent.store.format import keys
from edge_agent.store.format.block import peek, resealed_block
from edge_agent.store.format.codec import Compressor
from edge_agent.store.format.erase import erased_block
from edge_agent.store.format.values import (
    LogHeader,
    PositionValue,
    QuarantineHeader,
    QuarantineValue,
    StoreHeader,
    decode,
    encode,
    resealed_entry,
)
from edge_agent.store.identity import is_same_medium
from edge_agent.store.repair.salvage import SALVAGE_JUMP


class Change:
    """Keeps every value as it is. Values come in the order of their keys, blocks last.

    Attributes:
        medium: where the file is that the new one replaces, () where it replaces none. Being
            replaced so makes no copy of it (`identity.py`); but what was one before stays one.
    """

    medium: Medium = ()

    def value(self, key: bytes, value: bytes) -> bytes | None:
        """What to store under ``key``; None for nothing."""
        return self._restated(key, value) if key == keys.STORE else value

    def _restated(self, key: bytes, value: bytes) -> bytes:
        header = decode(key, value, StoreHeader)
        if self.medium and is_same_medium(header.medium, self.medium):
            header = msgspec.structs.replace(header, medium=())
        return encode(key, header)

    def end(self) -> dict[bytes, bytes]:
        """What to store besides, once all values have come."""
        return {}


@dataclass(kw_only=True)
class Resealing(Change):
    """Stores everything as it would be stored now: sealed by the key of ``seals`` that seals, or
    open where none does. What cannot be opened stays as it is.
    """

    seals: KeyRing = OPEN
    _header: StoreHeader | None = None
    _needed: set[bytes] = field(default_factory=set)

    def value(self, key: bytes, value: bytes) -> bytes | None:
        """As `Change.value`."""
        if key == keys.STORE:
            # What it says of keys is known in the end.
            self._header = decode(key, self._restated(key, value), StoreHeader)
        elif not self.seals.current and self._header is not None and not self._header.seals:
            pass  # Nothing is sealed, and nothing shall be.
        elif key[:1] == keys.POSITION:
            return self._resealed(key, value, self._with_position)
        elif key[:1] == keys.QUARANTINE and key != keys.QUARANTINE:
            return self._resealed(key, value, resealed_entry)
        elif key[:1] == keys.BLOCK:
            return self._resealed(key, value, resealed_block)
        return super().value(key, value)

    def end(self) -> dict[bytes, bytes]:
        """The store's header, with the keys that are needed from now on."""
        if self._header is None:
            return {}
        needed = sorted(self._needed.intersection(self._header.seals))
        header = self._header.with_seals(self.seals.also(needed))
        return {keys.STORE: encode(keys.STORE, header)}

    def _resealed(
        self, key: bytes, value: bytes, change: Callable[[bytes, bytes, KeyRing], bytes]
    ) -> bytes:
        try:
            return change(key, value, self.seals)
        except StoreDamaged:
            # Readers of it are told. Which key it needs, if any, it may not even say.
            self._needed.update(() if self._header is None else self._header.seals)
            return value

    def _with_position(self, key: bytes, value: bytes, seals: KeyRing) -> bytes:
        held = decode(key, value, PositionValue)
        state = state_in(key, held, seals)
        if state is not None:
            return encode(key, with_state(key, held, state, seals))
        if held.sealed:
            raise StoreDamaged("a consumer's state cannot be opened")
        return value


def _as_it_is(consumer: str, state: bytes) -> bytes:
    return state


@dataclass
class Erasing(Resealing):
    """Takes the streams that match out of blocks and quarantine.

    Attributes:
        literal: the stream's name where it is one, so that it is looked for in bytes, too.
        records: erased ones, by stream. entries: of quarantine.
        damaged: blocks that cannot be read and so are left out; whose records they held, who knows.
        damaged_entries: the same of quarantine.
        mentioned: consumers whose state, as far as the name is known, still tells of the stream.
        forget: what a consumer's state becomes, by its name, without the streams.
        restate: what becomes of it then, when records of its log were erased.
    """

    matches: Callable[[str], bool]
    compressor: Compressor
    page_bytes: int
    literal: bytes = b""
    records: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    damaged: int = 0
    damaged_entries: int = 0
    mentioned: set[str] = field(default_factory=set)
    forget: Callable[[str, bytes], bytes] = _as_it_is
    restate: Callable[[str, bytes], bytes] = _as_it_is
    _touched: set[int] = field(default_factory=set)
    _logs: dict[bytes, LogHeader] = field(default_factory=dict)
    _positions: dict[bytes, PositionValue] = field(default_factory=dict)
    _quarantine: QuarantineHeader | None = None
    _numbers: list[int] = field(default_factory=list)
    _bytes: int = 0

    def value(self, key: bytes, value: bytes) -> bytes | None:
        """As `Change.value`."""
        kind = key[:1]
        if kind == keys.LOG:
            self._logs[key] = decode(key, value, LogHeader)
        elif kind == keys.POSITION:
            self._positions[key] = decode(key, value, PositionValue)
            return self._resealed(key, value, self._with_position)
        elif key == keys.QUARANTINE:
            self._quarantine = decode(key, value, QuarantineHeader)
        elif kind == keys.QUARANTINE:
            return self._quarantined(key, value)
        elif kind == keys.BLOCK:
            return self._block(key, value)
        return super().value(key, value)

    def end(self) -> dict[bytes, bytes]:
        """Headers, counted anew."""
        names = [name.encode() for name in self.records] + [self.literal] * bool(self.literal)
        made = super().end()
        made |= {key: encode(key, header) for key, header in self._logs.items()}
        for key, held in self._positions.items():
            consumer, _, log = key[1:].decode().partition("\x00")
            before = state_in(key, held, self.seals)
            if before is None:
                continue
            state = self.forget(consumer, before)
            if any(name in state for name in names):
                self.mentioned.add(consumer)
            header = self._logs.get(keys.log_key(log))
            if header is not None and header.id in self._touched:
                state = self.restate(consumer, state)
            if state != before:
                made[key] = encode(key, with_state(key, held, state, self.seals))
        if self._quarantine is not None:
            last, numbers = self._quarantine.last, self._numbers
            first = numbers[0] if numbers else last + 1
            counted = msgspec.structs.replace(
                self._quarantine,
                first=first,
                bytes=self._bytes,
                released=last - first + 1 - len(numbers),
            )
            made[keys.QUARANTINE] = encode(keys.QUARANTINE, counted)
        return made

    def _quarantined(self, key: bytes, value: bytes) -> bytes | None:
        try:
            found = decode(key, value, QuarantineValue, self.seals)
        except StoreDamaged:
            # Nothing rests on it, and whose it was, who knows.
            self.damaged_entries += 1
            return None
        if self.matches(found.stream) or (self.literal and self.literal in found.body):
            self.entries += 1
            return None
        value = resealed_entry(key, value, self.seals)
        self._numbers.append(int.from_bytes(key[1:], "big"))
        self._bytes += keys.stored_bytes(len(value), self.page_bytes)
        return value

    def _block(self, key: bytes, value: bytes) -> bytes | None:
        try:
            gone, new = erased_block(key, value, self.matches, self.compressor, self.seals)
        except StoreDamaged:
            self.damaged += 1
            head = peek(memoryview(value))
            self._count(key, value, b"", 0 if head is None else head.count)
            return None
        for stream, count in gone.items():
            self.records[stream] = self.records.get(stream, 0) + count
        if gone:
            self._count(key, value, new, 0)
        return resealed_block(key, new, self.seals)

    def _count(self, key: bytes, old: bytes, new: bytes, fewer: int) -> None:
        self._touched.add(key[1])
        for log, header in self._logs.items():
            if header.id == key[1]:
                grown = keys.stored_bytes(len(new), self.page_bytes) if new else 0
                size = header.bytes + grown - keys.stored_bytes(len(old), self.page_bytes)
                self._logs[log] = header.rewritten(max(header.records - fewer, 0), max(size, 0))


@dataclass
class Renewing(Change):
    """Makes the store another one: ``header`` in the place of its own; and every log that ever had
    a record counts on far above what the old store may have given out since (`SALVAGE_JUMP`).
    """

    header: StoreHeader

    def value(self, key: bytes, value: bytes) -> bytes | None:
        """As `Change.value`."""
        if key == keys.STORE:
            # What is in it stays sealed as it is.
            found = decode(key, value, StoreHeader)
            return encode(key, self.header.with_seals(found.seals))
        if key == keys.SALVAGED:
            return None  # What was set aside is on the card of the original.
        if key[:1] == keys.LOG:
            log = decode(key, value, LogHeader)
            if log.last:
                log = log.counting_on(log.last, SALVAGE_JUMP)
            return encode(key, log)
        return value
