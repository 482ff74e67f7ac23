"""Sensors of a simulation: the real `Producer` with each of its buffers, and a plain sender.

Each keeps a book of what it handed over (`Book.sent`), and of what it was told is durable
(`Book.acked`): numbers that never come twice. When a sensor crashes, what becomes of the rest is
its buffer's business:

memory    what was not acked is forgotten, and may or may not have arrived.
disk      everything that `send` returned for is still there.
numbered  it begins anew with line 1 of its file; what the agent has counts as acked.
plain     no numbers on the wire: what was not acked is sent again, and may be there twice.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed

from edge_agent.client import Producer, Trouble
from edge_agent.client.dial import Address, Unreachable, close_websocket, open_websocket
from edge_agent.net.backoff import Backoff
from edge_agent.net.dial import Dial
from tests.model.determinism import run_inline
from tests.model.outages.plan import Sensor
from tests.patience import PATIENCE_S

_BACKOFF = Backoff(0.5, 10.0, 10.0)
_TROUBLES = ("nack", "renumbered", "buffer")


@dataclass(slots=True)
class Book:
    """What one sensor knows. ``order``: which number of ours each number of the buffer's is."""

    sent: set[int] = field(default_factory=set)
    acked: set[int] = field(default_factory=set)
    #: Handed over and forgotten in a crash, without an ack.
    forgotten: set[int] = field(default_factory=set)
    order: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Sender:
    """One sensor.

    Args:
        sensor: its part of the plan.
        url: where it sends to.
        dial: how.
        path: of its buffer.
        chance: when, and how much.
        pause: seconds to the next burst at present; None when there is to be no other.
        padding: bytes that each record has beyond what it needs.
    """

    def __init__(
        self,
        sensor: Sensor,
        url: str,
        dial: Dial,
        path: Path,
        chance: random.Random,
        *,
        pause: Callable[[], float | None],
        padding: int,
    ) -> None:
        self.sensor, self.book = sensor, Book()
        self.done = False
        self._url, self._dial, self._path, self._chance = url, dial, path, chance
        self._pause, self._padding = pause, "x" * padding
        self._life = trio.CancelScope()
        self._down_s = 0.0
        self._next = 1
        self._pending: list[int] = []

    def crash(self, down_s: float) -> None:
        """The process is gone, and comes back."""
        self._down_s = down_s
        self._life.cancel()

    async def run(self) -> None:
        """Until there is nothing more to send and all of it is acked."""
        live = self._plain if self.sensor.kind == "plain" else self._session
        while not self.done:
            with trio.CancelScope() as self._life:
                await live()
                self.done = True
            if not self.done:
                self._forget()
                await trio.sleep(self._down_s)

    def fields(self, number: int) -> dict[str, Any]:
        """The record with a number of ours."""
        return {"s": self.sensor.name, "n": number, "x": self._padding}

    def _burst(self) -> list[int]:
        count = self._chance.choice((1, 1, 2, 3, 8))
        numbers = list(range(self._next, self._next + count))
        self._next += count
        self.book.sent.update(numbers)
        return numbers

    def _forget(self) -> None:
        if self.sensor.kind == "memory":
            self.book.forgotten |= {*self.book.order, *self._pending} - self.book.acked
            self._pending = []

    # With a session.

    async def _session(self) -> None:
        book, kind = self.book, self.sensor.kind
        on_disk = kind == "disk"
        async with Producer(
            self._url,
            source=self.sensor.name,
            format="json" if self.sensor.form == "json" else "msgpack",
            buffer_path=self._path if on_disk else None,
            numbered=kind == "numbered",
            on_ack=self._on_ack,
            on_error=self._on_error,
            backoff=_BACKOFF,
            random=self._chance,
            dial=self._dial,
            run_blocking=run_inline,
        ) as producer:
            if on_disk:
                # A send that was cut short by the crash is in the file or it is not.
                kept = producer.acked + producer.unacked - len(book.order)
                if kept not in (0, len(self._pending)):
                    book.problems.append(f"{kept} of {self._pending} were kept in the file")
                book.forgotten.update(self._pending[kept:])
                book.order += self._pending[:kept]
                self._pending = []
            elif kind == "numbered" and self._next > 1:
                book.order = list(range(1, self._next))
                await producer.send([self.fields(number) for number in book.order])
            else:
                book.order = []
            while (pause := self._pause()) is not None:
                await trio.sleep(pause)
                self._pending = self._burst()
                if not on_disk:
                    # A buffer in memory may send, and be acked, before `send` has returned.
                    book.order += self._pending
                await producer.send([self.fields(number) for number in self._pending])
                if on_disk:
                    book.order += self._pending
                self._pending = []
            await producer.flush()

    def _on_ack(self, number: int) -> None:
        if number > len(self.book.order):
            # Acked while `send` is about to return.
            self.book.order += self._pending
            self._pending = []
        self.book.acked.update(self.book.order[:number])

    def _on_error(self, trouble: Trouble) -> None:
        if trouble.kind in _TROUBLES:
            self.book.problems.append(f"{trouble.kind}: {trouble.message}")

    # Without.

    async def _plain(self) -> None:
        address = Address.parse(f"{self._url}?ack=1")
        while self._pause() is not None or self._pending:
            try:
                async with trio.open_nursery() as nursery:
                    socket = await open_websocket(nursery, address, [], dial=self._dial)
                    try:
                        await self._send_plain(socket)
                    finally:
                        await close_websocket(socket)
                    nursery.cancel_scope.cancel()
            except* (Unreachable, ConnectionClosed, trio.TooSlowError):
                await trio.sleep(self._chance.uniform(0.5, 10.0))

    async def _send_plain(self, socket: Any) -> None:
        count = 0
        while True:
            if not self._pending:
                pause = self._pause()
                if pause is None:
                    return
                await trio.sleep(pause)
                self._pending = self._burst()
            with trio.fail_after(PATIENCE_S):
                for number in self._pending:
                    await socket.send_message(json.dumps(self.fields(number)))
                    count += 1
                said: dict[str, Any] = {}
                while said.get("ack") != count:
                    said = json.loads(await socket.get_message())
                    if "ack" not in said:
                        # It says why and closes.
                        raise trio.TooSlowError(str(said))
            self.book.acked.update(self._pending)
            self._pending = []
