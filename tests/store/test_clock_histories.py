"""Any history of a board's clock: whatever was stored by a wrong one is told right, as soon as the
truth is known, and never otherwise."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.store import Engine, Entry
from edge_agent.store.tools.check import check_store
from edge_agent.values.record import Record, Run
from tests.manual_clock import ManualClock
from tests.store.support import START_NS, pack, records, seeded, small

SECOND = 10**9
STEP_S = 2 * 3600
#: Errors of a wall clock that nobody has set, in seconds. Steps between two of them are beyond the
#: hour within which a step by hand, seen by nobody, cannot be told from a wait for the commit.
errors = st.one_of(
    st.sampled_from([-START_NS // SECOND // STEP_S, 56 * 365 * 12, -2, 2, 0]),
    st.integers(-START_NS // SECOND // STEP_S, 10**5),
).map(lambda steps: steps * STEP_S)
events = st.one_of(
    st.tuples(st.just("passes"), st.integers(1, 900)),
    # A record that waits so long for its commit, and by how much the clock is stepped meanwhile.
    st.tuples(st.just("put"), st.integers(0, 5)),
    st.tuples(st.just("put_set"), st.integers(0, 5)),
    st.tuples(st.just("by_hand"), errors),
    st.tuples(st.just("set"), st.just(0)),
    st.tuples(st.just("lost"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("reboot"), errors),
)


@dataclass
class Told:
    """What is true of a record: which boot, when it arrived and when it was committed."""

    boot: bytes
    arrived_ns: int
    committed_ns: int
    by_set_clock: bool


@dataclass
class Board:
    """A board, its store, and the truth, which only the test knows."""

    folder: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(0, synced=False))
    true_ns: int = START_NS
    told: list[Told] = field(default_factory=list)
    known: set[bytes] = field(default_factory=set)
    was_set: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.entropy = seeded(1)
        self.engine = self.opened()

    def opened(self) -> Engine:
        return Engine.open(self.folder, small(), clock=self.clock, entropy=self.entropy)

    def passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.true_ns += seconds * SECOND

    def put(self, waits_s: int, *, is_set_meanwhile: bool = False) -> None:
        now = self.clock.read()
        run = Run("a/1", "pi", 0, now.wall_ns, now.synced, 1, pack({}), now.wall_ns, now.wall_ns)
        arrived_ns = self.true_ns
        self.passes(waits_s)
        if is_set_meanwhile:
            self.set()
        self.engine.commit([Entry(runs=(run,))])
        told = Told(now.boot_id, arrived_ns, self.true_ns, now.synced)
        self.told.append(told)
        if self.clock.read().synced:
            self.known.add(now.boot_id)

    def by_hand(self, error_s: int) -> None:
        if self.clock.read().boot_id not in self.was_set:
            self.clock.step_wall(self.true_ns + error_s * SECOND, synced=False)

    def set(self) -> None:
        self.clock.step_wall(self.true_ns, synced=True)
        self.was_set.add(self.clock.read().boot_id)

    def lost(self) -> None:
        now = self.clock.read()
        self.clock.step_wall(now.wall_ns, synced=False)

    def restart(self) -> None:
        self.engine.close()
        self.engine = self.opened()

    def reboot(self, error_s: int) -> None:
        self.engine.close()
        self.true_ns += 77 * SECOND
        self.clock.reboot(wall_ns=self.true_ns + error_s * SECOND)
        self.engine = self.opened()


@settings(max_examples=100)
@given(st.lists(events, min_size=3, max_size=40))
def test_whatever_a_clock_did_is_put_right_when_the_truth_is_known(
    history: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        board = Board(Path(folder) / "agent")
        for event, amount in history:
            if event == "put_set":
                board.put(amount, is_set_meanwhile=True)
            elif event in ("set", "lost", "restart"):
                getattr(board, event)()
            else:
                getattr(board, event)(amount)
        found = records(board.engine)
        assert len(found) == len(board.told)
        for record, told in zip(found, board.told, strict=True):
            _judge(record, told, is_known=told.boot in board.known)
        _look_for(board, found)
        board.engine.close()
        assert not check_store(board.folder).problems


def _judge(record: Record, told: Told, *, is_known: bool) -> None:
    if told.by_set_clock:
        assert (record.time_quality, record.time_ns) == ("synced", told.arrived_ns)
    elif not is_known:
        assert record.time_quality == "unsynced"
    else:
        assert record.time_quality == "corrected"
        # A second of slack: by less, arrival and commit may lie on two sides of a step.
        assert told.arrived_ns - SECOND <= record.time_ns <= told.committed_ns + SECOND
    if is_known:
        assert record.stored_ns == told.committed_ns


def _look_for(board: Board, found: list[Record]) -> None:
    """From the place that is said to be near, no record of a known time is missed."""
    right = [record for record in found if record.time_quality != "unsynced"]
    times = [record.stored_ns for record in right]
    assert times == sorted(times)
    for record in right[:: max(1, len(right) // 5)]:
        assert board.engine.read_near("main", record.time_ns) <= record.seq
