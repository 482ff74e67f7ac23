"""What has to hold in a simulation: each time a store was opened again, and at the end.

Nothing here asks the agent how it is. What sensors were told is in their books, what stores hold is
read record by record, and what the HTTP server took it has written down itself. `Watch.problems`
collects sentences; a run without one is good.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from edge_agent.store import Engine
from edge_agent.store.tools.check import check_store
from tests.model.outages.http_hub import HttpHub, poisonous
from tests.model.outages.ledger import Counted, Item, Ledger, disagreement, try_read
from tests.model.outages.machine import Machine
from tests.model.outages.plan import THINS, Plan
from tests.model.outages.sensors import Sender

#: From the end of the last fault until everything is where it belongs, in simulated seconds. The
#: longest waits that an outage may leave behind: a minute until a store is opened again, thirty
#: seconds until a welcome that does not come is given up, twice twenty between two attempts.
LIVENESS_S: Final = 600.0
_SHOWN: Final = 8


class Watch:
    """Sees everything, changes nothing.

    Attributes:
        problems: what was wrong, in sentences.
        checked: records that a check has found where they belong.
        counted: records that aggregates stand for, each of which was found to be counted once.
        hub_lost: how often the hub's store was thrown away.
        divided: how often a log was divided, or that was taken back.
    """

    def __init__(
        self,
        plan: Plan,
        machines: Mapping[str, Machine],
        senders: Mapping[str, Sender],
        http: HttpHub | None,
    ) -> None:
        self.problems: list[str] = []
        self.checked = self.counted = self.hub_lost = self._withheld = self.divided = 0
        self._plan, self._machines, self._senders, self._http = plan, machines, senders, http
        self._ledgers: dict[str, Ledger] = {}

    # When a store has been opened.

    def opened(self, machine: Machine) -> None:
        """Nothing else has happened to it since."""
        name = machine.name
        assert machine.engine is not None
        new = try_read(machine.engine, self._consumers(name))
        if new is None:
            return
        old = self._ledgers.get(name)
        if old is not None:
            self._still_there(name, old, new)
        self._ledgers[name] = new
        self._in_order(name, new)
        self._positions(name, new)
        self._acked(name if name in self._plan.shape.agents else None)

    def withheld(self, records: int) -> None:
        """An upstream was not given so many records that aggregates stand for: it had a part of
        what they stand for, and nobody knows which. Counted and told as a loss.
        """
        self._withheld += records

    def lost(self, name: str) -> None:
        """A store was thrown away."""
        self._ledgers.pop(name, None)
        self.hub_lost += 1

    def _still_there(self, name: str, old: Ledger, new: Ledger) -> None:
        if old.epoch != new.epoch:
            self._problem(f"{name} has another store than before")
        changed = [
            seq
            for seq, item in old.items.items()
            # Where aggregates stand for records, those between them that came from another agent
            # have other places; under which names they are known upstream is what stays.
            if seq >= new.first and not new.thinned and new.items.get(seq) != item
        ]
        if changed or new.last < old.last:
            self._problem(
                f"{name} ends at {new.last} after {old.last}; changed: {changed[:_SHOWN]}"
            )

    def _in_order(self, name: str, ledger: Ledger) -> None:
        for sensor, numbers in ledger.by_sensor().items():
            sender = self._senders[sensor]
            never = set(numbers) - sender.book.sent
            if never:
                self._problem(f"{name} has what {sensor} never sent: {sorted(never)[:_SHOWN]}")
            if sender.sensor.kind == "plain":
                continue
            # What came by two lanes is in order within each.
            if self.divided and sender.sensor.agent != name:
                numbers = sorted(numbers)
            wrong = [(before, after) for before, after in pairwise(numbers) if after <= before]
            if len(numbers) + ledger.thinned[sensor] > len(sender.book.sent):
                self._problem(f"{name} has records of {sensor} and counts them in aggregates too")
            if wrong:
                self._problem(f"{name} has records of {sensor} twice or out of order: {wrong[:3]}")
            if sender.sensor.agent == name:
                self._counted_once(name, ledger, sender, numbers)
            self.checked += len(numbers)

    def _counted_once(self, name: str, ledger: Ledger, sender: Sender, numbers: list[int]) -> None:
        """What aggregates of the sensor's own agent count is what is missing between its records:
        only the front of a log is ever removed.
        """
        sensor, book = sender.sensor.name, sender.book
        found = [one for one in ledger.aggregates if one.sensor == sensor]
        if not found:
            return
        low = min([*numbers, *(one.low for one in found)])
        high = max([*numbers, *(one.high for one in found)])
        if any(low <= number <= high for number in book.forgotten):
            return  # Nobody knows whether they arrived.
        between = {number for number in book.sent if low <= number <= high} - set(numbers)
        self._compare(name, sensor, found, between)

    def _compare(
        self, where: str, sensor: str, found: Sequence[Counted], numbers: Collection[int]
    ) -> None:
        if wrong := disagreement(found, numbers):
            self._problem(f"{where}, {sensor}: {wrong}")
        self.counted += len(numbers)

    def _positions(self, name: str, ledger: Ledger) -> None:
        """What a position says was delivered is there."""
        for consumer, floor in ledger.positions.items():
            delivered = ledger.delivered(consumer)
            if consumer == "upstream/web":
                missing = delivered - self._web() - self._quarantined(name)
            elif self.hub_lost:
                continue
            else:
                above = self._fresh(self._above(name))
                if above is None:
                    continue
                missing = delivered - above.has()
                # What has gone on from there may have been trimmed there.
                if missing and above.first > 1:
                    beyond = self._beyond(self._above(name))
                    if beyond is None:
                        continue
                    missing -= beyond
                # That as many are counted as are missing is for `_acked` to see, and `finish`.
                if missing and (self.discarded() or self._thinned()):
                    continue
            if missing:
                shown = sorted(missing)[:_SHOWN]
                self._problem(f"{name}, {consumer}: {floor} is acknowledged without {shown}")

    def _acked(self, agent: str | None) -> None:
        """Every acked record is in its agent's store, or further on."""
        chains = {
            each: self._chain(each)
            for each in self._plan.shape.agents
            if agent is None or each == agent
        }
        for first, chain in chains.items():
            ledgers = [self._fresh(name) for name in chain]
            if any(ledger is None for ledger in ledgers):
                continue
            known = [ledger for ledger in ledgers if ledger is not None]
            missing = self._missing(first, set[Item]().union(*(one.has() for one in known)))
            allowed = self._removed() if self.hub_lost else self.discarded()
            allowed += sum(one.thinned.total() for one in known)
            if len(missing) > allowed:
                self._problem(
                    f"acked by {first} and nowhere: {len(missing)} records, {allowed} counted"
                    f" as discarded: {sorted(missing)[:_SHOWN]}"
                )

    def _missing(self, agent: str, has: set[Item]) -> set[Item]:
        return {
            (name, number)
            for name, sender in self._senders.items()
            if sender.sensor.agent == agent
            for number in sender.book.acked
        } - has

    # At the end, everybody still running.

    def settled(self) -> bool:
        """Whether every backlog is zero."""
        for name in self._plan.shape.machines:
            ledger = self._fresh(name)
            if ledger is None or any(at < ledger.last for at in ledger.positions.values()):
                return False
            if ledger.backlogs:
                return False
        return True

    def finish(self) -> None:
        """Everything has arrived, once, or is accounted for."""
        hub = self._fresh("hub")
        assert hub is not None, "settled"
        for name in self._plan.shape.machines:
            ledger = self._fresh(name)
            assert ledger is not None, "settled"
            self._in_order(name, ledger)
            self._positions(name, ledger)
        for sender in self._senders.values():
            book = sender.book
            self.problems += [f"{sender.sensor.name}: {text}" for text in book.problems]
            unacked = book.sent - book.forgotten - book.acked
            if unacked:
                self._problem(f"{sender.sensor.name} ends with {len(unacked)} not acked")
        self._arrived("the hub", hub.has(), self._plan.shape.agents, hub.aggregates)
        if self._http is not None:
            self._finish_web(self._http)

    def _arrived(
        self, where: str, has: set[Item], agents: Iterable[str], aggregates: Sequence[Counted]
    ) -> None:
        missing = set[Item]().union(*(self._missing(agent, has) for agent in agents))
        if not self.discarded() and not self.hub_lost:
            self._arrived_once(where, missing, agents, aggregates)
        allowed = sum(one.records for one in aggregates) + (
            self._removed() if self.hub_lost else self.discarded()
        )
        if len(missing) > allowed:
            self._problem(
                f"{where} lacks {len(missing)} records, {allowed} are thinned or discarded:"
                f" {sorted(missing)[:_SHOWN]}"
            )

    def _arrived_once(
        self, where: str, missing: set[Item], agents: Iterable[str], aggregates: Sequence[Counted]
    ) -> None:
        """Each record that has not come by itself is counted by one aggregate."""
        for name, sender in self._senders.items():
            told_twice = sender.sensor.kind == "plain" or sender.book.forgotten
            if sender.sensor.agent in agents and not told_twice:
                found = [one for one in aggregates if one.sensor == name]
                self._compare(where, name, found, {n for sensor, n in missing if sensor == name})

    def _finish_web(self, http: HttpHub) -> None:
        self.problems += http.problems
        web, aside = self._web(), self._quarantined("agent")
        self._arrived("the HTTP server", web | aside, ["agent"], http.aggregates)
        wrong = [item for item in aside if not poisonous({"n": item[1]})]
        if wrong:
            self._problem(f"set aside, though the server never refused them: {wrong[:_SHOWN]}")
        # What is discarded at the front of a range that was sent makes it another range.
        if http.doubled and not self.discarded():
            self._problem(f"taken under two keys: {sorted(http.doubled)[:_SHOWN]}")
        never = {
            item
            for item in web
            if item[0] not in self._senders or item[1] not in self._senders[item[0]].book.sent
        }
        if never:
            self._problem(f"the HTTP server has what was never sent: {sorted(never)[:_SHOWN]}")

    def files(self) -> None:
        """Everybody has stopped: what an independent reader says."""
        for name, machine in self._machines.items():
            for problem in check_store(machine.folder).problems:
                self._problem(f"check of {name}: {problem}")

    # Looking around.

    def _fresh(self, name: str) -> Ledger | None:
        machine = self._machines[name]
        # What was thinned since is not what it was.
        known = None if self._plan.shape.full == THINS else self._ledgers.get(name)
        ledger = try_read(machine.engine, self._consumers(name), known)
        if ledger is not None:
            self._ledgers[name] = ledger
        return ledger

    def _above(self, name: str) -> str:
        return "middle" if self._plan.shape.middle and name != "middle" else "hub"

    def _chain(self, agent: str) -> tuple[str, ...]:
        return (agent, "middle", "hub") if self._plan.shape.middle else (agent, "hub")

    def _beyond(self, name: str) -> set[Item] | None:
        """What has gone on from there; None where that cannot be seen at present."""
        if name != "middle":
            return set()
        ledger = self._fresh("hub")
        return None if ledger is None else ledger.has()

    def _consumers(self, name: str) -> tuple[str, ...]:
        if name == "hub":
            return ()
        return ("upstream/up", "upstream/web") if self._serves_web(name) else ("upstream/up",)

    def _serves_web(self, name: str) -> bool:
        return self._http is not None and name == "agent"

    def _web(self) -> set[Item]:
        assert self._http is not None
        return {(str(has["s"]), int(str(has["n"]))) for has in self._http.taken.values()}

    def _quarantined(self, name: str) -> set[Item]:
        engine: Engine | None = self._machines[name].engine
        assert engine is not None
        found: set[Item] = set()
        after = 0
        while entries := engine.quarantine(after, 100):
            after = entries[-1][0]
            for _, entry in entries:
                if entry.code.startswith("upstream_"):
                    fields = msgspec.msgpack.decode(entry.body)
                    found.add((str(fields.get("s")), int(fields.get("n", 0))))
        return found

    def standing(self, name: str) -> Ledger | None:
        """What was last read of a machine's store."""
        return self._ledgers.get(name)

    def discarded(self) -> int:
        """Records that stores count as discarded, and those that forwarders count as withheld.

        An aggregate that another agent made counts as one record where it is discarded; for how
        many it stood is in the counters of the one that made it.
        """
        discarded = sum(ledger.discarded for ledger in self._ledgers.values())
        discarded = discarded and discarded + sum(one.gave_way for one in self._ledgers.values())
        return discarded + self._withheld

    def _thinned(self) -> int:
        return sum(ledger.thinned.total() for ledger in self._ledgers.values())

    def _removed(self) -> int:
        return sum(ledger.discarded + ledger.trimmed for ledger in self._ledgers.values())

    def _problem(self, text: str) -> None:
        self.problems.append(text)
