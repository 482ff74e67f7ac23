"""Puts runs together: neighbours of one stream become one run, rejects part them."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.errors import ProtocolError
from edge_agent.values.record import Run
from edge_agent.wire.reading_types import RUN_BYTES_MAX, Arrival, Received, Reject, make_reject


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a gathering was."""

    runs: int = 0
    rejects: int = 0
    numbers: int = 0
    size: int = 0
    messages: int = 0


class RunBuilder:
    """Runs and rejects in the order in which they are added; each addition takes numbers.

    ``number`` is what the first one gets, 0 where the source does not number.
    """

    def __init__(self, number: int, arrival: Arrival) -> None:
        # Of the messages that have been read to their end.
        self._size = self._messages = 0
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

    def add_each(self, streams: list[str], bodies: list[bytes], times: list[int]) -> None:
        """Good records one by one, each with its stream and time: as `add` of each of them."""
        arrival, runs = self._arrival, self._runs
        source, wall_ns, synced = arrival.source, arrival.wall_ns, arrival.synced
        for stream, body, time_ns, after in zip(
            streams, bodies, times, (*streams[1:], None), strict=True
        ):
            if stream == after or (self._count and stream == self._stream):
                self.add(stream, 1, body, time_ns, time_ns)
                continue
            # Between two others: a run of one, without the way by the run that is put together.
            if self._count:
                self._finish_run()
            first = self._first + self._numbers if self._first else 0
            runs.append(Run(stream, source, first, wall_ns, synced, 1, body, time_ns, time_ns))
            self._numbers += 1

    def reject(self, code: str, message: str, raw: bytes) -> None:
        """One record that cannot be used."""
        self._finish_run()
        number = self._first + self._numbers if self._first else 0
        self._numbers += 1
        self._rejects.append(make_reject(number, code, message, raw, self._arrival.stream))

    def count(self, size: int, messages: int = 1) -> None:
        """So many messages of ``size`` bytes are at their end: all they hold was added."""
        self._size += size
        self._messages += messages

    @property
    def rejects(self) -> int:
        """How many are held."""
        return len(self._rejects)

    @property
    def messages(self) -> int:
        """How many messages are at their end."""
        return self._messages

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not (self._numbers or self._messages)

    def mark(self) -> Mark:
        """A place to take up to. Ends the run that is being put together."""
        self._finish_run()
        return Mark(len(self._runs), len(self._rejects), self._numbers, self._size, self._messages)

    def taken(
        self,
        failure: ProtocolError | None = None,
        unread: str | bytes = b"",
        *,
        upto: Mark | None = None,
        is_last: bool = False,
    ) -> Received:
        """What is held, or what of it was added before ``upto``; it is let go of."""
        mark = self.mark() if upto is None else upto
        runs, rejects = tuple(self._runs[: mark.runs]), tuple(self._rejects[: mark.rejects])
        del self._runs[: mark.runs], self._rejects[: mark.rejects]
        self._numbers -= mark.numbers
        self._size -= mark.size
        self._messages -= mark.messages
        if self._first:
            self._first += mark.numbers
        return Received(
            runs, rejects, mark.numbers, mark.size, mark.messages, failure, unread, is_last
        )

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
