"""When, and from which address, each token was used last.

Noted in memory; in the store, as the state of a position that belongs to nobody, once an hour where
something was used and when the agent ends: a card must not be written to because a sensor connects.
What was used in the last hour before a power cut is forgotten. Who is connected is using its token
now. Secrets are in no note, only names.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgpack
import trio

from edge_agent.commit import Closed
from edge_agent.errors import StoreError
from edge_agent.log import Log
from edge_agent.store import Entry, Position
from edge_agent.system.clock import Clock
from edge_agent.values.record import format_time

logger = logging.getLogger(__name__)

#: The name of the position, and the log that it is in.
CONSUMER, LOG = "$tokens", "main"
NOTE_S = 3600.0
#: Until the store has been asked what was noted before, it is asked this often.
RECALL_S = 10.0
#: The names used last are kept; a name has at most 100 bytes.
TOKENS_MAX = 500


@dataclass(frozen=True, slots=True)
class TokenUse:
    """``when_ns`` is wall clock, 0 where that was not set; ``address`` an IP address or ""."""

    when_ns: int
    address: str


Uses = OrderedDict[str, TokenUse]
"""By token's name, the one that was used last at the end."""


class TokenUses:
    """The uses of one agent's tokens.

    Args:
        log: where they are noted.
        clock: the agent's.
        connected: names of tokens that connections are open by, and from which addresses.
    """

    def __init__(
        self, log: Log, clock: Clock, connected: Callable[[], Iterable[tuple[str, str]]] = tuple
    ) -> None:
        self._log, self._clock, self._connected = log, clock, connected
        self._uses: Uses = OrderedDict()
        self._changed = self._recalled = False

    def note(self, name: str, address: str) -> None:
        """A token was used from there, now."""
        now = self._clock.read()
        self._uses[name] = TokenUse(now.wall_ns if now.synced else 0, address)
        self._uses.move_to_end(name)
        if len(self._uses) > TOKENS_MAX:
            self._uses.popitem(last=False)
        self._changed = True

    def now(self) -> Uses:
        """Every use that is known."""
        for name, address in self._connected():
            self.note(name, address)
        return self._uses

    async def run(self) -> None:
        """Recall what was noted before, and note every hour, until cancelled."""
        while not self._recalled:
            await self._recall()
            if not self._recalled:
                await trio.sleep(RECALL_S)
        while True:
            await trio.sleep(NOTE_S)
            self.write()

    def write(self) -> None:
        """Note it, where something was used since; it rides on the next commit."""
        uses = self.now()
        # What was not recalled yet would be lost.
        if not self._changed or not self._recalled:
            return
        try:
            position = Position(CONSUMER, LOG, 0, encode(uses))
            if self._log.offer(Entry(positions=(position,)), lazy=True) is not None:
                self._changed = False
        except Closed:
            return

    async def _recall(self) -> None:
        try:
            noted = await noted_uses(self._log)
        except StoreError:
            return
        noted.update(self._uses)
        self._uses, self._recalled = noted, True
        while len(self._uses) > TOKENS_MAX:
            self._uses.popitem(last=False)


async def noted_uses(log: Log) -> Uses:
    """What is noted in a store; nothing where that cannot be read. Raises StoreError."""
    _, state = await log.position(CONSUMER, LOG)
    return decode(state)


def encode(uses: Uses) -> bytes:
    """As it is noted."""
    raw: bytes = msgpack.packb([[name, one.when_ns, one.address] for name, one in uses.items()])
    return raw


def decode(raw: bytes | None) -> Uses:
    """From a note."""
    try:
        rows = msgpack.unpackb(raw or b"\x90")
        return OrderedDict((str(n), TokenUse(int(w), str(a))) for n, w, a, *_ in rows)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return OrderedDict()


def told_uses(uses: Uses) -> list[dict[str, Any]]:
    """As JSON and ``token list`` show them, the latest first. ``last_used`` is None where the clock
    was not set then.
    """
    return [
        {
            "name": name,
            "last_used": format_time(one.when_ns) if one.when_ns else None,
            "from": one.address,
        }
        for name, one in reversed(uses.items())
    ]
