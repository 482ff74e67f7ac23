"""The async producer: hand records over, they arrive.

`send` puts records into a bounded buffer and returns; one background task keeps a connection
(`link.py`), sends what the buffer holds, and forgets what is acked. Everything that can go wrong
with the network happens there, is reported through callbacks, and is tried again.
"""

from __future__ import annotations

import logging
import random as random_module
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from edge_agent.client.buffer import Buffer, MemoryBuffer
from edge_agent.client.dial import Address
from edge_agent.client.disk_buffer import DiskBuffer, RunInThread
from edge_agent.client.encoding import Fields, Format, Time, encode_record
from edge_agent.client.link import LinkSettings, SessionLoop
from edge_agent.client.reports import Callbacks, Opened, Trouble, Unacked, ignore
from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.net.backoff import Backoff
from edge_agent.net.dial import Dial, dial_tcp
from edge_agent.values.stream_names import source_problem, stream_problem

logger = logging.getLogger(__name__)


class Producer:
    """One source's way to an agent. Use it as ``async with Producer(...) as producer``.

    One source, one producer: a second one under the same name takes the connection over.

    Args:
        url: ``ws[s]://HOST:PORT/ingest/STREAM``.
        source: who sends; letters, digits and ``. _ - /``, e.g. ``pi-7/bme280``.
        token: what ``edge-agent token add`` printed, or None. Blanks around it do not count: a file
            that holds it ends with a line feed.
        ca_file: certificates to trust for ``wss``; None trusts the system's.
        format: how records travel.
        buffer_records, buffer_bytes: how much is kept until it is acked; then `send` waits.
        buffer_path: keep it in this file, so that it outlives the process.
        numbered: record n given here *is* number n of the source (line n of a file). What the
            agent has already counts as acked. Without it the producer continues where the
            agent's numbering of the source stands, and its own numbers begin at 1.
        close_timeout: seconds that leaving the scope waits for the last acks.
        connect_timeout: seconds from name look-up to the upgrade.
        ping_interval: seconds between pings; a peer that does not answer one within the same
            time is gone. An agent whose card stalls for seconds still answers pings.
        on_open, on_ack, on_error, on_close: called in the Trio thread, not awaited; should be
            quick. ``on_ack(number)``: every record up to this number is durable, except those
            that a nack named. ``on_close(reason)``: a connection that was open ended. What a
            callback raises ends the producer and comes out of the scope.
        backoff: pace of reconnecting.
        random, dial, run_blocking: for simulations.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str,
        token: str | None = None,
        ca_file: str | Path | None = None,
        format: Format = "msgpack",  # noqa: A002 - the word that a caller expects
        buffer_records: int = 100_000,
        buffer_bytes: int = 16 * 1024 * 1024,
        buffer_path: str | Path | None = None,
        numbered: bool = False,
        close_timeout: float = 5.0,
        connect_timeout: float = 10.0,
        ping_interval: float = 30.0,
        on_open: Callable[[Opened], None] | None = None,
        on_ack: Callable[[int], None] | None = None,
        on_error: Callable[[Trouble], None] | None = None,
        on_close: Callable[[str], None] | None = None,
        backoff: Backoff | None = None,
        random: random_module.Random | None = None,
        dial: Dial = dial_tcp,
        run_blocking: RunInThread = trio.to_thread.run_sync,
    ) -> None:
        if numbered and buffer_path is not None:
            raise ConfigError("numbered", "a buffer in memory", f"buffer_path={buffer_path!r}")
        self._path = None if buffer_path is None else Path(buffer_path)
        self._most_records, self._most_bytes = buffer_records, buffer_bytes
        self._blocking, self._close_timeout = run_blocking, close_timeout
        self._callbacks = Callbacks(
            on_open or ignore, on_ack or ignore, on_error or ignore, on_close or ignore
        )
        self._settings = LinkSettings(
            address=_checked_address(url, ca_file, source),
            source=source,
            form=format,
            token=_checked_token(token),
            numbered=numbered,
            connect_timeout=connect_timeout,
            ping_interval=ping_interval,
            backoff=backoff or Backoff(),
            random=random or random_module.Random(),
            dial=dial,
        )
        self._use(MemoryBuffer())
        self._failure: Exception | None = None
        # One append at a time keeps a list together and gives numbers in the order of sends.
        self._sending = trio.Lock()
        self._scope: AbstractAsyncContextManager[None] | None = None

    @property
    def acked(self) -> int:
        """Every record up to this number is durable at the agent (or was nacked)."""
        return self._buffer.first - 1

    @property
    def unacked(self) -> int:
        """How many records are kept because they are not acked yet."""
        return self._buffer.next - self._buffer.first

    async def send(
        self,
        record: Fields | Sequence[Fields],
        *,
        stream: str | None = None,
        time: Time | None = None,
    ) -> int:
        """Hand over a record, or a list of them in order; waits only while the buffer is full.

        With a buffer on disk this returns after the records are synced there.

        Args:
            record: a map of fields, or one number, text or bool; or a list of these.
            stream: instead of the URL's.
            time: when it was measured, if no ``time`` key says so: an aware datetime, RFC 3339
                text, seconds since 1970, or, ≤ 0, seconds relative to arrival.

        Returns:
            The number of the (last) record. It is durable once ``acked`` reaches it. If this is
            cancelled while it waits, a part of a list may have been handed over.

        Raises:
            ProtocolError: a record cannot be sent (``bad_record``, ``bad_time``, ``bad_stream``,
                ``too_big``); none of the list was handed over.
            StoreFailed: the disk with the buffer refused.
        """
        records = self._encode(record, stream, time)
        async with self._sending:
            while records:
                fitting = self._fitting(records)
                if fitting:
                    await self._buffer.append(records[:fitting])
                    records = records[fitting:]
                    self._link.fresh.notify()
                else:
                    # No deadline here: how long a full buffer may wait is the caller's to say.
                    await self._link.acked.wait()
            return self._buffer.next - 1

    def send_nowait(
        self,
        record: Fields | Sequence[Fields],
        *,
        stream: str | None = None,
        time: Time | None = None,
    ) -> int:
        """Like `send`, all or nothing, at once.

        Raises:
            trio.WouldBlock: the buffer is full, or another task's send waits.
            TypeError: the buffer is on disk, where nothing happens at once.
            ProtocolError: as `send`.
        """
        if not isinstance(self._buffer, MemoryBuffer):
            raise TypeError("send_nowait needs a buffer in memory")
        records = self._encode(record, stream, time)
        if self._sending.locked() or self._fitting(records) < len(records):
            raise trio.WouldBlock
        number = self._buffer.append_now(records)
        self._link.fresh.notify()
        return number

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything handed over before is acked (or nacked).

        Raises:
            trio.TooSlowError: not within ``timeout`` seconds. Nothing is lost by that.
        """
        wanted = self._buffer.next
        with trio.fail_after(float("inf") if timeout is None else timeout):
            while self._buffer.first < wanted:
                await self._link.acked.wait()

    async def __aenter__(self) -> Self:
        assert self._scope is None, "a producer is used once"
        if self._path is not None:
            settings = self._settings
            buffer = await DiskBuffer.open(
                self._path, source=settings.source, form=settings.form, run_blocking=self._blocking
            )
            self._use(buffer)
            if buffer.damaged is not None:
                told = f"the buffer was damaged and is set aside as {buffer.damaged}"
                self._callbacks.on_error(Trouble("buffer", told))
        self._scope = self._running()
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._scope is not None
        try:
            return await self._scope.__aexit__(kind, error, traceback)
        finally:
            await self._buffer.aclose()

    def _use(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._link = SessionLoop(self._settings, buffer, self._callbacks)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        body_failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_link, nursery.cancel_scope)
            try:
                yield
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - raised again below
                # Raised outside the nursery, which would put it into a group.
                body_failure = error
            try:
                await self._finish()
            except Unacked as error:
                logger.warning("%s: %s", self._settings.source, error)
                body_failure = body_failure or error
            nursery.cancel_scope.cancel()
        failure = self._failure or body_failure
        if failure is not None:
            raise failure

    async def _keep_link(self, everything: trio.CancelScope) -> None:
        try:
            await self._link.run()
        except Exception as error:  # noqa: BLE001 - raised again by _running
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            self._failure = error
            everything.cancel()

    async def _finish(self) -> None:
        """Wait for the last acks, bounded; what is not acked then must not vanish silently."""
        try:
            await self.flush(self._close_timeout)
        except trio.TooSlowError:
            if not self._buffer.durable:
                cause = self._link.trouble or "no ack came in that time"
                raise Unacked(self.unacked, self._close_timeout, cause) from None
        await self._link.leave()

    def _encode(
        self, record: Fields | Sequence[Fields], stream: str | None, time: Time | None
    ) -> list[bytes]:
        form, most = self._settings.form, self._link.position.limits.record_bytes
        # A text is one record too, not a sequence of letters.
        several = isinstance(record, Sequence) and not isinstance(record, str)
        given: Sequence[Fields] = record if several else [record]  # type: ignore[list-item, assignment] # several
        encoded = [encode_record(each, form, stream=stream, time=time) for each in given]
        for index, each in enumerate(encoded):
            if len(each) > most:
                which = f"record {index + 1} of {len(encoded)}" if several else "the record"
                raise ProtocolError("too_big", f"{which} has {len(each)} bytes; {most} may be sent")
        return encoded

    def _fitting(self, records: Sequence[bytes]) -> int:
        """How many of ``records`` the buffer has room for now; an empty one takes any one."""
        room = self._most_bytes - self._buffer.size
        most = min(len(records), self._most_records - self.unacked)
        total = 0
        for count in range(most):
            total += len(records[count])
            if total > room and (count or self.unacked):
                return count
        return max(most, 0)


def _checked_address(url: str, ca_file: str | Path | None, source: str) -> Address:
    address = Address.parse(url, ca_file=ca_file)
    stream = address.stream()
    for key, name, problem in (
        ("url", stream, stream_problem(stream)),
        ("source", source, source_problem(source)),
    ):
        if problem is not None:
            raise ConfigError(key, "a name like greenhouse/bme280", f"{name!r} ({problem})")
    return address


def _checked_token(token: str | None) -> str | None:
    if token is None:
        return None
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # It is never shown, not even a wrong one.
        raise ConfigError("token", "one word, as `edge-agent token add` printed it", "another text")
    return token
