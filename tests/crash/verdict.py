"""What a store must show that was opened after a power cut, at the level of the store.

Everything is read through the engine and compared with what was sent: every acked record is there,
once, in order, its content right, or counted by exactly one aggregate (`aggregates`), or it was
trimmed after the hub had acknowledged it (or counted as discarded); nothing is there that was never
sent; numbering and positions are no less than what was promised and no more than what was said; and
the next append commits and can be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.assembly.wiring import store_settings
from edge_agent.config import parse
from edge_agent.seal import KeyRing
from edge_agent.store import Block, Engine, Entry, Numbering, Stored, StoreSettings
from edge_agent.values.record import Run
from tests.crash.aggregates import Aggregate
from tests.crash.history import History, Known
from tests.crash.sensor import KINDS
from tests.crash.workload import CONFIG, LOGS, SECRET
from tests.manual_clock import ManualClock

#: Later than any recorded run.
CLOCK: Final = ManualClock(2_200_000_000_000_000_000)
#: The source of what was acked after a first power cut (`again`).
AGAIN: Final = "again"
CONSUMER: Final = "upstream/hub"
_ALL: Final = 1 << 40
_MAPS = msgspec.msgpack.Decoder(list[dict[str, object]])
_PROBE: Final = Entry(
    (
        Run("telemetry/probe", "probe", 1, CLOCK.read().wall_ns, True, 1,
            msgspec.msgpack.encode({"token": "probe:1"}), CLOCK.read().wall_ns,
            CLOCK.read().wall_ns),
    ),
    numbering=Numbering("probe", 1, 2),
)  # fmt: skip
_Numbers = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(slots=True)
class Verdict:
    """What was found: ``problems`` is empty where all is well.

    ``lost``, ``doubled`` are records; ``checked`` acked ones that were looked for; ``salvaged``
    whether the store had to be.
    """

    problems: list[str] = field(default_factory=list)
    checked: int = 0
    lost: int = 0
    doubled: int = 0
    salvaged: bool = False


def settings(path: Path) -> StoreSettings:
    """What the agent of the workload tells its store."""
    config = parse(CONFIG.format(port=1, hub_port=2, path=path), "workload")
    return store_settings(config, keys=KeyRing((SECRET,), os.urandom))


class Judge:
    """Judges stores by one history; remembers what it has decoded already."""

    def __init__(self, history: History, path: Path) -> None:
        self._history = history
        self._path = path
        self.settings = settings(path)
        self._wanted_known: dict[tuple[str, str, int], list[int]] = {}
        self._known_payloads: dict[tuple[str, bytes], _Numbers | str] = {}

    def judge(self, known: Known) -> Verdict:
        """Open what is in the folder, look at everything, append, close."""
        verdict = Verdict()
        engine = Engine.open(self._path, self.settings, clock=CLOCK, entropy=_entropy)
        try:
            if engine.refusal is not None:
                verdict.problems.append(f"it cannot be written: {engine.refusal}")
                return verdict
            if engine.salvage_report is not None:
                verdict.salvaged = True
                verdict.problems.append(f"salvaged: {engine.salvage_report['reason']}")
            if known.epoch and engine.identity.epoch != known.epoch:
                verdict.problems.append("the store has another epoch")
            self._look(engine, known, verdict)
            self._append(engine, verdict)
        finally:
            engine.close()
        return verdict

    def wrong_records(self, engine: Engine) -> list[str]:
        """What is delivered and was not sent like that, in all logs."""
        found: list[str] = []
        for log in LOGS:
            for item in engine.read(log, 0, _ALL):
                numbers = self._decoded(item) if isinstance(item, Block) else ()
                if isinstance(numbers, str):
                    found.append(f"log {log}: block {item.first}: {numbers}")
        return found

    def _look(self, engine: Engine, known: Known, verdict: Verdict) -> None:
        say = verdict.problems.append
        found = {log: self._read(engine, log, say) for log in LOGS}
        missing = dict.fromkeys(found, 0)
        loose = dict.fromkeys(found, 0)
        for source, kind in KINDS.items():
            acked = known.acked.get(source, 1)
            verdict.checked += self._history.before(source, acked)
            if kind.mode == "plain":
                numbers = found["main"][1].get(source, [])
                missing["main"] += self._judge_plain(numbers, known, verdict)
                loose["main"] = 0 if numbers else known.received.get(source, 0) - acked + 1
                continue
            upto = self._expected(engine.next_of(source), source, known, verdict)
            for log, (_, parts) in found.items():
                numbers = parts.get(source, [])
                wanted = self._wanted(source, log, upto)
                missing[log] += _compare(f"{source} in {log}", numbers, wanted, verdict)
            if kind.rejects:
                self._judge_quarantine(engine, source, upto, say)
        again = known.again.get(AGAIN, 1)
        for number in set(range(1, again)) - set(found["main"][1].get(AGAIN, ())):
            verdict.lost += 1
            say(f"number {number} of what was acked after a first power cut is not there")
        if max(engine.next_of(AGAIN), 1) < again:
            say(f"{AGAIN}: next is {engine.next_of(AGAIN)}, acked was {again}")
        for log, (removed, _) in found.items():
            if not missing[log] - loose[log] <= removed <= missing[log]:
                verdict.lost += max(missing[log] - removed, 0)
                say(f"log {log}: {missing[log]} records are missing, {removed} were trimmed")
            self._judge_positions(engine, log, removed, known, verdict)

    def _wanted(self, source: str, log: str, upto: int) -> list[int]:
        """Of the first ``upto`` numbers of the source those whose records belong into ``log``."""
        key = (source, log, upto)
        wanted = self._wanted_known.get(key)
        if wanted is None:
            kind = KINDS[source]
            numbers = self._history.order.get(source, [])[:upto]
            wanted = self._wanted_known[key] = [
                one for one in numbers if kind.log(one) == log and not kind.is_rejected(one)
            ]
        return wanted

    def _read(
        self, engine: Engine, log: str, say: Callable[[str], None]
    ) -> tuple[int, dict[str, list[int]]]:
        """How many are trimmed, and the numbers of each source in the order of the log."""
        after = removed = 0
        parts: dict[str, list[int]] = {}
        for item in engine.read(log, 0, _ALL):
            if item.first != after + 1:
                say(f"log {log}: {item.first} follows {after}")
            after = item.last
            if isinstance(item, Block):
                numbers = self._decoded(item)
                if isinstance(numbers, str):
                    say(f"log {log}: block {item.first}: {numbers}")
                else:
                    for source, found in numbers:
                        parts.setdefault(source, []).extend(found)
            elif item.reason == "trimmed" and item.first == 1:
                removed = item.last
            else:
                say(f"log {log}: {item}")
        if after != engine.last_seq(log):
            say(f"log {log} ends at {after}, not at {engine.last_seq(log)}")
        return removed, parts

    def _decoded(self, block: Block) -> _Numbers | str:
        key = (block.log, block.payload)
        known = self._known_payloads.get(key)
        if known is None:
            known = self._known_payloads[key] = _decode(block, self._all_of)
        return known

    def _all_of(self, source: str, log: str) -> list[int]:
        return self._wanted(source, log, len(self._history.order.get(source, ())))

    def _expected(self, expected: int, source: str, known: Known, verdict: Verdict) -> int:
        """How many numbers of the source the store has dealt with, by its own word."""
        acked = known.acked.get(source, 1)
        order = self._history.order.get(source, [])
        received = known.received.get(source, 0)
        highest = max(order[received - 1] + 1 if received else 1, known.greeted.get(source, 1))
        if max(expected, 1) < acked:
            verdict.lost += self._history.before(source, acked) - self._history.before(
                source, expected
            )
            verdict.problems.append(f"{source}: next is {expected}, acked was {acked}")
        if expected > highest:
            verdict.problems.append(f"{source}: next is {expected}, at most {highest} was sent")
        return self._history.before(source, expected)

    def _judge_plain(self, numbers: list[int], known: Known, verdict: Verdict) -> int:
        acked = known.acked.get("plain", 1) - 1
        received = known.received.get("plain", 0)
        if not numbers:
            return received
        if numbers != list(range(numbers[0], numbers[-1] + 1)):
            verdict.problems.append(f"plain: {numbers} are there")
        if not acked <= numbers[-1] <= received:
            verdict.lost += max(acked - numbers[-1], 0)
            verdict.problems.append(f"plain: {numbers[-1]} is the last, acked were {acked}")
        return numbers[0] - 1

    def _judge_quarantine(
        self, engine: Engine, source: str, upto: int, say: Callable[[str], None]
    ) -> None:
        kind = KINDS[source]
        wanted = [n for n in self._history.order.get(source, [])[:upto] if kind.is_rejected(n)]
        found = [item.number for _, item in engine.quarantine(0, 10_000)]
        if found != wanted:
            say(f"quarantine holds {found}, not {wanted}")

    def _judge_positions(
        self, engine: Engine, log: str, removed: int, known: Known, verdict: Verdict
    ) -> None:
        say = verdict.problems.append
        floor, _ = engine.position(CONSUMER, log)
        arrived = known.arrived.get(log, 1) - 1
        header = engine._state.logs[log]
        if floor > arrived:
            say(f"log {log}: the position is {floor}, the hub has acknowledged {arrived}")
        if header.trimmed + header.discarded != removed:
            say(f"log {log}: {header.trimmed} + {header.discarded} are counted, {removed} gone")
        for name, upto in (("the position", floor), ("what the hub has", arrived)):
            if removed - upto > header.discarded:
                verdict.lost += removed - upto - header.discarded
                say(f"log {log}: trimmed to {removed}, beyond {name}, {upto}")

    def _append(self, engine: Engine, verdict: Verdict) -> None:
        (answer,) = engine.commit((_PROBE,)).answers
        if not isinstance(answer, Stored) or answer.duplicates:
            verdict.problems.append(f"a new record was answered {answer}")
            return
        last = answer.last["main"]
        items = engine.read("main", last - 1, 1)
        if not isinstance(items[-1], Block) or b"probe:1" not in items[-1].raw():
            verdict.problems.append(f"a new record cannot be read: {items}")
        if engine.next_of("probe") != 2:
            verdict.problems.append("a new record's number was not kept")


def _compare(what: str, found: list[int], wanted: list[int], verdict: Verdict) -> int:
    """How many of ``wanted`` are missing at the front; anything else is a problem."""
    missing = len(wanted) - len(found)
    if missing >= 0 and found == wanted[missing:]:
        return missing
    there = set(found)
    lost = [one for one in wanted if one not in there and (not found or one > found[0])]
    verdict.lost += len(lost)
    verdict.doubled += len(found) - len(there)
    excess = sorted(there - set(wanted))
    verdict.problems.append(
        f"{what}: lost {lost[:5]}, not sent or not numbered {excess[:5]}, {len(found)} found of"
        f" {len(wanted)}, {len(found) - len(there)} twice"
    )
    return len(wanted) - len(there)


def _decode(block: Block, all_of: Callable[[str, str], list[int]]) -> _Numbers | str:
    """Numbers by source of a block all of whose records are what was sent, or what is wrong.

    Where aggregates stand for records, their numbers; ``all_of`` a source in a log were sent.
    """
    numbers: dict[str, list[int]] = {}
    for view in block.runs():
        for index, fields in enumerate(_MAPS.decode(view.records)):
            aggregate = Aggregate.of(view.source, fields)
            if aggregate is not None:
                if aggregate.source not in KINDS:
                    return f"{str(fields)[:100]} was never sent"
                whole = all_of(aggregate.source, block.log)
                counted = aggregate.stands_for(KINDS[aggregate.source], whole)
                if isinstance(counted, str):
                    return counted
                numbers.setdefault(aggregate.source, []).extend(counted)
                continue
            source, _, text = str(fields.get("token")).rpartition(":")
            if source == "probe":
                continue
            if source == AGAIN:
                numbers.setdefault(source, []).append(int(text))
                continue
            kind = KINDS.get(source)
            if kind is None:
                return f"{str(fields)[:100]} was never sent"
            number = int(text)
            fields.pop("stream", None)
            if fields != kind.stored(number) or kind.log(number) != block.log:
                return f"{text} of {source} is not as it was sent: {str(fields)[:100]}"
            if kind.mode != "plain" and (view.source, view.source_seq + index) != (source, number):
                return f"{number} of {source} is numbered {view.source_seq + index}"
            numbers.setdefault(source, []).append(number)
    return tuple((source, tuple(found)) for source, found in numbers.items())


def _entropy(size: int) -> bytes:
    return bytes(size)
