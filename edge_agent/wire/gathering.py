"""Puts runs together: neighbours of one stream become one run, rejects part them."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.errors import ProtocolError
from edge_agent.record import Run
from edge_agent.wire.values import RUN_BYTES_MAX, Arrival, Received, Reject, make_reject


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a gathering was."""

    runs: int
    rejects: int
    numbers: int


class Gathering:
    """Runs and rejects in the order in which they are added; each addition takes numbers.

    ``number`` is what the first one gets, 0 where the source does not number.
    """

    def __init__(self, number: int, arrival: Arrival) -> None:
        self._first = number
        self._arrival = arrival
        self._numbers = 0
        self._runs: list[Run] = []
        self._rejects: list[Reject] = []
        # The run that is being put together; its bodies are joined once, at its end.
        self._bodies: list[bytes] = []
        self._stream = ""
        self._count = 0
        self._bytes = 0
        self._low = 0
        self._high = 0

    def add(self, stream: str, count: int, body: bytes, low: int, high: int) -> None:
        """``count`` good records of one stream, with times between ``low`` and ``high``."""
        size = len(body)
        if self._count and stream == self._stream and self._bytes + size <= RUN_BYTES_MAX:
            self._bytes += size
            self._count += count
            if low < self._low:
                self._low = low
            if high > self._high:
                self._high = high
        else:
            self._finish_run()
            self._stream, self._bytes, self._count = stream, size, count
            self._low, self._high = low, high
        self._bodies.append(body)
        self._numbers += count

    def reject(self, code: str, message: str, raw: bytes) -> None:
        """One record that cannot be used."""
        self._finish_run()
        number = self._first + self._numbers if self._first else 0
        self._numbers += 1
        self._rejects.append(make_reject(number, code, message, raw, self._arrival.stream))

    def mark(self) -> Mark:
        """A place to come back to. Ends the run that is being put together."""
        self._finish_run()
        return Mark(len(self._runs), len(self._rejects), self._numbers)

    def back_to(self, mark: Mark) -> None:
        """Forget what was added since."""
        self._bodies, self._count = [], 0
        del self._runs[mark.runs :]
        del self._rejects[mark.rejects :]
        self._numbers = mark.numbers

    def received(self, size: int, messages: int, failure: ProtocolError | None) -> Received:
        """Everything so far, from ``messages`` messages of ``size`` bytes."""
        self._finish_run()
        runs, rejects = tuple(self._runs), tuple(self._rejects)
        return Received(runs, rejects, self._numbers, size, messages, failure)

    def _finish_run(self) -> None:
        if not self._count:
            return
        arrival = self._arrival
        first = self._first + self._numbers - self._count if self._first else 0
        body = self._bodies[0] if len(self._bodies) == 1 else b"".join(self._bodies)
        self._runs.append(
            Run(
                self._stream,
                arrival.source,
                first,
                arrival.wall_ns,
                arrival.synced,
                self._count,
                body,
                self._low,
                self._high,
            )
        )
        self._bodies, self._count = [], 0
