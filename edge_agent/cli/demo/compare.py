"""The demo's verdict: the records that the sensors know against those of the hub. Pure.

Each simulated record carries ``n``, its number within its source, as a field, so that the record
itself says which one it is, whatever numbering it passed through.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec


@dataclass(slots=True)
class SensorLedger:
    """What one sensor knows of its own records.

    Attributes:
        sent: fingerprints of the records handed over; the first one has ``n`` = 1.
        acked: every ``n`` up to this was acked, except the refused ones.
        refused: numbers that were nacked.
    """

    sent: list[int] = field(default_factory=list)
    acked: int = 0
    refused: set[int] = field(default_factory=set)

    def acked_numbers(self) -> set[int]:
        """Every ``n`` that the agent promised to bring to the hub."""
        return set(range(1, self.acked + 1)) - self.refused


class HubRecord(NamedTuple):
    """One record as the hub gave it back."""

    source: str
    n: int
    fingerprint: int


@dataclass(frozen=True, slots=True)
class DemoVerdict:
    """How the two sides differ, in records.

    Attributes:
        sent, acked: by the sensors' own account.
        at_hub: records read from the hub, repeats included.
        lost: acked and not at the hub.
        duplicates: copies at the hub beyond the first.
        altered: at the hub with other content than was sent.
        strangers: at the hub, and never sent.
        examples: up to three of each kind of difference, as sentences.
    """

    sent: int
    acked: int
    at_hub: int
    lost: int
    duplicates: int
    altered: int
    strangers: int
    examples: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether every acked record is at the hub once, unchanged, and nothing else is."""
        return not (self.lost or self.duplicates or self.altered or self.strangers)


def compare(ledgers: Mapping[str, SensorLedger], found: Iterable[HubRecord]) -> DemoVerdict:
    """Compare the sensors' ledgers, by source, with a full read of the hub.

    A record that was sent, not acked, and is at the hub all the same is no difference: nobody
    promised anything about it.
    """
    sent = {(name, n): one for name, led in ledgers.items() for n, one in enumerate(led.sent, 1)}
    acked = {(name, n) for name, led in ledgers.items() for n in led.acked_numbers()}
    copies: Counter[tuple[str, int]] = Counter()
    altered = set()
    for source, n, content in found:
        copies[source, n] += 1
        if sent.get((source, n), content) != content:
            altered.add((source, n))
    strangers = Counter({key: count for key, count in copies.items() if key not in sent})
    lost, doubled = acked - copies.keys(), copies - strangers - Counter(sent.keys())
    kinds = (("lost", lost), ("more than once", doubled), ("altered", altered))
    examples = [
        f"{what}: {source} n={n}"
        for what, keys in (*kinds, ("never sent", strangers))
        for source, n in sorted(keys)[:3]
    ]
    return DemoVerdict(
        sent=len(sent),
        acked=len(acked),
        at_hub=copies.total(),
        lost=len(lost),
        duplicates=doubled.total(),
        altered=len(altered),
        strangers=strangers.total(),
        examples=tuple(examples),
    )


def fingerprint(fields: Mapping[str, Any]) -> int:
    """A checksum of a record's fields that survives encoding as msgpack and as JSON."""
    return zlib.crc32(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode())


def ledgers_to_json(ledgers: Mapping[str, SensorLedger]) -> str:
    """For a file that `ledgers_from_json` reads."""
    return msgspec.json.encode(ledgers).decode()


def ledgers_from_json(text: str) -> dict[str, SensorLedger]:
    """What `ledgers_to_json` wrote.

    Raises:
        ValueError: it did not.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, SensorLedger])
    except msgspec.DecodeError as error:
        raise ValueError(f"not a demo's ledger: {error}") from error
