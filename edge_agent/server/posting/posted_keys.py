"""Idempotency keys of ``POST /ingest/STREAM``: what was stored under one is stored no second time.

A key is remembered in the store as a source, ``$post/`` and a hash of who sent it and one of the
stream and the key: a board that numbers its requests means its own stream's by "7", and two boards
may have one token, or none. The body is no part of it, as one that has its times relative to now is
another one when it is sent again. Its
"next number" says how many records were stored, and it is written by the very commit that stores
them: after any power cut there are both or neither. The oldest are forgotten, by an order in the
entry that brings a new one, beyond `KEYS_MAX` in all or `_SHARES` of that for one identity, so that
no poster pushes sensors, or another poster's keys, out.

While a request under a key is being stored, another one under it waits, and is answered as a repeat
of it. A request is no repeat if nothing of it was stored.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from edge_agent.log import Log
from edge_agent.store import POSTED_PREFIX, Numbering, SourceOrder

#: Keys that are remembered; at most a tenth of ``limits.sources``.
KEYS_MAX: Final = 1_000
_SHARES: Final = 4
_PLACES: Final = 10
_WHO_CHARACTERS: Final = 8
_KEY_CHARACTERS: Final = 24


@dataclass(slots=True)
class HeldKey:
    """One key, while its request is answered.

    Attributes:
        source: its name in the store.
        stored: how many records were stored under it before; None where it is new.
        forget: the keys that give way to it.
        is_kept: to be set once it is in the store.
    """

    source: str
    stored: int | None = None
    forget: tuple[SourceOrder, ...] = ()
    is_kept: bool = False

    def numbering(self, stored: int) -> Numbering:
        """What an entry with so many records needs, to bring the key into the store."""
        return Numbering(self.source, 1, stored + 2)


class PostedKeys:
    """The keys of one agent. ``places``: ``limits.sources``.

    Attributes:
        reading: bytes of bodies that are being read or stored, of all requests.
    """

    def __init__(self, log: Log, places: int) -> None:
        self.reading = 0
        self._log = log
        self._most = max(1, min(KEYS_MAX, places // _PLACES))
        #: By identity, the oldest first; None until the store was asked.
        self._known: OrderedDict[str, str] | None = None
        self._held: dict[str, trio.Event] = {}

    @asynccontextmanager
    async def held(self, identity: str, stream: str, key: str) -> AsyncIterator[HeldKey]:
        """The key, by nobody else for the block.

        Raises:
            StoreError: the store cannot be asked.
        """
        source = source_of(identity, key, stream)
        while (holder := self._held.get(source)) is not None:
            # Its holder waits for a commit, which has a deadline of its own.
            await holder.wait()
        done = self._held[source] = trio.Event()
        try:
            known = await self._load()
            # The second is what versions before this one wrote.
            for name in (source, source_of(identity, key)):
                if name in known:
                    yield HeldKey(source, max(await self._log.next_of(name) - 2, 0))
                    return
            held = HeldKey(source, None, tuple(map(_forget, self._too_many(known, source))))
            yield held
            if held.is_kept:
                for order in held.forget:
                    known.pop(order.source, None)
                known[source] = _who(source)
        finally:
            del self._held[source]
            done.set()

    async def _load(self) -> OrderedDict[str, str]:
        if self._known is None:
            found = [one for one in await self._log.sources() if one.name.startswith(POSTED_PREFIX)]
            found.sort(key=lambda one: one.seen_ns)
            if self._known is None:
                self._known = OrderedDict((one.name, _who(one.name)) for one in found)
        return self._known

    def _too_many(self, known: OrderedDict[str, str], source: str) -> list[str]:
        """The oldest of an identity that has its share; else, where all places are taken, of the
        one that has most.
        """
        who, held = _who(source), Counter(known.values())
        if held[who] >= max(1, self._most // _SHARES):
            giver = who
        elif len(known) >= self._most:
            giver = max(held, key=lambda one: held[one])
        else:
            return []
        in_use = self._held.keys()
        return [name for name, one in known.items() if one == giver and name not in in_use][:1]


def source_of(identity: str, key: str, stream: str = "") -> str:
    """The name of a key in the store; the identity's hash comes first, so that whose it is can be
    told. No stream's name has a line's end in it.
    """
    key = f"{stream}\n{key}" if stream else key
    who = hashlib.sha256(identity.encode()).hexdigest()[:_WHO_CHARACTERS]
    return f"{POSTED_PREFIX}{who}/{hashlib.sha256(key.encode()).hexdigest()[:_KEY_CHARACTERS]}"


def _who(source: str) -> str:
    return source.removeprefix(POSTED_PREFIX).partition("/")[0]


def _forget(source: str) -> SourceOrder:
    return SourceOrder(source, "forget")
