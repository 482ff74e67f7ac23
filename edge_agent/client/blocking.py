"""The same producer for scripts that know nothing of Trio.

A thread runs Trio and the async `Producer`; it begins and ends with the ``with`` scope and never
outlives it. Each call hops into that thread and back (about 0.1 ms), so that lists pay off.
"""

from __future__ import annotations

import os
import random as random_module
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack

import trio

from edge_agent.client.encoding import Fields, Format, Time
from edge_agent.client.producer import Producer
from edge_agent.client.reports import Opened, Trouble
from edge_agent.net.backoff import Backoff

T = TypeVar("T")


class Options(TypedDict, total=False):
    """What `Producer` takes beside url and source."""

    token: str | None
    ca_file: str | Path | None
    format: Format
    buffer_records: int
    buffer_bytes: int
    buffer_path: str | Path | None
    numbered: bool
    close_timeout: float
    connect_timeout: float
    ping_interval: float
    on_open: Callable[[Opened], None] | None
    on_ack: Callable[[int], None] | None
    on_error: Callable[[Trouble], None] | None
    on_close: Callable[[str], None] | None
    backoff: Backoff | None
    random: random_module.Random | None


class BlockingProducer:
    """`Producer` without ``await``; same arguments, same meaning.

    Callbacks are called in the producer's own thread, and cannot send. Several threads may send.
    Used in another way, as before its scope or after it, it raises RuntimeError.

    Ctrl-C is a normal way to end a sensor's loop: the scope then still waits ``close_timeout``
    for the last acks. A second Ctrl-C ends that at once. A call that Ctrl-C interrupts may have
    handed its records over.
    """

    def __init__(self, url: str, *, source: str, **options: Unpack[Options]) -> None:
        self._producer = Producer(url, source=source, **options)
        self._thread = threading.Thread(target=self._run, name=f"producer {source}")
        self._process = 0
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._leave = trio.Event()
        self._everything = trio.CancelScope()

    @property
    def acked(self) -> int:
        """Every record up to this number is durable at the agent (or was nacked)."""
        return self._producer.acked

    @property
    def unacked(self) -> int:
        """How many records are kept because they are not acked yet."""
        return self._producer.unacked

    def send(
        self,
        record: Fields | Sequence[Fields],
        *,
        stream: str | None = None,
        time: Time | None = None,
        timeout: float | None = None,
    ) -> int:
        """See `Producer.send`.

        Raises:
            TimeoutError: the buffer stayed full for ``timeout`` seconds; a part of a list may
                have been handed over.
        """

        async def send() -> int:
            with trio.fail_after(_seconds(timeout)):
                return await self._producer.send(record, stream=stream, time=time)

        return self._call(send, "the buffer is full")

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything handed over before is acked (or nacked).

        Raises:
            TimeoutError: not within ``timeout`` seconds. Nothing is lost by that.
        """
        self._call(lambda: self._producer.flush(timeout), "not everything is acked")

    def __enter__(self) -> Self:
        if self._thread.ident is not None:
            raise RuntimeError("a BlockingProducer is used once; make another one")
        self._process = os.getpid()
        self._thread.start()
        try:
            self._started.wait()
        except KeyboardInterrupt:
            self._join()
            raise
        if self._token is None:
            self._join()
            assert self._failure is not None
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._in_trio(self._leave.set)
        self._join()
        # The body's own error is the one to raise; Unacked beside it has been logged.
        if self._failure is not None and error is None:
            raise self._failure

    def _call(self, work: Callable[[], Awaitable[T]], late: str) -> T:
        if self._token is None:
            raise RuntimeError("use it in its scope: with BlockingProducer(...) as producer")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a callback cannot wait for its own producer; let a thread do it")
        if self._process != os.getpid():
            # The thread is not here: nobody would ever answer.
            raise RuntimeError("a process that was forked off makes a producer of its own")
        try:
            return trio.from_thread.run(work, trio_token=self._token)
        except trio.TooSlowError:
            raise TimeoutError(late) from None
        except (trio.RunFinishedError, trio.Cancelled):
            # A callback's error has ended the producer; it is the one to tell.
            self._join()
            if self._failure is not None:
                raise self._failure from None
            raise RuntimeError("this producer has ended: it is used in its with scope") from None

    def _join(self) -> None:
        interrupt: KeyboardInterrupt | None = None
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt as error:
                interrupt = error
                self._in_trio(self._everything.cancel)
        if interrupt is not None:
            raise interrupt

    def _in_trio(self, act: Callable[[], None]) -> None:
        if self._token is not None:
            try:
                self._token.run_sync_soon(act)
            except trio.RunFinishedError:
                return  # It has ended by itself, and `_failure` says why.

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - raised again in the owner's thread
            self._failure = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        with self._everything:
            async with self._producer:
                self._token = trio.lowlevel.current_trio_token()
                self._started.set()
                await self._leave.wait()


def _seconds(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout
