"""Messages between the agent and the process that answers (`edge_agent.questions`)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from edge_agent.history.format.segment import HistorySegment
from edge_agent.history.question import Question

#: Before each frame, in either direction.
LENGTH_BYTES = 4


class Recall(Struct, array_like=True, frozen=True):
    """Whole records of a log in the order of their seqs, for who has to send them once more: those
    of ``after`` < seq <= ``upto`` whose stream one of ``patterns`` matches and whose time is
    ``from_ns`` <= time < ``to_ns``; about ``limit_bytes`` of them, or none where only their number
    is asked for (0).
    """

    log: str
    after: int
    upto: int
    patterns: tuple[str, ...]
    from_ns: int
    to_ns: int
    limit_bytes: int = 0


class RecalledBlock(Struct, array_like=True, frozen=True):
    """A stretch of a log as history has it, in the form of the store's blocks: ``count`` seqs from
    ``first`` on, ``payload`` with ``codec`` and ``raw_len``. Seqs that are not asked for are places
    without a record (`edge_agent.values.record.ERASED`). ``corrected``: our clock gave the times,
    and was put right later; ``origin``: agent, epoch, log and seq of the first record of another
    agent's.
    """

    first: int
    count: int
    codec: int
    raw_len: int
    payload: bytes
    time_min_ns: int
    time_max_ns: int
    synced: bool
    corrected: bool
    origin: tuple[str, str, str, int] | None = None


class Ask(Struct, array_like=True, frozen=True):
    """A question, the streams that it is about (name, number), and what of them is not in the file
    as of the flush ``flushes``. ``lag``: records that are not digested yet. ``secrets`` of the keys
    that history is sealed with: they come this way, where nobody else sees them. ``recall`` stands
    in the place of a question.
    """

    number: int
    question: Question | None
    form: str
    streams: list[tuple[str, int]]
    tail: dict[str, list[tuple[int, HistorySegment]]]
    flushes: int
    seconds: float
    lag: int
    secrets: tuple[bytes, ...] = ()
    recall: Recall | None = None


class Told(Struct, array_like=True, frozen=True):
    """The end of an answer: how many rows, and what is to be said behind them."""

    rows: int
    seconds: float
    rest: dict[str, Any]
