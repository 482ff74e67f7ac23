"""The end of a connection: once (`Ending`), for which reason, and with which code and words.

Any close of ours is the same: nothing further is accepted, what was accepted is committed and
acked, then the close, all within ``close_timeout`` (`edge_agent.server.pump`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import trio

from edge_agent.commit import Closed
from edge_agent.errors import ProtocolError, StoreFailed, StoreFull
from edge_agent.session import CLOSE_FORBIDDEN, CLOSE_TAKEN_OVER, CLOSE_TOO_BIG, CLOSE_TRY_LATER
from edge_agent.store import Quarantined
from edge_agent.wire import Reject

CLOSE_NORMAL, CLOSE_GONE = 1000, 1001
#: A planned stop asks each peer to come back at another time, so that a second brings no more than
#: this many: a handshake with hello and welcome is 2 ms of a quick core, and some 5 of a board's.
RETURNS_PER_S = 200
#: The earliest return after a planned stop, in seconds: before, the next agent is not there. And
#: the last one, of few and of very many peers.
RETURN_FIRST_S, RETURN_LAST_S = 0.5, (1.0, 30.0)
#: When to come back after a disk that refused.
STORE_FAILED_RETRY_S = 5.0

End = Literal[
    "peer",
    "broken",
    "protocol",
    "too_big",
    "idle",
    "taken_over",
    "refused",
    "closing",
    "revoked",
    "displaced",
]
"""Why a connection ended. The peer closed it; the socket broke; the peer violated RFC 6455;
it sent a message over the limit; it fell silent; a newer hello took over; what it sent was refused;
the agent stops; its token was revoked or allows less now; its place was needed for another."""

Refused = StoreFull | StoreFailed | Closed
"""What the log answers instead of storing."""


class Ending:
    """Ends once, for the first reason that comes.

    Attributes:
        end: why it ended, None while it has not.
    """

    def __init__(self) -> None:
        self.end: End | None = None
        # Made only by who waits, so that a connection at rest is small.
        self._waiting: set[trio.CancelScope] | None = None
        self._stirred: trio.Event | None = None

    def set_end(self, end: End) -> None:
        """It is over, because of ``end`` if nothing came before."""
        if self.end is None:
            self.end = end
        for scope in self._waiting or ():
            scope.cancel()
        self.stir()

    @contextmanager
    def until_end(self) -> Iterator[trio.CancelScope]:
        """A scope that is cancelled once the connection has ended."""
        if self._waiting is None:
            self._waiting = set()
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            if self.end is not None:
                scope.cancel()
            try:
                yield scope
            finally:
                self._waiting.remove(scope)

    def stir(self) -> None:
        """Wake the pump's task from `wait_stirred`."""
        if self._stirred is not None:
            self._stirred.set()

    async def wait_stirred(self) -> None:
        """Until the connection has ended, or `stir`."""
        if self.end is None:
            self._stirred = trio.Event()
            await self._stirred.wait()
            self._stirred = None


@dataclass(frozen=True, slots=True)
class NotNow:
    """A stop: its word, after how many seconds to come back, and a sentence."""

    code: str
    retry_after: float
    message: str


def return_last_s(peers: int) -> float:
    """How long the last of so many peers that are sent away at once is to stay away. Pure.

    Example: 500 are back within 2.5 s, 1,000 within 5 s, three within 1 s.
    """
    soonest, latest = RETURN_LAST_S
    return min(max(peers / RETURNS_PER_S, soonest), latest)


def not_now(refused: Refused, dice: random.Random, peers: int) -> NotNow:
    """What to tell a peer whose records the log does not take; ``peers`` are told so with it. All
    who are connected may be told at one moment, and not every client spreads by itself: so each is
    told another time, of a disk or a log up to twice as long.
    """
    if isinstance(refused, StoreFull):
        return NotNow(refused.code, refused.retry_after * dice.uniform(1, 2), str(refused))
    if isinstance(refused, StoreFailed):
        wait = STORE_FAILED_RETRY_S * dice.uniform(1, 2)
        return NotNow("store_failed", wait, str(refused))
    return NotNow("closing", dice.uniform(RETURN_FIRST_S, return_last_s(peers)), str(refused))


@dataclass(frozen=True, slots=True)
class LastWords:
    """A message to send before the close, if any, then the close's code and reason."""

    message: str | bytes | None
    code: int
    reason: str


def close_of(end: End | None, failure: ProtocolError | None) -> tuple[int, str]:
    """Close code and reason where it is no stop."""
    if failure is not None:
        return failure.close_code or CLOSE_FORBIDDEN, failure.message
    if end == "taken_over":
        return CLOSE_TAKEN_OVER, "a newer connection of this source took over"
    if end == "idle":
        return CLOSE_GONE, "nothing was heard for too long"
    if end == "too_big":
        return CLOSE_TOO_BIG, "the message is over the limit"
    if end == "revoked":
        return CLOSE_FORBIDDEN, "revoked: the token was revoked, or allows less now"
    if end == "displaced":
        return CLOSE_TRY_LATER, "full: the place was needed for another (listen.connections)"
    return CLOSE_NORMAL, ""


def quarantined(reject: Reject, source: str, arrival_ns: int) -> Quarantined:
    """A reject as the store keeps it."""
    return Quarantined(
        reject.code, reject.message, reject.stream, source, reject.number, arrival_ns, reject.body
    )
