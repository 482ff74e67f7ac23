"""One connection to PostgreSQL: psycopg's generators, driven by Trio's readiness.

psycopg separates what libpq has to do from the waiting for its socket: generators that say what
they wait for. Here Trio waits, so that no thread is blocked, every wait has a deadline, and all can
be cancelled. Whatever goes wrong is a `PostgresError`, or an OSError where there is no server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, TypeVar

import psycopg
import trio
from psycopg import generators, pq
from psycopg.conninfo import make_conninfo
from psycopg.waiting import Ready, Wait

from edge_agent.forward.link.handshake import handshake
from edge_agent.forward.link.progress_stream import queued_bytes
from edge_agent.forward.sinks.postgres.sqlstates import PostgresError

T = TypeVar("T")
W = TypeVar("W")

_PIECE_BYTES: Final = 64 * 1024
_GOOD: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_IN)
_FIELD: Final = pq.DiagnosticField


class PostgresConnection:
    """See the module; `connect` makes one. A failed one is not used again."""

    def __init__(self, pgconn: pq.abc.PGconn, timeout: float) -> None:
        self._pgconn, self._timeout = pgconn, timeout
        self._closed = False

    @property
    def is_good(self) -> bool:
        """Whether it may be used, as far as is known."""
        return not self._closed and self._pgconn.status == pq.ConnStatus.OK

    async def run(self, statements: str) -> list[pq.abc.PGresult]:
        """What each of the statements gives.

        Raises:
            PostgresError: one failed, or the connection is gone.
            trio.TooSlowError: nothing came for ``timeout`` seconds.
        """
        self._pgconn.send_query(statements.encode())
        results: list[pq.abc.PGresult] = await self._drive(generators.execute(self._pgconn))
        for result in results:
            _raise_for(result)
        return results

    async def statuses(self, statements: str) -> list[str]:
        """What the server calls what each did: ``INSERT 0 10``, ``COMMIT``. Raises as `run`."""
        return [_text(one.command_status) or "" for one in await self.run(statements)]

    async def rows(self, statements: str) -> list[tuple[str | None, ...]]:
        """The rows of a question, the last of the statements, as text. Raises as `run`."""
        results = await self.run(statements)
        if not results or results[-1].nfields < 1:
            raise PostgresError("a question has no answer: what is there speaks no PostgreSQL", "")
        result = results[-1]
        return [
            tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    async def copy(self, statements: str, body: bytes) -> None:
        """Run ``statements``, the last of which copies from here, and send ``body``. Raises as
        `run`.
        """
        await self.run(statements)
        view = memoryview(body)
        for start in range(0, len(view), _PIECE_BYTES):
            piece = view[start : start + _PIECE_BYTES]
            await self._drive(generators.copy_to(self._pgconn, piece))
        try:
            await self._drive(generators.copy_end(self._pgconn, None))
        except psycopg.Error as error:
            raise _said(error) from error

    async def aclose(self) -> None:
        """Close it at once; what was not committed is rolled back."""
        if not self._closed:
            self._closed = True
            if self._pgconn.status == pq.ConnStatus.OK:
                trio.lowlevel.notify_closing(self._pgconn.socket)
            self._pgconn.finish()
        await trio.lowlevel.checkpoint()

    async def _drive(self, generator: Generator[Wait, Ready, T]) -> T:
        fd, timeout = self._pgconn.socket, self._timeout
        return await _driven(generator, lambda wait: ready_while_moving(fd, wait, timeout))


async def connect(parameters: dict[str, Any], host: str, timeout: float) -> PostgresConnection:
    """A connection; ``parameters`` are libpq's.

    Raises:
        PostgresError: refused.
        SinkUnavailable: what answers says nothing.
        OSError: no such host.
        trio.TooSlowError: not within ``timeout`` seconds.
    """
    with trio.fail_after(timeout):
        # libpq would block while it asks for the address.
        found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        hosts = {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}
        generator = generators.connect(make_conninfo(**parameters, **hosts))

        heard = False

        async def ready(it: tuple[int, Wait]) -> Ready:
            nonlocal heard
            # The socket is another one for each address. Behind the first word it may ask others
            # who we are, which takes its time.
            if heard or it[1] != Wait.R:
                return await _ready(*it)
            with handshake(timeout):
                found = await _ready(*it)
            heard = True
            return found

        return PostgresConnection(await _driven(generator, ready), timeout)


async def _driven(generator: Generator[W, Ready, T], ready: Callable[[W], Awaitable[Ready]]) -> T:
    try:
        wait = next(generator)
        while True:
            wait = generator.send(await ready(wait))
    except StopIteration as ended:
        value: T = ended.value
        return value
    except psycopg.Error as error:
        raise _said(error) from error
    finally:
        generator.close()


async def ready_while_moving(fd: int, wait: Wait, timeout: float) -> Ready:
    """Wait as the generator says, for as long as something moves: the kernel takes megabytes in
    advance, which a weak cell needs minutes for.

    Raises:
        trio.TooSlowError: the other side has confirmed nothing for ``timeout`` seconds.
    """
    queued = queued_bytes(fd) or 0
    while True:
        with trio.move_on_after(timeout):
            return await _ready(fd, wait)
        before, queued = queued, queued_bytes(fd) or 0
        if queued >= before:
            raise trio.TooSlowError


async def _ready(fd: int, wait: Wait) -> Ready:
    """Wait until the socket is what the generator waits for."""
    if wait == Wait.R:
        await trio.lowlevel.wait_readable(fd)
        return Ready.R
    if wait == Wait.W:
        await trio.lowlevel.wait_writable(fd)
        return Ready.W
    found = Ready.NONE
    async with trio.open_nursery() as nursery:

        async def either(waiting: Any, ready: Ready) -> None:
            nonlocal found
            await waiting(fd)
            found = Ready(found | ready)
            nursery.cancel_scope.cancel()

        nursery.start_soon(either, trio.lowlevel.wait_readable, Ready.R)
        nursery.start_soon(either, trio.lowlevel.wait_writable, Ready.W)
    return found


def _raise_for(result: pq.abc.PGresult) -> None:
    if result.status not in _GOOD:
        message = _text(result.error_field(_FIELD.MESSAGE_PRIMARY)) or "an unknown error"
        detail = _text(result.error_field(_FIELD.MESSAGE_DETAIL))
        words = f"{message}; {detail}" if detail else message
        raise PostgresError(words, _text(result.error_field(_FIELD.SQLSTATE)) or "")


def _said(error: psycopg.Error) -> PostgresError:
    # libpq's own words are several lines, where several addresses were tried.
    message = error.diag.message_primary or " ".join(str(error).split())
    return PostgresError(message, error.sqlstate or "")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
