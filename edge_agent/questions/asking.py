"""Starts, asks and ends the process that answers questions about history.

The process is started by the first question, or ahead of it (`Asker.prepare`), and ends when nobody
has asked for `IDLE_S`. It answers one question at a time, each bounded in seconds, rows and bytes.
One that is cancelled, takes too long or does not speak as expected ends the process; the next
question starts another.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from edge_agent.digest import Digester, HistoryWriter, segments_of
from edge_agent.errors import ProtocolError, StoreFailed
from edge_agent.history import FOLDER, LENGTH_BYTES, Ask, HistorySegment, Question, Recall, Told
from edge_agent.metrics import Metrics
from edge_agent.net.access import Readable
from edge_agent.values.moments import bad_query
from edge_agent.values.stream_names import compile_pattern, compile_patterns

logger = logging.getLogger(__name__)

#: So long the process is kept without a question.
IDLE_S = 60.0
#: A question waits so long for those before it.
PATIENCE_S = 15.0
#: What an answer is expected to keep below; the process bounds it more narrowly.
_PIECES_BYTES_MAX = 64 * 1024 * 1024
STREAMS_MAX = 10_000
#: Beyond the seconds that a question may take: for the process to start and to say that it is over.
_GRACE_S = 10.0
#: A process that was killed is gone within this, unless the disk holds it.
_GONE_S = 5.0
#: Flushes that may come between while a question is put.
_ATTEMPTS = 5
_AGAIN_S = 0.02
_READ_BYTES = 256 * 1024
#: An answer of a thousand records fits into the pipe, so that neither side waits for the other in
#: the middle of it.
_PIPE_BYTES = 512 * 1024
#: Names that are looked at between two pauses.
_NAMES = 1000
#: A step of recalling takes a second, and longer only where one hour has millions of records.
_RECALL_S = 60.0
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw])
#: The process imports what the agent has imported, wherever that lies and whatever the agent was
#: started with; and nothing from the folder that it is started in.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[2]);"
    " from edge_agent.questions.answering import main; main(sys.argv[1])"
)
_ROOT = str(Path(__file__).resolve().parents[2])

Tail = dict[str, list[tuple[int, HistorySegment]]]


@dataclass(frozen=True, slots=True)
class HistoryAnswer:
    """An answer as it is sent: its pieces, how many rows, seconds, and what stands behind them."""

    pieces: list[memoryview]
    rows: int
    seconds: float
    rest: dict[str, Any]


class Asker:
    """Asks questions about one history, each after the one before."""

    def __init__(self, digester: Digester, *, seconds: float, metrics: Metrics) -> None:
        #: Whose history it is.
        self.digester = digester
        self._seconds, self._metrics = seconds, metrics
        self._turn = trio.Lock()
        self._worker: _Worker | None = None
        self._ended: list[_Worker] = []
        #: That a process has been started or ended.
        self._news = trio.Event()
        self._asked_at = 0.0
        self._number = 0

    async def run(self) -> None:
        """End the process when it is idle; and at the end, whatever it does."""
        try:
            while True:
                self._news = trio.Event()
                await self._bury()
                idle_at = self._asked_at + IDLE_S if self._worker is not None else math.inf
                with trio.move_on_at(idle_at) as patience:
                    await self._news.wait()
                if patience.cancelled_caught:
                    async with self._turn:
                        if trio.current_time() >= self._asked_at + IDLE_S:
                            self._end()
        finally:
            self._end()
            with trio.move_on_after(_GONE_S, shield=True):
                await self._bury()

    async def ask(self, question: Question, form: str, may_read: Readable) -> HistoryAnswer:
        """The answer, in a form of `edge_agent.history.answers`, about streams that may be read.

        Raises:
            ProtocolError: ``bad_query``, ``too_long``, ``busy``; the text says what to do.
            StoreFailed: history cannot be read.
        """
        if not await had_in_time(self._turn, PATIENCE_S):
            raise ProtocolError("busy", "other questions are being answered; try again later")
        try:
            with trio.move_on_after(self._seconds + _GRACE_S) as patience:
                answer = await self._ask(question, form, may_read)
        finally:
            self._asked_at = trio.current_time()
            self._turn.release()
        if patience.cancelled_caught:
            raise ProtocolError(
                "too_long",
                f"there was no answer in {self._seconds + _GRACE_S:g} s; ask for less time, fewer"
                " streams or a larger step",
            )
        self._metrics.add("queries_total")
        self._metrics.add("query_seconds_total", answer.seconds)
        return answer

    async def prepare(self) -> None:
        """Have the process started, for somebody who is about to ask."""
        if self._turn.locked():
            return  # Somebody asks already.
        async with self._turn:
            self._asked_at = trio.current_time()
            await self._running()

    async def recall(self, wanted: Recall) -> HistoryAnswer:
        """One step of finding records of a log: blocks of them, or how many there are. Where
        ``unfinished`` stands in ``rest``, ask again; others may have asked in between.

        Raises:
            ProtocolError: ``busy``, ``too_long``.
            StoreFailed: history cannot be read.
        """
        async with self._turn:
            try:
                with trio.move_on_after(_RECALL_S + _GRACE_S):
                    return await self._put(partial(self._recalling, wanted))
            finally:
                self._asked_at = trio.current_time()
        raise StoreFailed("history: the process that answers is stuck; it is started anew")

    async def _ask(self, question: Question, form: str, may_read: Readable) -> HistoryAnswer:
        lag = await self.digester.catch_up()
        from_ns, to_ns = question.span_ns

        async def names(history: HistoryWriter) -> list[str]:
            known = (history.file.numbers, history.tail.streams)
            return await _names(question.pattern, known, may_read)

        async def put() -> Ask:
            seen = await self._seen(names, from_ns - question.back_ns, to_ns)
            secrets = self.digester.seals.secrets
            return Ask(self._number, question, form, *seen, self._seconds, lag, secrets)

        return await self._put(put)

    async def _put(self, see: Callable[[], Awaitable[Ask]]) -> HistoryAnswer:
        """The answer to what is asked with history as it is now."""
        for _ in range(_ATTEMPTS):
            self._number += 1
            answer = await self._answered(await see())
            if answer is not None:
                return answer
            await trio.sleep(_AGAIN_S)
        raise ProtocolError("busy", "history is being written; try again")

    async def _recalling(self, wanted: Recall) -> Ask:
        matches = compile_patterns(wanted.patterns)

        async def names(history: HistoryWriter) -> list[str]:
            if wanted.upto <= history.file.header.positions.get(wanted.log, 0):
                return []  # The file has all of it.
            return [name for name in history.tail.streams if matches(name)]

        _, tail, flushes = await self._seen(names, wanted.from_ns, wanted.to_ns)
        secrets = self.digester.seals.secrets
        return Ask(self._number, None, "", [], tail, flushes, _RECALL_S, 0, secrets, wanted)

    async def _seen(
        self, names_in: Callable[[HistoryWriter], Awaitable[list[str]]], from_ns: int, to_ns: int
    ) -> tuple[list[tuple[str, int]], Tail, int]:
        """Streams that are asked about, what of them is in memory, and as of which flush."""
        while True:
            history = self.digester.history
            if history is None:
                raise StoreFailed(self.digester.trouble or "history is not open")
            flushes, seen = history.flushes, history.tail
            names = await names_in(history)
            tail = await _tail_of(history, names, from_ns, to_ns)
            same = self.digester.history is history and history.tail is seen
            if same and history.flushes == flushes:
                numbers = history.file.numbers
                return [(name, numbers.get(name, 0)) for name in names], tail, flushes

    async def _answered(self, ask: Ask) -> HistoryAnswer | None:
        """The process's answer; the process is ended where something goes wrong with it."""
        worker = await self._running()
        try:
            return await worker.ask(ask)
        except (ProtocolError, StoreFailed):
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError, ValueError, EOFError) as error:
            self._end()
            raise StoreFailed(
                f"history: the process that answers has ended ({error}); ask again"
            ) from error
        except BaseException:
            self._end()
            raise

    async def _running(self) -> _Worker:
        if self._worker is not None and self._worker.has_ended:
            self._end()
        if self._worker is None:
            self._worker = await _Worker.start(self.digester)
            self._news.set()
        return self._worker

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._ended.append(self._worker)
            self._worker = None
            self._news.set()

    async def _bury(self) -> None:
        """Wait for processes that were killed, and give back what they held of the file."""
        while self._ended:
            await self._ended[0].gone()
            del self._ended[0]
            if self.digester.history is not None:
                self.digester.history.file.forget_readers()


