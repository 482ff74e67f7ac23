"""A port's door: whom it lets through, whom it turns away, and how much of both in one pass."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
import trio.testing

from edge_agent.net.accepting import BATCH, Sieve
from edge_agent.net.connection_quota import Arrivals
from tests.patience import PATIENCE_S

#: Another address of this machine's own.
ELSEWHERE = "127.0.0.2"


@contextmanager
def crowd(count: int, port: int, address: str = ELSEWHERE) -> Iterator[list[socket.socket]]:
    """``count`` connections from ``address``, which wait in the kernel's queue."""
    there: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), PATIENCE_S, (address, 0))
            there.append(one)
        yield there
    finally:
        for one in there:
            one.close()


class Door:
    """A sieve on a real socket, by a clock that stands still."""

    def __init__(self, listener: trio.SocketListener, per_second: int) -> None:
        self.port: int = listener.socket.getsockname()[1]
        self.refused: Counter[tuple[str, str]] = Counter()
        self.told = 0
        self.sieve = Sieve(listener, Arrivals(per_second, lambda: 0.0), self._tell, "x.y")

    def _tell(self, address: str, reason: str, sentence: str, times: int) -> None:
        assert "(x.y)" in sentence
        self.refused[address, reason] += times
        self.told += 1

    async def accept(self) -> str:
        """From where the next one is that is let through."""
        with trio.fail_after(PATIENCE_S):
            stream = await self.sieve.accept()
        async with stream:
            return str(stream.socket.getpeername()[0])


@asynccontextmanager
async def door(per_second: int) -> AsyncIterator[Door]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    found = Door(listener, per_second)
    async with found.sieve:
        yield found


async def test_who_comes_too_often_is_reset_and_who_comes_behind_it_is_let_in() -> None:
    async with door(1) as port:
        with crowd(300, port.port) as there, crowd(1, port.port, "127.0.0.1"):
            heard = [await port.accept() for _ in range(Arrivals.BURST_S + 1)]
            assert heard == [ELSEWHERE] * Arrivals.BURST_S + ["127.0.0.1"]
            assert port.refused == {(ELSEWHERE, "rush"): 300 - Arrivals.BURST_S}
            # Told for a batch, not for each.
            assert port.told <= 300 // BATCH + 1
            there[-1].settimeout(PATIENCE_S)
            with pytest.raises(ConnectionResetError):
                there[-1].recv(1)


async def test_one_pass_lets_one_through_or_turns_a_batch_away() -> None:
    class Passes(trio.abc.Instrument):
        most = last = 0

        def before_io_wait(self, timeout: float) -> None:
            now = sum(port.refused.values())
            self.most, self.last = max(self.most, now - self.last), now

    async with door(1) as port:
        with crowd(6 * BATCH, port.port), crowd(1, port.port, "127.0.0.1"):
            passes = Passes()
            trio.lowlevel.add_instrument(passes)
            for _ in range(Arrivals.BURST_S + 1):
                await port.accept()
            trio.lowlevel.remove_instrument(passes)
            assert 0 < passes.most <= BATCH


async def test_nobody_comes_and_then_somebody() -> None:
    async with door(1) as port:
        found: list[str] = []

        async def accept() -> None:
            found.append(await port.accept())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            with crowd(1, port.port):
                with trio.fail_after(PATIENCE_S):
                    while not found:
                        await trio.sleep(0.001)


async def test_once_it_is_closed_the_kernel_refuses() -> None:
    async with door(1) as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.port), PATIENCE_S)


class Failing:
    """A queue in which connections have died, or a machine without descriptors."""

    def __init__(self, queue: socket.socket, *errors: int) -> None:
        self._queue, self._errors = queue, list(errors)

    def accept(self) -> object:
        if self._errors:
            raise OSError(self._errors.pop(), "failed")
        return self._queue.accept()

    def fileno(self) -> int:
        return self._queue.fileno()

    def close(self) -> None:
        self._queue.close()


async def test_what_died_in_the_queue_is_passed_over_and_other_errors_are_the_ports() -> None:
    async with door(1) as port:
        port.sieve._queue = Failing(  # type: ignore[assignment]  # the kernel fails at no command
            port.sieve._queue, errno.EMFILE, errno.ECONNABORTED, errno.EHOSTUNREACH
        )
        with crowd(1, port.port):
            with pytest.raises(OSError, match="failed") as error:
                await port.sieve.accept()
            assert error.value.errno == errno.EMFILE
            assert await port.accept() == ELSEWHERE


async def test_where_there_is_no_room_all_wait_in_the_queue() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    asked = [False, False, True]
    refused: list[str] = []
    sieve = Sieve(
        listener, Arrivals(9, lambda: 0.0), lambda *told: refused.append(told[1]), "x.y",
        lambda: asked.pop(0) if asked else True,
    )  # fmt: skip
    async with sieve:
        with crowd(1, listener.socket.getsockname()[1]):
            async with await sieve.accept():
                assert not asked and not refused
