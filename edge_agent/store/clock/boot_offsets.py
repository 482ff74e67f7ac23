"""This module keeps clock notes: what is known of this agent's boots, and of other agents'.

There is one for each boot of this agent whose clock was set while it ran, and one for each boot
that another agent told of. Each note that is stored or changed gets the next number, so that
whoever passes notes on needs to remember one number. The oldest are forgotten beyond `OWN_MAX` and
`FOREIGN_MAX`; what they would have corrected is then read as it was stored.

A note of another agent belongs to the identity that told it, where there are tokens: to the one
that this agent came by (``server/agent_session.py`` sees to that). An identity has `OWNED_MAX` of
them, and beyond its own oldest are forgotten, or the oldest of the one that has most: nobody can
push another's note out. The rightful identity's word goes before what was stored without one, and
before what another identity said that the agent came by earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import lmdb

from edge_agent.store.clock.correction import Boot
from edge_agent.store.format import keys
from edge_agent.store.format.values import ClockValue, decode, encode
from edge_agent.values.clock_note import BOOT_NS_MAX, ClockNote

#: Boots of this agent, less than 100 bytes each in the file and 400 in memory.
OWN_MAX = 256
#: Boots of all other agents together, and of those that one identity told of.
FOREIGN_MAX = 2048
OWNED_MAX = 256


class Clocks:
    """All notes, as of one commit. Never changed, so that readers may keep one.

    ``offsets`` is what corrections are made by, ``number`` the highest number given so far.
    """

    __slots__ = ("_notes", "number", "offsets")

    def __init__(self, notes: Mapping[Boot, ClockValue] | None = None) -> None:
        self._notes = notes or {}
        self.offsets = {boot: value.offset_ns for boot, value in self._notes.items()}
        self.number = max((value.number for value in self._notes.values()), default=0)

    def __len__(self) -> int:
        return len(self._notes)

    def get(self, agent: str, boot_id: bytes) -> ClockValue | None:
        """What is known of one boot."""
        return self._notes.get((agent, boot_id))

    def news(self, notes: Iterable[ClockNote]) -> list[ClockNote]:
        """Those of ``notes`` that say something new."""
        return [
            note for note in notes if _is_news(self._notes.get((note.agent, note.boot_id)), note)
        ]

    def after(self, number: int) -> list[tuple[int, ClockNote]]:
        """The notes that others need, with their numbers, above ``number`` and in order."""
        return [
            (value.number, note_of(boot, value))
            for boot, value in sorted(self._notes.items(), key=lambda item: item[1].number)
            if value.number > number and value.needed
        ]

    def changed_by(
        self, notes: Iterable[ClockNote], noted_ns: int
    ) -> tuple[Clocks, dict[Boot, ClockValue | None]]:
        """With ``notes``, as far as they say something new: the result, and what is to be written
        under which key, None for what is forgotten.
        """
        changes: dict[Boot, ClockValue | None] = {}
        known, number = dict(self._notes), self.number
        for note in notes:
            boot = (note.agent, note.boot_id)
            if _is_news(known.get(boot), note):
                number += 1
                told = (note.offset_ns, note.boot_ns, note.hops, note.needed)
                known[boot] = changes[boot] = ClockValue(number, *told, noted_ns, note.owner)
        if not changes:
            return self, changes
        for boot in _too_many(known):
            del known[boot]
            changes[boot] = None
        return Clocks(known), changes


def note_of(boot: Boot, value: ClockValue) -> ClockNote:
    """The note that is stored as ``value``."""
    return ClockNote(*boot, value.offset_ns, value.boot_ns, value.hops, value.needed)


def load_clocks(txn: lmdb.Transaction[Any]) -> Clocks:
    """All notes in the store.

    Raises:
        StoreDamaged: one of them was not written by us.
    """
    found: dict[Boot, ClockValue] = {}
    cursor = txn.cursor()
    cursor.set_range(keys.CLOCK)
    for view, raw in cursor.iternext():
        key = bytes(view)
        if not key.startswith(keys.CLOCK):
            break
        found[keys.clock_boot(key)] = decode(key, raw, ClockValue)
    return Clocks(found)


def write_clocks(txn: lmdb.Transaction[bytes], changes: Mapping[Boot, ClockValue | None]) -> None:
    """Put into a transaction what `Clocks.changed_by` says."""
    for boot, value in changes.items():
        key = keys.clock_key(*boot)
        if value is None:
            txn.delete(key)
        else:
            txn.put(key, encode(key, value))


def _is_news(known: ClockValue | None, note: ClockNote) -> bool:
    if known is None:
        return True
    if note.owner not in (None, known.owner) or known.boot_ns > BOOT_NS_MAX >= note.boot_ns:
        return True
    if note.boot_ns == known.boot_ns and note.offset_ns == known.offset_ns:
        return note.needed and not known.needed
    return note.boot_ns > known.boot_ns


def _too_many(known: Mapping[Boot, ClockValue]) -> list[Boot]:
    """The oldest notes beyond the limits."""
    own: list[Boot] = []
    foreign: dict[str | None, list[Boot]] = {}
    for boot in sorted(known, key=lambda boot: known[boot].number):
        (foreign.setdefault(known[boot].owner, []) if boot[0] else own).append(boot)
    surplus = own[: max(len(own) - OWN_MAX, 0)]
    for owner, boots in foreign.items():
        if owner is not None and len(boots) > OWNED_MAX:
            surplus += boots[:-OWNED_MAX]
            del boots[:-OWNED_MAX]
    for _ in range(sum(map(len, foreign.values())) - FOREIGN_MAX):
        surplus.append(max(foreign.values(), key=len).pop(0))
    return surplus


NO_CLOCKS = Clocks()
