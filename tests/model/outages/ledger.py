"""What a store holds, read through its own engine: who sent it, in the order of its log.

A log that thins has aggregates among its records; each says for how many it stands, and the lowest,
the highest and the sum of their numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edge_agent.errors import StoreFailed
from edge_agent.store import Block, Engine, is_backlog, whole_consumer
from edge_agent.values.aggregates import THINNED_COUNT, THINNED_SOURCE

#: Sensor, and the number of ours that the record bears.
Item = tuple[str, int]
_READ_BYTES = 1 << 20
LOG = "main"


class Counted(NamedTuple):
    """What one aggregate says of a sensor: ``records`` with numbers from ``low`` to ``high``, and
    their sum.
    """

    sensor: str
    records: int
    low: int
    high: int
    total: int

    @classmethod
    def of(cls, source: str, fields: Mapping[str, Any]) -> Counted | None:
        """None where the record of ``source`` is no aggregate."""
        if not source.startswith(THINNED_SOURCE):
            return None
        records = int(fields[THINNED_COUNT])
        # Every record has a number, so both are of as many.
        total = round(fields["n_count"] * fields["n_mean"]) if fields["n_count"] == records else -1
        sensor = source.removeprefix(THINNED_SOURCE)
        return cls(sensor, records, int(fields["n_min"]), int(fields["n_max"]), total)


def disagreement(counted: Iterable[Counted], numbers: Collection[int]) -> str:
    """How aggregates of one sensor differ from those that stand for exactly these ``numbers``; ""
    where they do not.
    """
    found = list(counted)
    said = (sum(one.records for one in found), sum(one.total for one in found))
    wanted = (len(numbers), sum(numbers))
    if said != wanted:
        return f"aggregates of {said[0]} records, sum {said[1]}, stand for {wanted}"
    beyond = [one for one in found if one.low not in numbers or one.high not in numbers]
    return f"{beyond} stand for others than {sorted(numbers)}" if beyond else ""


@dataclass(slots=True)
class Ledger:
    """One reading. ``aggregates``: of records that gave way to them.

    Records that are no longer there, by the store's own account: ``trimmed`` because everybody had
    them, or ``discarded``.
    """

    epoch: str
    first: int
    last: int
    items: dict[int, Item]
    aggregates: list[Counted]
    trimmed: int
    discarded: int
    #: Records that gave way to aggregates since the store was made, less those aggregates.
    gave_way: int
    positions: dict[str, int] = field(default_factory=dict)
    #: Consumer to floor and end of the backlog that it is sent beside newer records.
    backlogs: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def thinned(self) -> Counter[str]:
        """Sensor to the number of its records that aggregates stand for."""
        found: Counter[str] = Counter()
        for one in self.aggregates:
            found[one.sensor] += one.records
        return found

    def by_sensor(self) -> dict[str, list[int]]:
        """Each sensor's numbers, in order."""
        found: dict[str, list[int]] = defaultdict(list)
        for sensor, number in self.items.values():
            found[sensor].append(number)
        return found

    def delivered(self, consumer: str) -> set[Item]:
        """What its positions say that the upstream has."""
        floor, (begin, end) = self.positions[consumer], self.backlogs.get(consumer, (0, 0))
        return {item for seq, item in self.items.items() if seq <= floor and not begin < seq <= end}

    def has(self) -> set[Item]:
        """Everything that is there."""
        return set(self.items.values())


def read(engine: Engine, consumers: tuple[str, ...], known: Ledger | None = None) -> Ledger:
    """All of it, or what follows what is ``known``. Raises StoreFailed where the disk refuses."""
    items: dict[int, Item] = {}
    aggregates: list[Counted] = []
    epoch = engine.identity.epoch
    statistics = engine.statistics().logs[LOG]
    after = engine.first_seq(LOG) - 1
    if known is not None and known.epoch == epoch:
        items = {seq: item for seq, item in known.items.items() if seq > after}
        after = max(after, known.last)
    while found := engine.read(LOG, after, _READ_BYTES):
        for block in found:
            if not isinstance(block, Block):
                continue
            for record in block.records():
                if record.seq <= after:
                    continue
                counted = Counted.of(record.source, record.fields)
                if counted is not None:
                    aggregates.append(counted)
                else:
                    items[record.seq] = (str(record.fields["s"]), int(record.fields["n"]))
        after = found[-1].last
    ledger = Ledger(
        epoch, engine.first_seq(LOG), engine.last_seq(LOG), items, aggregates,
        statistics.trimmed, statistics.discarded,
        statistics.thinned - statistics.aggregates,
    )  # fmt: skip
    ledger.positions = {name: engine.position(name, LOG)[0] for name in consumers}
    ledger.backlogs = {
        whole_consumer(one.consumer): (one.floor, one.span[1])
        for one in engine.consumers()
        if is_backlog(one.consumer) and whole_consumer(one.consumer) in consumers
    }
    return ledger


def try_read(
    engine: Engine | None, consumers: tuple[str, ...], known: Ledger | None = None
) -> Ledger | None:
    """The same; None where it cannot be read at present."""
    try:
        return None if engine is None else read(engine, consumers, known)
    except StoreFailed:
        return None
