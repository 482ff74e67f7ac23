"""A store that takes notes instead of writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from edge_agent.commit import Committer, GroupLimits
from edge_agent.metrics import Metrics
from edge_agent.store import CommitResult, Entry, Position, Stored
from edge_agent.values.record import Run
from tests.manual_clock import ManualClock
from tests.waist import inline


def result(answers: Sequence[Stored] = (), **counts: dict[str, int]) -> CommitResult:
    named = {
        name: counts.get(name, {})
        for name in (
            "last_seq", "records", "record_bytes", "block_bytes", "trimmed", "discarded",
            "quarantined",
        )
    }  # fmt: skip
    return CommitResult(tuple(answers), **named)  # type: ignore[arg-type]  # no scalar is named


class RecordingStore:
    """Notes each group with the time of Trio's clock; fails while ``failures`` has any."""

    def __init__(self) -> None:
        self.groups: list[tuple[float, list[Entry]]] = []
        self.failures: list[Exception] = []
        self.calls: list[tuple[float, str]] = []
        self.seq = 0
        self.before_commit: Callable[[], None] = lambda: None

    refusal: str | None = None
    #: How often it says that it is crowded, first of all by a commit.
    crowded = 0

    def _says(self, said: CommitResult) -> CommitResult:
        self.crowded -= 1
        return replace(said, crowded=self.crowded >= 0)

    def commit(self, entries: Sequence[Entry]) -> CommitResult:
        self.calls.append((trio.current_time(), "commit"))
        self._fail()
        self.before_commit()
        self.groups.append((trio.current_time(), list(entries)))
        answers = []
        for entry in entries:
            self.seq += entry.count
            answers.append(Stored({"main": self.seq}, 0, 0))
        return self._says(result(answers, last_seq={"main": self.seq}, records={"main": self.seq}))

    def trim(self) -> CommitResult:
        self.calls.append((trio.current_time(), "trim"))
        self._fail()
        return self._says(result(trimmed={"main": 2}, discarded={"main": 1}))

    def reopen(self) -> None:
        self.calls.append((trio.current_time(), "reopen"))
        self._fail()

    def names(self) -> list[str]:
        """What was called, in order."""
        return [name for _, name in self.calls]

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


def committer_on(
    store: RecordingStore,
    *,
    group_bytes: int = 10**6,
    records: int = 1000,
    in_flight_bytes: int = 10**6,
    **rest: object,
) -> Committer:
    return Committer(
        store,
        run_blocking=rest.pop("run_blocking", inline),  # type: ignore[arg-type]  # a test's own
        clock=ManualClock(),
        intervals={"main": 1.0, "alarms": 0.1},
        route=lambda stream: "alarms" if stream.startswith("alarm") else "main",
        limits=GroupLimits(group_bytes, records, in_flight_bytes),
        metrics=rest.pop("metrics", None) or Metrics(),  # type: ignore[arg-type]  # as above
        **rest,  # type: ignore[arg-type]  # as above
    )


def entry(stream: str = "a", *, size: int = 10, count: int = 1) -> Entry:
    return Entry(runs=(Run(stream, "s", 0, 0, True, count, bytes(size), 0, 0),))


def bare_acknowledge(floor: int = 1) -> Entry:
    return Entry(positions=(Position("upstream/hub", "main", floor),))
