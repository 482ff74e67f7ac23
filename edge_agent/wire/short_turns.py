"""Turns of few records, for whoever does something dear with each of them, as rules do.

What is usual is read list by list, and one turn may bring ten thousand records. Where each costs
several microseconds more, that would hold everybody up: so what was read is given out in pieces,
with a rest between them, as `read_in_turns` does with what is dear to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgpack
from msgspec import structs

from edge_agent.values.record import Run
from edge_agent.wire.reading_types import Received, Reject

TurnOf = Callable[[tuple[Run, ...]], int]
"""How many of these records make a turn; 0 for any number."""


def in_short_turns(turns: Iterator[Received], turn_of: TurnOf) -> Iterator[Received]:
    """The same, in turns that are as short as ``turn_of`` says."""
    for received in turns:
        most = turn_of(received.runs)
        if 0 < most < received.numbers:
            yield from _pieces(received, most)
        else:
            yield received


def run_slices(run: Run, most: int, first: int = 0) -> Iterator[Run]:
    """A run in runs of ``most`` records, of which the first has ``first`` (0: as all others)."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(run.body)))
    unpacker.feed(run.body)
    begin = done = 0
    while done < run.count:
        count = min(first if first and not done else most, run.count - done)
        for _ in range(count):
            unpacker.skip()
        end = unpacker.tell()
        number = run.source_seq + done if run.source_seq else 0
        body = run.body[begin:end]
        yield structs.replace(run, source_seq=number, count=count, body=body)
        begin, done = end, done + count


class _ShortTurn:
    """What the next turn brings."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.rejects: list[Reject] = []
        self.numbers = 0


def _pieces(received: Received, most: int) -> Iterator[Received]:
    # A piece takes numbers without a hole: a reject goes before the run that follows it. Where
    # nobody numbers, it does not matter, and rejects come last.
    waiting = list(received.rejects[::-1])
    piece, numbers, size = _ShortTurn(), 0, 0
    for run in received.runs:
        while waiting and 0 < waiting[-1].number < run.source_seq:
            piece.rejects.append(waiting.pop())
            piece.numbers += 1
        for part in run_slices(run, most, max(most - piece.numbers, 0)):
            if piece.numbers >= most:
                share = received.size * piece.numbers // received.numbers
                yield Received(
                    tuple(piece.runs), tuple(piece.rejects), piece.numbers, share, 0, is_last=False
                )
                numbers, size, piece = numbers + piece.numbers, size + share, _ShortTurn()
            piece.runs.append(part)
            piece.numbers += part.count
    yield structs.replace(
        received,
        runs=tuple(piece.runs),
        rejects=(*piece.rejects, *waiting[::-1]),
        numbers=received.numbers - numbers,
        size=received.size - size,
    )