async def had_in_time(place: trio.Lock | trio.Semaphore, within_s: float) -> bool:
    """Whether it was acquired; without a turn of the scheduler where it was free."""
    try:
        place.acquire_nowait()
    except trio.WouldBlock:
        with trio.move_on_after(within_s) as patience:
            await place.acquire()
        return not patience.cancelled_caught
    return True


async def _tail_of(history: HistoryWriter, names: Sequence[str], from_ns: int, to_ns: int) -> Tail:
    """What is in memory of some streams."""
    tail: Tail = {}
    for name in names:
        kept = history.tail.streams.get(name)
        if kept is not None:
            found = segments_of(kept, from_ns, to_ns)
            if found:
                tail[name] = found
            await trio.lowlevel.checkpoint()
    return tail


async def _names(pattern: str, known: Sequence[Collection[str]], may_read: Readable) -> list[str]:
    """Names that match and may be read, in order."""
    if any(pattern in some for some in known):
        # A stream is called so, and no stream has an asterisk in its name.
        return [pattern] if may_read(pattern) else []
    try:
        matches = compile_pattern(pattern)
    except ProtocolError as error:
        raise bad_query(f"stream: {error.message}") from None
    if "*" not in pattern:
        return []
    names: list[str] = []
    for place, name in enumerate(set().union(*known)):
        if matches(name) and may_read(name):
            names.append(name)
        if place % _NAMES == _NAMES - 1:
            await trio.lowlevel.checkpoint()
    if len(names) > STREAMS_MAX:
        raise bad_query(
            f"stream: at most {STREAMS_MAX}, these are {len(names)}; name them more narrowly"
        )
    return sorted(names)


