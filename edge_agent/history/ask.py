"""What the agent and the process that answers send each other; `edge_agent.answering` says how."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from edge_agent.history.format.segment import HistorySegment
from edge_agent.history.question import Question

#: Before each frame, in either direction.
LENGTH_BYTES = 4


class Ask(Struct, array_like=True, frozen=True):
    """A question, the streams that it is about (name, number), and what of them is not in the file
    as of the flush ``flushes``. ``lag``: records that are not digested yet. ``secrets`` of the keys
    that history is sealed with: they come this way, where nobody else sees them.
    """

    number: int
    question: Question
    form: str
    streams: list[tuple[str, int]]
    tail: dict[str, list[tuple[int, HistorySegment]]]
    flushes: int
    seconds: float
    lag: int
    secrets: tuple[bytes, ...] = ()


class Told(Struct, array_like=True, frozen=True):
    """The end of an answer: how many rows, and what is to be said behind them."""

    rows: int
    seconds: float
    rest: dict[str, Any]
