"""The states of a session: which message may come in which, and the rules for numbers.

Rule 1: everything that decides whether an input is in order, and which state follows, is in the
two tables of this module. `ServerSession` and `ClientSession` ask `follow` first and change
nothing before it has answered, so an input out of order leaves the session as it was.

Theory of operation
-------------------
A session numbers the records of one source. The sender counts what it sends, the agent counts
what it receives, and both begin at the ``next`` of the welcome; no number travels with the data.
The agent's own memory of ``next`` is in the store, written by the transaction that stores the
records, so what it says after a crash is what is durable, neither more nor less.

The agent's side::

    NEW ── hello ──▶ GREETED ── welcome ──▶ OPEN ── failure, stop ──▶ CLOSING ── close ──▶ CLOSED

GREETED is the time in which an older connection of the same source is closed and its appends
settle; only then is ``next`` known. In CLOSING nothing more is accepted: data that still comes is
discarded (the sender keeps it, since it is never acked), while commits go on and are acked. In
CLOSED a late commit is in order and says nothing.

The sender's side::

    NEW ── hello ──▶ GREETING ── welcome ──▶ OPEN ── stop ──▶ STOPPED ── close ──▶ CLOSED

In STOPPED acks still come for what was accepted before.

A close is in order everywhere: connections end when they like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import TypeVar

from edge_agent.errors import ProtocolError
from edge_agent.session.control import CLOSE_PROTOCOL, Hello, History


class ServerState(Enum):
    """Where the agent's side of a session is."""

    NEW = auto()
    GREETED = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class ServerInput(Enum):
    """What can happen to the agent's side."""

    HELLO = auto()  # the peer's
    WELCOME = auto()  # ours
    DATA = auto()  # the peer's
    COMMITTED = auto()  # the store's
    FAILURE = auto()  # a message that could not be read
    STOP = auto()  # ours
    CLOSE = auto()  # either side's


class ClientState(Enum):
    """Where the sender's side of a session is."""

    NEW = auto()
    GREETING = auto()
    OPEN = auto()
    STOPPED = auto()
    CLOSED = auto()


class ClientInput(Enum):
    """What can happen to the sender's side."""

    HELLO = auto()  # ours
    WELCOME = auto()  # the agent's
    DATA = auto()  # ours
    ACK = auto()  # the agent's
    NACK = auto()  # the agent's
    STOP = auto()  # the agent's
    CLOSE = auto()  # either side's


SERVER: Mapping[ServerState, Mapping[ServerInput, ServerState]] = MappingProxyType(
    {
        ServerState.NEW: {
            ServerInput.HELLO: ServerState.GREETED,
            ServerInput.STOP: ServerState.CLOSING,
            ServerInput.CLOSE: ServerState.CLOSED,
        },
        ServerState.GREETED: {
            ServerInput.WELCOME: ServerState.OPEN,
            ServerInput.STOP: ServerState.CLOSING,
            ServerInput.CLOSE: ServerState.CLOSED,
        },
        ServerState.OPEN: {
            ServerInput.DATA: ServerState.OPEN,
            ServerInput.COMMITTED: ServerState.OPEN,
            ServerInput.FAILURE: ServerState.CLOSING,
            ServerInput.STOP: ServerState.CLOSING,
            ServerInput.CLOSE: ServerState.CLOSED,
        },
        ServerState.CLOSING: {
            ServerInput.DATA: ServerState.CLOSING,
            ServerInput.COMMITTED: ServerState.CLOSING,
            ServerInput.FAILURE: ServerState.CLOSING,
            ServerInput.STOP: ServerState.CLOSING,
            ServerInput.CLOSE: ServerState.CLOSED,
        },
        ServerState.CLOSED: {
            ServerInput.COMMITTED: ServerState.CLOSED,
            ServerInput.CLOSE: ServerState.CLOSED,
        },
    }
)

CLIENT: Mapping[ClientState, Mapping[ClientInput, ClientState]] = MappingProxyType(
    {
        ClientState.NEW: {
            ClientInput.HELLO: ClientState.GREETING,
            ClientInput.CLOSE: ClientState.CLOSED,
        },
        ClientState.GREETING: {
            ClientInput.WELCOME: ClientState.OPEN,
            ClientInput.STOP: ClientState.STOPPED,
            ClientInput.CLOSE: ClientState.CLOSED,
        },
        ClientState.OPEN: {
            ClientInput.DATA: ClientState.OPEN,
            ClientInput.ACK: ClientState.OPEN,
            ClientInput.NACK: ClientState.OPEN,
            ClientInput.STOP: ClientState.STOPPED,
            ClientInput.CLOSE: ClientState.CLOSED,
        },
        ClientState.STOPPED: {
            ClientInput.ACK: ClientState.STOPPED,
            ClientInput.NACK: ClientState.STOPPED,
            ClientInput.STOP: ClientState.STOPPED,
            ClientInput.CLOSE: ClientState.CLOSED,
        },
        ClientState.CLOSED: {
            ClientInput.CLOSE: ClientState.CLOSED,
        },
    }
)