class _Worker:
    """One process, and what was read of its answers."""

    def __init__(self, process: trio.Process) -> None:
        assert isinstance(process.stdin, trio.lowlevel.FdStream)
        assert isinstance(process.stdout, trio.lowlevel.FdStream)
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._held = memoryview(b"")

    @classmethod
    async def start(cls, digester: Digester) -> _Worker:
        """A new process. Raises StoreFailed."""
        folder = str((digester.path / FOLDER).absolute())
        command = [sys.executable, "-P", "-c", _PROGRAM, folder, _ROOT]
        try:
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise StoreFailed(
                f"history: the process that answers cannot be started: {error}"
            ) from error
        worker = cls(process)
        with contextlib.suppress(OSError):  # Where the system has no room for it, it is as it is.
            fcntl.fcntl(worker._stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return worker

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    async def ask(self, ask: Ask) -> HistoryAnswer | None:
        """The answer; None where the file was written meanwhile. Raises ProtocolError."""
        frame = _ENCODER.encode(ask)
        await self._write(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)
        pieces: list[memoryview] = []
        size = 0
        while True:
            number, kind, value = _DECODER.decode(await self._frame())
            if number != ask.number:
                raise ValueError("an answer to another question")
            if kind == "piece":
                pieces.append(msgspec.msgpack.decode(value, type=memoryview))
                size += len(pieces[-1])
                if size > _PIECES_BYTES_MAX:
                    raise ValueError("an answer without end")
            elif kind == "end":
                told = msgspec.msgpack.decode(value, type=Told)
                return HistoryAnswer(pieces, told.rows, told.seconds, told.rest)
            elif kind == "again":
                return None
            else:
                code, message = msgspec.msgpack.decode(value, type=tuple[str, str])
                if code == "store_failing":
                    raise StoreFailed(message)
                raise ProtocolError(code, message)

    async def _frame(self) -> memoryview:
        held, end = self._held, LENGTH_BYTES
        while len(held) < end or len(held) < (
            end := LENGTH_BYTES + int.from_bytes(held[:LENGTH_BYTES], "big")
        ):
            piece = await self._read()
            if not piece:
                raise EOFError("its output ended")
            held = memoryview(b"".join((held, piece)) if held else piece)
        self._held = held[end:]
        return held[LENGTH_BYTES:end]

    # The streams' own methods go round the scheduler before they try, and each round costs.

    async def _write(self, data: bytes) -> None:
        try:
            sent = os.write(self._stdin.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise trio.BrokenResourceError from error
        if sent < len(data):
            await self._stdin.send_all(data[sent:])

    async def _read(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._stdout.fileno())
            try:
                return os.read(self._stdout.fileno(), _READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    async def gone(self) -> None:
        """Wait until it has ended, so that nothing of it is left."""
        await self._process.wait()
        await self._stdin.aclose()
        await self._stdout.aclose()
