"""The process that answers questions about history: ``python -m edge_agent.answering FOLDER``.

Started by the agent at the first question and ended when nobody asks for a while
(`edge_agent.asking`), so that no question takes the interpreter from the event loop, and a page
that is damaged under a reader ends this process and not the agent.

It reads frames from standard input and writes frames to standard output: four bytes of length, then
msgpack. A request is an `Ask`; answers are ``[number, kind, value]``: ``"piece"`` with bytes,
then ``"end"``; or ``"again"`` where the tail no longer fits the file, or ``"error"`` with code and
message. One question is worked on at a time. It ends with its standard input.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

import lmdb
import msgspec

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.history import LENGTH_BYTES, Ask
from edge_agent.history.answers import Answer, HistoryReader

#: So much lower than the agent's: acks go first.
_NICE = 5


_DECODER = msgspec.msgpack.Decoder(Ask)
_ENCODER = msgspec.msgpack.Encoder()


def serve(folder: Path, asks: BinaryIO, answers: BinaryIO) -> None:
    """Answer until ``asks`` ends."""
    reader = HistoryReader(folder)
    while head := asks.read(LENGTH_BYTES):
        ask = _DECODER.decode(asks.read(int.from_bytes(head, "big")))
        try:
            _answer(reader, ask, answers)
        except ProtocolError as error:
            _tell(answers, ask.number, "error", [error.code, error.message])
        except (StoreDamaged, lmdb.Error, OSError) as error:
            _tell(answers, ask.number, "error", ["store_failing", f"history: {error}"])
        answers.flush()


def _answer(reader: HistoryReader, ask: Ask, answers: BinaryIO) -> None:
    began = time.monotonic()

    def pause() -> None:
        if time.monotonic() - began > ask.seconds:
            raise ProtocolError(
                "too_long",
                f"the answer takes more than {ask.seconds:g} s (limits.query_seconds); ask for less"
                " time, fewer streams or a larger step",
            )

    view = reader.view(ask.tail, ask.flushes, pause)
    if view is None:
        _tell(answers, ask.number, "again", None)
        return
    try:
        answer = Answer(view, ask.question, ask.streams, ask.unix)
        for piece in answer.pieces(ask.form):
            _tell(answers, ask.number, "piece", piece)
        outcome = answer.outcome
        outcome.seconds = time.monotonic() - began
        _tell(answers, ask.number, "end", [outcome.rows, outcome.next, outcome.seconds])
    finally:
        view.txn.abort()


def _tell(answers: BinaryIO, number: int, kind: str, value: object) -> None:
    frame = _ENCODER.encode([number, kind, value])
    answers.write(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)


def main() -> None:
    """The process."""
    os.nice(_NICE)
    serve(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
