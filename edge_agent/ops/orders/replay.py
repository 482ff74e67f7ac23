"""Reads quarantined records again, which a changed limit, rule or name may have made usable.

What was sent goes through the same reading as a fresh message of its stream and source, at the time
at which it arrived, and through the rules. What comes of it is stored in the entry that takes it
out of quarantine, so that a power cut leaves one or the other. It gets no number: its source's
numbering has gone on.

Not everything can be read again. Quarantine keeps 4 KiB; of a larger message the rest is gone. A
block of another agent belongs to that agent's numbering.

**What an upstream refused** was stored here all along and is only missing there; quarantine knows
where it stands in the log. The order puts its seq into the plan of that upstream's lane, which
sends it before anything else, by itself and under a key of its own (``/again-NUMBER``). The entry
leaves quarantine in the commit that notes the upstream's acknowledgement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.config import UPSTREAM
from edge_agent.forward import AGAIN_MAX, Again, again_of, shape_of, with_again
from edge_agent.rules import RulesInForce
from edge_agent.store import QUARANTINE_BYTES_MAX, Block, Entry, Position, Quarantined
from edge_agent.values.record import Run
from edge_agent.wire import Arrival, WireLimits, read_messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.config import Upstream
    from edge_agent.forward import Lane
    from edge_agent.log import Log
    from edge_agent.values.record import Record


def is_an_upstreams(item: Quarantined) -> bool:
    """Whether an upstream refused it."""
    return item.code.startswith("upstream_")


class SendAgain:
    """One order over entries that upstreams refused.

    Args:
        log: the waist.
        upstreams: those that are configured.
        lane: the running lane that a consumer is, None where there is none.
    """

    def __init__(
        self,
        log: Log,
        upstreams: Callable[[], Sequence[Upstream]],
        lane: Callable[[str, str], Lane | None],
    ) -> None:
        self._log, self._lane, self._upstreams = log, lane, upstreams

    async def order(self, items: Mapping[int, Quarantined]) -> list[dict[str, Any]]:
        """Hand them to their lanes; what has become of each entry.

        Raises:
            StoreError, Closed: nothing more is ordered.
        """
        told: dict[int, dict[str, Any]] = {}
        groups: dict[tuple[str, str], list[int]] = {}
        upstreams = {one.consumer: one for one in self._upstreams()}
        for number, item in items.items():
            problem = self._problem(item, upstreams.get(item.consumer))
            if problem:
                told[number] = {"number": number, "done": False, "problem": problem}
            else:
                groups.setdefault((item.consumer, item.log), []).append(number)
        for (consumer, log), numbers in groups.items():
            part = {number: items[number] for number in numbers}
            for one in await self._hand_over(upstreams[consumer], log, part):
                told[one["number"]] = one
        return [told[number] for number in items]

    def _problem(self, item: Quarantined, upstream: Upstream | None) -> str:
        if not item.seq:
            return "it was set aside by an earlier version, which did not note where it is stored"
        if upstream is None:
            return f"{item.consumer} is not configured any more"
        if upstream.kind == "agent":
            return f"{item.consumer} is another agent now, which counts what it gets"
        if item.log not in self._log.names():
            return f"there is no log {item.log} any more"
        return ""

    async def _hand_over(
        self, upstream: Upstream, log: str, items: Mapping[int, Quarantined]
    ) -> list[dict[str, Any]]:
        consumer = upstream.consumer
        found = await self._still_there(log, items)
        async with AsyncExitStack() as stack:
            lane = self._lane(consumer, log)
            if lane is not None:
                # It reads its plan anew afterwards.
                await stack.enter_async_context(lane.holding.held())
            # What it has acknowledged rides on later commits: bring it to the store first.
            await (await self._log.append(Entry(), soon=True)).wait()
            floor, state = await self._log.position(consumer, log)
            waiting = {number for _, number in again_of(state)}
            room = AGAIN_MAX - len(waiting)
            wanted = [number for number in found if number not in waiting][:room]
            again: list[Again] = [(items[number].seq, number) for number in wanted]
            if again:
                state = with_again(state, shape_of(upstream), again)
                position = Position(consumer, log, floor, state)
                await (await self._log.append(Entry(positions=(position,)), soon=True)).wait()
        name = consumer.removeprefix(UPSTREAM)
        done = waiting.union(wanted)
        return [
            {"number": number, "done": True, "records": 1, "upstream": name}
            if number in done
            else {
                "number": number,
                "done": False,
                "problem": f"record {item.seq} is no longer in log {log}, and quarantine does not"
                " keep all of it"
                if number not in found
                else f"{AGAIN_MAX} records wait to be sent again already",
            }
            for number, item in items.items()
        ]

    async def _still_there(self, log: str, items: Mapping[int, Quarantined]) -> set[int]:
        """Which entries' records the log holds, and not others that took their numbers."""
        found: set[int] = set()
        held: dict[int, Record] = {}
        for number, item in sorted(items.items(), key=lambda pair: pair[1].seq):
            if item.seq not in held:
                held = _by_seq(await self._log.read(log, item.seq - 1, 1))
            record = held.get(item.seq)
            if record is not None and (record.stream, record.source, record.source_seq) == (
                item.stream,
                item.source,
                item.number,
            ):
                found.add(number)
        return found


def _by_seq(items: Sequence[object]) -> dict[int, Record]:
    first = items[0] if items else None
    return {record.seq: record for record in first.records()} if isinstance(first, Block) else {}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What reading an entry again came to: ``entry`` to append, or None and ``problem``."""

    entry: Entry | None
    records: int
    problem: str = ""


def replay(
    number: int,
    item: Quarantined,
    limits: WireLimits,
    rules: RulesInForce,
) -> Replayed:
    """Read one quarantined item again; ``number`` is its place in quarantine."""
    if item.source.startswith("$forward/"):
        return Replayed(None, 0, "another agent sent it, in a numbering that has gone on")
    arrival = Arrival(
        item.stream, item.source, item.arrival_ns, synced=True, time_key=rules.time_key
    )
    received = read_messages([_as_sent(item.body)], 0, arrival, limits)
    if received.failure is None and not received.rejects:
        return _kept(number, received.runs, rules)
    if received.failure is not None:
        problem = received.failure.message
    else:
        problem = received.rejects[0].message
    if len(item.body) >= QUARANTINE_BYTES_MAX:
        problem = f"only its first {QUARANTINE_BYTES_MAX} bytes were kept"
    return Replayed(None, 0, problem)


def _kept(number: int, runs: tuple[Run, ...], rules: RulesInForce) -> Replayed:
    ruled = rules.apply(runs, again=True)
    if ruled.rejects:
        # Part of a batch may have become usable; what is in quarantine stays there as a whole.
        return Replayed(None, 0, ruled.rejects[0].message)
    return Replayed(
        Entry(runs=ruled.runs, released=(number,)), sum(run.count for run in ruled.runs)
    )


def _as_sent(body: bytes) -> str | bytes:
    """The message as it came: how is not kept, but JSON begins with ASCII, and of msgpack only a
    bare small number does, for which nobody was ever put into quarantine.
    """
    try:
        return body.decode() if body[:1] < b"\x80" else body
    except UnicodeDecodeError:
        return body
