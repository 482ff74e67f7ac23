"""How the agent asks the process that answers questions about history (`edge_agent.answering`).

The process is started by the first question and ends when nobody has asked for `IDLE_S`. It answers
one question at a time, each bounded in seconds, rows and bytes. One that is cancelled, takes too
long or does not speak as expected ends the process; the next question starts another.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import trio

from edge_agent.access import Readable
from edge_agent.digest import Digester, segments_of
from edge_agent.errors import ProtocolError, StoreFailed
from edge_agent.history import FOLDER, LENGTH_BYTES, Ask, Question, Segment
from edge_agent.metrics import Metrics
from edge_agent.moments import bad_query
from edge_agent.stream_names import compile_pattern

logger = logging.getLogger(__name__)

#: So long the process is kept without a question.
IDLE_S = 60.0
#: What one answer may have.
ANSWER_BYTES_MAX = 32 * 1024 * 1024
STREAMS_MAX = 10_000
#: Beyond the seconds that a question may take: for the process to start and to say that it is over.
_GRACE_S = 10.0
#: Flushes that may come between while a question is put.
_ATTEMPTS = 5
_READ_BYTES = 256 * 1024
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class HistoryAnswer:
    """An answer as it is sent: its pieces, how many rows, where to go on, seconds; and how many
    records were not digested yet when it was asked.
    """

    pieces: list[bytes]
    rows: int
    next: str | None
    seconds: float
    lag: int


class Asker:
    """Asks questions about one history, each after the one before."""

    def __init__(self, digester: Digester, *, seconds: float, metrics: Metrics) -> None:
        self._digester, self._seconds, self._metrics = digester, seconds, metrics
        self._turn = trio.Lock()
        self._worker: _Worker | None = None
        self._used = trio.Event()
        self._number = 0

    async def run(self) -> None:
        """End the process when it is idle; and at the end, whatever it does."""
        try:
            while True:
                self._used = trio.Event()
                with trio.move_on_after(IDLE_S) as patience:
                    await self._used.wait()
                if patience.cancelled_caught and self._worker is not None:
                    async with self._turn:
                        self._end()
        finally:
            self._end()

    async def ask(
        self, question: Question, form: str, may_read: Readable, *, unix: bool = False
    ) -> HistoryAnswer:
        """The answer, in the form json, ndjson or csv, about streams that may be read.

        Raises:
            ProtocolError: ``bad_query``, ``too_long``, ``busy``; the text says what to do.
            StoreFailed: history cannot be read.
        """
        with trio.move_on_after(self._seconds + _GRACE_S) as patience:
            async with self._turn:
                self._used.set()
                answer = await self._ask(question, form, may_read, unix)
        if patience.cancelled_caught:
            raise ProtocolError("busy", "other questions are being answered; try again later")
        self._metrics.add("queries_total")
        self._metrics.add("query_seconds_total", answer.seconds)
        return answer

    async def prepare(self) -> None:
        """Have the process started, for somebody who is about to ask."""
        if self._turn.locked():
            return  # Somebody asks already.
        async with self._turn:
            self._used.set()
            async with self._working():
                pass

    async def _ask(
        self, question: Question, form: str, may_read: Readable, unix: bool
    ) -> HistoryAnswer:
        matches = compile_pattern(question.pattern)
        lag = await self._digester.catch_up()
        for _ in range(_ATTEMPTS):
            streams, tail, flushes = await self._seen(
                question, lambda s: matches(s) and may_read(s)
            )
            self._number += 1
            ask = Ask(self._number, question, form, unix, streams, tail, flushes, self._seconds)
            async with self._working() as worker:
                answer = await worker.ask(ask, lag)
            if answer is not None:
                return answer
        raise ProtocolError("busy", "history is being written; try again")

    async def _seen(
        self, question: Question, matches: Readable
    ) -> tuple[list[tuple[str, int]], dict[str, list[tuple[int, Segment]]], int]:
        """Streams that are asked about, what of them is in memory, and as of which flush."""
        while True:
            history = self._digester.history
            if history is None:
                raise StoreFailed(self._digester.trouble or "history is not open")
            flushes = history.file.header.flushes
            names = sorted(s for s in {*history.file.numbers, *history.tail.streams} if matches(s))
            if len(names) > STREAMS_MAX:
                raise bad_query(f"stream: at most {STREAMS_MAX}, these are {len(names)}; name them"
                                " more narrowly")  # fmt: skip
            tail: dict[str, list[tuple[int, Segment]]] = {}
            for name in names:
                kept = history.tail.streams.get(name)
                if kept is not None:
                    found = segments_of(kept, question.from_ns, question.to_ns)
                    if found:
                        tail[name] = found
                    await trio.lowlevel.checkpoint()
            same = self._digester.history is history
            if same and history.file.header.flushes == flushes:
                return [(name, history.file.numbers.get(name, 0)) for name in names], tail, flushes

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[_Worker]:
        """The process; it is ended where something goes wrong with it."""
        if self._worker is None or self._worker.has_ended:
            self._worker = await _Worker.start(self._digester)
        try:
            yield self._worker
        except ProtocolError:
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError, ValueError, EOFError) as error:
            self._end()
            raise StoreFailed(f"history: the process that answers has ended ({error})") from error
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
            if self._digester.history is not None:
                # What it held of the file is given back.
                self._digester.history.file.forget_readers()


class _Worker:
    """One process, and what was read of its answers."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._buffer = bytearray()

    @classmethod
    async def start(cls, digester: Digester) -> _Worker:
        """A new process."""
        command = [sys.executable, "-m", "edge_agent.answering", str(digester.path / FOLDER)]
        return cls(
            await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    async def ask(self, ask: Ask, lag: int) -> HistoryAnswer | None:
        """The answer; None where the file was written meanwhile. Raises ProtocolError."""
        frame = _ENCODER.encode(ask)
        await self._stdin.send_all(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
        pieces: list[bytes] = []
        size = 0
        while True:
            number, kind, value = _DECODER.decode(await self._frame())
            if number != ask.number:
                raise ValueError("an answer to another question")
            if kind == "piece":
                pieces.append(msgspec.msgpack.decode(value, type=bytes))
                size += len(pieces[-1])
                if size > ANSWER_BYTES_MAX:
                    self.kill()
                    raise ProtocolError(
                        "too_long",
                        f"the answer has more than {ANSWER_BYTES_MAX // 2**20} MiB; set a limit,"
                        " ask for less time or a larger step",
                    )
            elif kind == "end":
                rows, where, seconds = msgspec.msgpack.decode(
                    value, type=tuple[int, str | None, float]
                )
                return HistoryAnswer(pieces, rows, where, seconds, lag)
            elif kind == "again":
                return None
            else:
                code, message = msgspec.msgpack.decode(value, type=tuple[str, str])
                if code == "store_failing":
                    raise StoreFailed(message)
                raise ProtocolError(code, message)

    async def _frame(self) -> bytes:
        length = int.from_bytes(await self._read(LENGTH_BYTES), "big")
        return await self._read(length)

    async def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            piece = await self._stdout.receive_some(_READ_BYTES)
            if not piece:
                raise EOFError("its output ended")
            self._buffer += piece
        read = bytes(self._buffer[:count])
        del self._buffer[:count]
        return read

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
