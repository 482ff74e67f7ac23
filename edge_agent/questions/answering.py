"""The process that answers questions about history; `main` is all of it.

Started by the agent at the first question, or when somebody opens the page, and ended when nobody
asks for a while (`edge_agent.questions.asking`), so that no question takes the interpreter from the
event loop, and a page that is damaged under a reader ends this process and not the agent.

It reads frames from standard input and writes frames to standard output: four bytes of length, then
msgpack. A request is an `Ask`, with a question or with what records a log is to be given back
(`Recall`); answers are ``[number, kind, value]``: ``"piece"`` with bytes, then ``"end"`` with a
`Told`; or ``"again"`` where the tail no longer fits the file, or ``"error"`` with code and message.
One question is worked on at a time. It ends with its standard input.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import lmdb
import msgspec

from edge_agent.errors import ProtocolError, StoreDamaged
from edge_agent.history import LENGTH_BYTES, Ask, Recall, Told
from edge_agent.history.answers import Answer, HistoryReader, Recaller, View
from edge_agent.seal import KeyRing

#: So much lower than the agent's: acks go first.
_NICE = 5
#: What this process may have in memory. A question that needs more is refused, and the machine's
#: memory stays with the agent.
MEMORY_BYTES_MAX = 256 * 1024 * 1024
#: An answer of a thousand records leaves in one go: each write wakes the agent.
_TOGETHER_BYTES = 256 * 1024
#: Others may ask between two steps of a long look for records that are sent once more.
STEP_S = 1.0
#: What is told at a time: each piece costs the agent a tenth of a ms.
_PIECE_BYTES = 120 * 1024

_DECODER = msgspec.msgpack.Decoder(Ask)
_ENCODER = msgspec.msgpack.Encoder()


def serve(folder: Path, asks: BinaryIO, answers: BinaryIO) -> None:
    """Answer until ``asks`` ends."""
    reader, recaller, frames = HistoryReader(folder), Recaller(), _Frames(answers)
    try:
        while head := asks.read(LENGTH_BYTES):
            ask = _DECODER.decode(asks.read(int.from_bytes(head, "big")))
            try:
                _answer(reader, recaller, ask, frames)
            except ProtocolError as error:
                frames.tell(ask.number, "error", [error.code, error.message])
            except MemoryError:
                text = "the answer takes too much memory; ask for less time or fewer streams"
                frames.tell(ask.number, "error", ["too_long", text])
            except (StoreDamaged, lmdb.Error, OSError) as error:
                frames.tell(ask.number, "error", ["store_failing", f"history: {error}"])
            frames.flush()
    finally:
        reader.close()


def _answer(reader: HistoryReader, recaller: Recaller, ask: Ask, frames: _Frames) -> None:
    began = time.monotonic()

    def pause() -> None:
        if time.monotonic() - began > ask.seconds:
            raise ProtocolError(
                "too_long",
                f"the answer takes more than {ask.seconds:g} s (limits.query_seconds); ask for less"
                " time, fewer streams or a larger step",
            )

    view = reader.view(ask.tail, ask.flushes, pause, _keys(ask.secrets))
    if view is None:
        frames.tell(ask.number, "again", None)
        return
    try:
        if ask.question is None:
            assert ask.recall is not None
            told = _recalled(recaller, view, ask.recall, frames, ask.number, began)
            frames.tell(ask.number, "end", told)
            return
        answer = Answer(view, ask.question, ask.streams)
        if ask.lag:
            answer.outcome.notes["lag"] = ask.lag
        for piece in _larger(answer.pieces(ask.form), ask.form, pause):
            frames.tell_piece(ask.number, piece)
        seconds = time.monotonic() - began
        told = Told(answer.outcome.rows, seconds, answer.told())
        frames.tell(ask.number, "end", told)
    finally:
        view.txn.abort()


def _recalled(
    recaller: Recaller, view: View, wanted: Recall, frames: _Frames, number: int, began: float
) -> Told:
    """The first of the records of a log that are wanted, or how many there are; or that it is not
    known yet where they are, after `STEP_S` of looking: then it is to be asked again.
    """
    rows, rest = 0, dict[str, Any]()
    if not recaller.looked(view, wanted, lambda: time.monotonic() - began > STEP_S):
        rest["unfinished"] = True
    elif wanted.limit_bytes:
        blocks, rest["upto"] = recaller.found(view, wanted)
        rows = len(blocks)
        frames.tell_piece(number, (_ENCODER.encode(blocks),))
    else:
        rest = recaller.survey(view, wanted)
    return Told(rows, time.monotonic() - began, rest)


def _larger(pieces: Iterator[bytes], form: str, pause: Callable[[], None]) -> Iterator[list[bytes]]:
    """The pieces, several at a time where they are nothing but a part of the text."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        pause()
        if held and (form == "parts" or size + len(piece) > _PIECE_BYTES):
            yield held
            held, size = [], 0
        held.append(piece)
        size += len(piece)
    if held:
        yield held


@lru_cache(maxsize=1)
def _keys(secrets: tuple[bytes, ...]) -> KeyRing:
    return KeyRing(secrets)


class _Frames:
    """What is told, in frames that leave together."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers, self._held = answers, bytearray()

    def tell(self, number: int, kind: str, value: object) -> None:
        """One frame more."""
        self._add((_ENCODER.encode((number, kind, value)),))

    def tell_piece(self, number: int, parts: Sequence[bytes]) -> None:
        """A piece, given in parts, which are joined where it leaves from and nowhere else."""
        size = sum(map(len, parts))
        # No bytes are two of them in msgpack; these are so many.
        head = _ENCODER.encode((number, "piece", b""))[:-2] + b"\xc6" + size.to_bytes(4, "big")
        self._add((head, *parts))

    def _add(self, parts: Sequence[bytes]) -> None:
        held, begin = self._held, len(self._held)
        try:
            held += sum(map(len, parts)).to_bytes(LENGTH_BYTES, "big")
            for part in parts:
                held += part
        except BaseException:
            # Where there is no memory for it, those before it are whole.
            del held[begin:]
            raise
        if len(held) > _TOGETHER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write them."""
        with memoryview(self._held) as rest:
            sent = 0
            while sent < len(rest):
                sent += self._answers.write(rest[sent:])
        self._held.clear()


def main(folder: str) -> None:
    """The process."""
    # Ctrl-C is meant for the agent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.nice(_NICE)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    except (OSError, ValueError):
        pass  # Where it is not allowed, it is as it is.
    try:
        with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as answers:
            serve(Path(folder), sys.stdin.buffer, answers)
    except BrokenPipeError:
        pass  # The agent is gone.
