"""This module says how connections end: with which code and words, and what is done before.

Any close of ours is the same: nothing further is accepted, what was accepted is committed and
acked, then the close, all within ``close_timeout`` (`say_goodbye`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import trio

from edge_agent.commit import Closed
from edge_agent.errors import ProtocolError, StoreFailed, StoreFull
from edge_agent.server.acks import Answers
from edge_agent.server.close_once import End
from edge_agent.server.websocket import WebSocket
from edge_agent.session import CLOSE_FORBIDDEN, CLOSE_TAKEN_OVER, CLOSE_TOO_BIG, CLOSE_TRY_LATER
from edge_agent.store import Quarantined
from edge_agent.wire import Reject

CLOSE_NORMAL, CLOSE_GONE = 1000, 1001
#: A planned stop asks each peer to come back after a random time up to this, in seconds, so that
#: a thousand do not return at once.
RETURN_WITHIN_S = 5.0
#: When to come back after a disk that refused.
STORE_FAILED_RETRY_S = 5.0
#: Of the time that a close may take, this part is for what was accepted to be committed and acked;
#: the rest is for the close itself.
SETTLE_PART = 0.75

Refused = StoreFull | StoreFailed | Closed
"""What the log answers instead of storing."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """A stop: its word, after how many seconds to come back, and a sentence."""

    code: str
    retry_after: float
    message: str


def not_now(refused: Refused, dice: random.Random) -> NotNow:
    """What to tell a peer whose records the log does not take."""
    if isinstance(refused, StoreFull):
        return NotNow(refused.code, refused.retry_after, str(refused))
    if isinstance(refused, StoreFailed):
        return NotNow("store_failed", STORE_FAILED_RETRY_S, str(refused))
    return NotNow("closing", dice.uniform(0.5, RETURN_WITHIN_S), str(refused))


@dataclass(frozen=True, slots=True)
class LastWords:
    """A message to send before the close, if any, then the close's code and reason."""

    message: str | bytes | None
    code: int
    reason: str


async def say_goodbye(
    socket: WebSocket, answers: Answers, timeout: float, last_words: Callable[[], LastWords]
) -> None:
    """Close ``socket`` within ``timeout`` seconds; ``answers`` goes on after that.

    ``last_words`` is asked once what was accepted has settled, or has not in time.
    """
    deadline = trio.current_time() + timeout
    if socket.end not in ("peer", "broken"):
        answers.hurry()
        with trio.move_on_after(timeout * SETTLE_PART):
            await answers.settled()
    words = last_words()
    if words.message is not None:
        with trio.move_on_at(deadline):
            await socket.send(words.message)
    left = deadline - trio.current_time()
    await socket.close(words.code, words.reason, max(left, timeout * (1 - SETTLE_PART)))


def why_not_now(
    told: NotNow | None, answers: Answers, socket: WebSocket, dice: random.Random
) -> NotNow | None:
    """Whether the end is a stop, and which; a refused entry says more than anything else."""
    if answers.refusal is not None:
        return not_now(answers.refusal, dice)
    if told is None and socket.end == "closing":
        return not_now(Closed("the agent is stopping"), dice)
    return told


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