State = TypeVar("State", bound=Enum)
Input = TypeVar("Input", bound=Enum)


def follow(table: Mapping[State, Mapping[Input, State]], state: State, happened: Input) -> State:
    """The state after ``happened``.

    Raises:
        ProtocolError: ``out_of_order``, close 1002; the caller changes nothing.
    """
    after = table[state].get(happened)
    if after is None:
        raise ProtocolError(
            "out_of_order",
            f"{happened.name.lower()} is out of order while the session is {state.name.lower()}",
            CLOSE_PROTOCOL,
        )
    return after


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a source's numbering goes on.

    Attributes:
        next: the number expected next; what the welcome tells.
        restart: numbering starts anew at ``next``; goes into the first entry's ``Numbering``.
        gap: numbers that the source no longer has and the store never got; counted and shown.
        forked: what the store has of this source is not of the history that the source is in: the
            numbers before ``next`` stand for other records than the source's.
    """

    next: int
    restart: bool
    gap: int
    forked: bool = False


def resume_point(
    hello: Hello, epoch: str, stored_next: int, opening: str = "", copied_next: int = 0
) -> ResumePoint:
    """Decide where a source goes on. Rather twice than lost, and never silently.

    Args:
        hello: what the source said.
        epoch: the store's.
        stored_next: the store's ``next`` for this source, 0 where it was never seen.
        opening: which opening of the source's store sent what is before that; "" if unknown.
        copied_next: the store's ``next`` for the source that this one was copied from.
    """
    expected = max(stored_next, 1)
    if hello.first is None:
        # It remembers nothing, so nothing can be sent twice: it takes up our numbering.
        return ResumePoint(expected, restart=False, gap=0)
    if hello.epoch != epoch:
        # Its numbers and ours have nothing to do with one another.
        return ResumePoint(hello.first, restart=True, gap=0)
    history = hello.history
    if history is not None and history.copied and not stored_next:
        # A copy's first word. What was acknowledged to it is here, unless this store was set back.
        begin = max(hello.first, min(history.done, max(copied_next, 1)))
        return ResumePoint(begin, restart=True, gap=0)
    if hello.first > expected:
        return ResumePoint(hello.first, restart=True, gap=hello.first - expected)
    forked = history is not None and has_forked(history, expected, opening)
    return ResumePoint(expected, restart=False, gap=0, forked=forked)


def has_forked(history: History, stored_next: int, opening: str) -> bool:
    """Whether what was taken under ``opening``, up to ``stored_next``, is of another history.

    It is not where it ends just where what was acknowledged to the sender ends. Otherwise the
    opening must be the sender's own, or an earlier one that came as far: numbers that are neither
    went to records which this sender never had. That holds below what was acknowledged, too: a
    store that was set back may have been filled again by a copy of this sender.

    Example: a store whose opening *a* had sent numbers 1 to 130 is set back to a copy made at 100,
    then opened as *b* and given 60 records. It says ``opening b, done 101, before (a, 101)``;
    stored are *a* and 131. 101 to 130 are other records here than there.
    """
    if not opening or opening == history.opening or stored_next == history.done:
        return False
    return not any(known == opening and stored_next <= end for known, end in history.before)


class FailureMemory:
    """Which sources failed at which ``next``, across connections; held by the server.

    A message that cannot be read takes no number, so a source that keeps sending it would never
    get past. After the second failure at the same ``next`` one number is used up. Bounded: with
    ``capacity`` sources remembered, the one that failed longest ago is forgotten, which costs it
    one more attempt.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self._capacity = capacity
        self._failures: dict[str, tuple[int, int]] = {}

    def note(self, source: str, next_number: int) -> int:
        """A failure of ``source`` at ``next_number``: how many there were in a row, this one
        included.
        """
        before, times = self._failures.pop(source, (0, 0))
        times = times + 1 if before == next_number else 1
        self._failures[source] = (next_number, times)
        if len(self._failures) > self._capacity:
            del self._failures[next(iter(self._failures))]
        return times

    def forget(self, source: str) -> None:
        """``source`` got past it."""
        self._failures.pop(source, None)
