"""What a store holds, read through its own engine: who sent it, in the order of its log.

A log that thins has aggregates among its records; each says for how many it stands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from edge_agent.aggregates import THINNED_COUNT, THINNED_SOURCE
from edge_agent.errors import StoreFailed
from edge_agent.store import Block, Engine

#: Sensor, and the number of ours that the record bears.
Item = tuple[str, int]
_READ_BYTES = 1 << 20
LOG = "main"


@dataclass(slots=True)
class Ledger:
    """One reading. ``thinned``: sensor to the number of its records that aggregates stand for.

    Records that are no longer there, by the store's own account: ``trimmed`` because everybody had
    them, or ``discarded``.
    """

    epoch: str
    first: int
    last: int
    items: dict[int, Item]
    thinned: Counter[str]
    trimmed: int
    discarded: int
    #: Records that gave way to aggregates since the store was made, less those aggregates.
    gave_way: int
    positions: dict[str, int] = field(default_factory=dict)

    def by_sensor(self) -> dict[str, list[int]]:
        """Each sensor's numbers, in order."""
        found: dict[str, list[int]] = defaultdict(list)
        for sensor, number in self.items.values():
            found[sensor].append(number)
        return found

    def has(self) -> set[Item]:
        """Everything that is there."""
        return set(self.items.values())


def read(engine: Engine, consumers: tuple[str, ...], known: Ledger | None = None) -> Ledger:
    """All of it, or what follows what is ``known``. Raises StoreFailed where the disk refuses."""
    items: dict[int, Item] = {}
    thinned: Counter[str] = Counter()
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
                if record.source.startswith(THINNED_SOURCE):
                    sensor = record.source.removeprefix(THINNED_SOURCE)
                    thinned[sensor] += int(record.fields[THINNED_COUNT])
                else:
                    items[record.seq] = (str(record.fields["s"]), int(record.fields["n"]))
        after = found[-1].last
    ledger = Ledger(
        epoch, engine.first_seq(LOG), engine.last_seq(LOG), items, thinned,
        statistics.trimmed, statistics.discarded,
        statistics.thinned - statistics.aggregates,
    )  # fmt: skip
    ledger.positions = {name: engine.position(name, LOG)[0] for name in consumers}
    return ledger


def try_read(
    engine: Engine | None, consumers: tuple[str, ...], known: Ledger | None = None
) -> Ledger | None:
    """The same; None where it cannot be read at present."""
    try:
        return None if engine is None else read(engine, consumers, known)
    except StoreFailed:
        return None
