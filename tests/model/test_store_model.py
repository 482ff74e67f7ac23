"""The store against the simplest thing that could be one: lists and dictionaries.

Hypothesis makes up what happens (entries of several sources and logs, repeats, restarts,
positions, trims, reopening, kills) and compares after each step; at the end the independent
checker reads the file. Every other opening seals what is stored from then on.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.errors import StoreFull
from edge_agent.seal import KeyRing
from edge_agent.store import (
    ConsumerSettings,
    Engine,
    Entry,
    LogSettings,
    Numbering,
    Position,
    Stored,
)
from edge_agent.store.tools.check import check_store
from tests.manual_clock import ManualClock
from tests.store.support import foreign, records, run, seeded, small, values

LOGS = ("main", "alarms", "week")
SETTINGS = small(
    size=1024 * 1024,
    block_bytes=4096,
    logs=(
        LogSettings("alarms", ("alarms/**",), share=0.1, keep_s=3600.0),
        LogSettings("main", share=0.2),
        LogSettings("week", ("week/**",), share=0.05, when_full="thin-oldest"),
    ),
    consumers=tuple(ConsumerSettings("up", log) for log in LOGS),
)
sources = st.sampled_from(["pi", "gate", "feedfacecafe/hub/main/live"])
counts = st.integers(1, 12)
pads = st.sampled_from([0, 0, 300, 1500])


class StoreMachine(RuleBasedStateMachine):
    """``logs``: every value ever stored, by log; ``next``: by source."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.clock = ManualClock()
        self.entropy = seeded(1)
        self.logs: dict[str, list[int]] = {log: [] for log in LOGS}
        self.next: dict[str, int] = {}
        self.floors = dict.fromkeys(LOGS, 0)
        self.value = 0
        self.sent: dict[str, Entry] = {}
        self.openings = 0
        self.engine = self.open()

    def open(self) -> Engine:
        self.openings += 1
        keys = KeyRing((bytes(32),), self.entropy, seals=self.openings % 2 == 0)
        settings = replace(SETTINGS, keys=keys)
        return Engine.open(self.folder, settings, clock=self.clock, entropy=self.entropy)

    def fresh(self, count: int) -> int:
        self.value += count
        return self.value - count

    def commit(self, *entries: Entry) -> list[Stored | StoreFull]:
        self.clock.advance(1)
        return list(self.engine.commit(entries).answers)

    @rule(source=sources, main=counts, alarms=st.integers(0, 3), pad=pads)
    def numbered(self, source: str, main: int, alarms: int, pad: int) -> None:
        first = self.next.get(source, 1)
        value = self.fresh(main + alarms)
        runs = [run(main, source=source, first=first, value=value, pad=pad)]
        if alarms:
            runs.append(
                run(
                    alarms,
                    stream="alarms/x",
                    source=source,
                    first=first + main,
                    value=value + main,
                )
            )
        entry = Entry(tuple(runs), (), Numbering(source, first, first + main + alarms))
        (answer,) = self.commit(entry)
        assert isinstance(answer, Stored)
        self.logs["main"] += range(value, value + main)
        self.logs["alarms"] += range(value + main, value + main + alarms)
        self.next[source] = answer.next
        self.sent[source] = entry
        assert answer.next == first + main + alarms
        assert answer.last["main"] == len(self.logs["main"])

    @rule(source=sources, more=st.integers(0, 5))
    def repeated(self, source: str, more: int) -> None:
        """The last entry again, alone and at the head of a longer one."""
        entry = self.sent.get(source)
        if entry is None or entry.numbering is None:
            return
        numbering = entry.numbering
        value = self.fresh(more)
        new = run(more, source=source, first=numbering.next, value=value) if more else None
        longer = Entry(
            entry.runs + ((new,) if new else ()),
            (),
            Numbering(source, numbering.first, numbering.next + more),
        )
        again, rest = self.commit(entry, longer)
        assert isinstance(again, Stored)
        assert isinstance(rest, Stored)
        assert again.duplicates == rest.duplicates == entry.count
        self.logs["main"] += range(value, value + more)
        self.next[source] = numbering.next + more
        if more:
            self.sent[source] = longer

    @rule(source=sources, skipped=st.integers(1, 5))
    def out_of_order(self, source: str, skipped: int) -> None:
        first = self.next.get(source, 1) + skipped
        (answer,) = self.commit(
            Entry((run(1, source=source, first=first),), (), Numbering(source, first, first + 1))
        )
        assert isinstance(answer, StoreFull)

    @rule(source=sources, first=st.integers(1, 50))
    def restarted(self, source: str, first: int) -> None:
        (answer,) = self.commit(Entry(numbering=Numbering(source, first, first, restart=True)))
        assert isinstance(answer, Stored)
        self.next[source] = first
        self.sent.pop(source, None)

    @rule(plain=counts, block=counts, log=st.sampled_from(LOGS))
    def plain_and_foreign(self, plain: int, block: int, log: str) -> None:
        value = self.fresh(plain + block)
        entries = (
            Entry(runs=(run(plain, value=value),)),
            Entry(blocks=(foreign(block, 900, log=log, value=value + plain),)),
        )
        assert all(isinstance(answer, Stored) for answer in self.commit(*entries))
        self.logs["main"] += range(value, value + plain)
        self.logs[log] += range(value + plain, value + plain + block)

    @rule(groups=st.integers(20, 60), pad=pads, seconds=st.sampled_from([1.0, 30.0]))
    def much_for_the_week(self, groups: int, pad: int, seconds: float) -> None:
        """So much that the log, which is the smallest, is thinned and goes round."""
        for _ in range(groups):
            value = self.fresh(20)
            self.clock.advance(seconds)
            made = run(
                20, stream="week/x", value=value, pad=pad // 10, time_ns=self.clock.read().wall_ns
            )
            (answer,) = self.commit(Entry(runs=(made,)))
            assert isinstance(answer, Stored)
            self.logs["week"] += range(value, value + 20)

    @rule(ahead=st.integers(0, 100))
    def handed(self, ahead: int) -> None:
        floor = self.floors["week"]
        self.engine.note_handed("up", "week", floor + ahead)

    @rule(log=st.sampled_from(LOGS), part=st.floats(0, 1.2), rewind=st.booleans())
    def acknowledged(self, log: str, part: float, rewind: bool) -> None:
        last = len(self.logs[log])
        floor = int(last * part)
        state = b"%d" % floor
        self.commit(Entry(positions=(Position("up", log, floor, state, rewind),)))
        floor = min(floor, last)
        self.floors[log] = floor if rewind else max(self.floors[log], floor)
        assert self.engine.position("up", log) == (self.floors[log], state)

    @rule(hours=st.sampled_from([0.1, 2.0]))
    def trimmed(self, hours: float) -> None:
        self.clock.advance(hours * 3600)
        before = {log: self.engine.first_seq(log) for log in LOGS}
        result = self.engine.trim()
        for log in LOGS:
            gone = self.engine.first_seq(log) - before[log]
            removed = result.trimmed.get(log, 0) + result.discarded.get(log, 0)
            assert gone == removed
            if not result.discarded:
                assert self.engine.first_seq(log) <= max(self.floors[log] + 1, before[log])

    @rule(kind=st.sampled_from(["reopen", "close", "kill"]))
    def restarted_agent(self, kind: str) -> None:
        if kind == "reopen":
            self.engine.reopen()
            return
        if kind == "kill":
            # What a SIGKILL leaves: the file as the last commit left it, nothing closed.
            copy = self.folder.with_name(self.folder.name + "-killed")
            shutil.copytree(self.folder, copy)
            self.engine.close()
            shutil.rmtree(self.folder)
            copy.rename(self.folder)
        else:
            self.engine.close()
        self.engine = self.open()
        assert self.engine.salvage_report is None

    @invariant()
    def the_newest_are_all_there(self) -> None:
        for log in LOGS:
            first = self.engine.first_seq(log)
            assert self.engine.last_seq(log) == len(self.logs[log])
            if log != "week":
                assert values(self.engine, log) == self.logs[log][first - 1 :]

    @invariant()
    def each_record_of_the_week_is_there_or_in_one_aggregate(self) -> None:
        """What stands behind a position is in what is read behind it, if anybody could have it."""
        expected = self.engine.first_seq("week")
        for record in records(self.engine, "week"):
            if record.source.startswith("$thin/"):
                upto = record.seq
                covered = self.logs["week"][expected - 1 : upto]
                # One stream, one source, by arrival: what an aggregate covers is one stretch.
                assert record.fields["records"] == record.fields["v_count"] == len(covered)
                assert record.fields["v_min"] == min(covered)
                assert record.fields["v_max"] == max(covered)
                assert record.fields["v_mean"] == sum(covered) / len(covered)
                assert record.fields["v_last"] == covered[-1]
            else:
                assert record.seq == expected
                assert record.fields["v"] == self.logs["week"][expected - 1]
            expected = record.seq + 1
        assert expected == len(self.logs["week"]) + 1

    @invariant()
    def numbering_is_as_told(self) -> None:
        for source, expected in self.next.items():
            assert self.engine.next_of(source) == expected

    @precondition(lambda self: self.value > 100)
    @rule()
    def shares_hold(self) -> None:
        for log in self.engine.statistics().logs.values():
            assert log.bytes <= log.share_bytes + 8192

    def teardown(self) -> None:
        self.engine.close()
        report = check_store(self.folder, KeyRing((bytes(32),)))
        shutil.rmtree(self.folder)
        assert not report.problems
        assert not report.gaps


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=30)
