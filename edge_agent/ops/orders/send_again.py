"""Sending again what an upstream had refused: from quarantine, by a person's order.

Such a record was stored here all along and is only missing there; quarantine knows where it stands
in the log. The order puts its seq into the plan of that upstream's lane, which sends it before
anything else, by itself and under a key of its own (``/again-NUMBER``). The entry leaves quarantine
in the commit that notes the upstream's acknowledgement; refused once more, it stays.

The log has to hold the record still: quarantine keeps 4 KiB of its fields alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from edge_agent.forward import AGAIN_MAX, Again, again_of, shape_of, with_again
from edge_agent.store import Block, Entry, Position, Quarantined

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.config import Config
    from edge_agent.forward import Lane
    from edge_agent.log import Log
    from edge_agent.record import Record

_UPSTREAM = "upstream/"


def is_an_upstreams(item: Quarantined) -> bool:
    """Whether an upstream refused it."""
    return item.code.startswith("upstream_")


class SendAgain:
    """One order over entries that upstreams refused.

    Args:
        log: the waist.
        config: what is in force.
        lane: the running lane that a consumer is, None where there is none.
    """

    def __init__(self, log: Log, config: Config, lane: Callable[[str, str], Lane | None]) -> None:
        self._log, self._lane = log, lane
        self._upstreams = {f"{_UPSTREAM}{one.name}": one for one in config.upstream}

    async def order(self, items: Mapping[int, Quarantined]) -> list[dict[str, Any]]:
        """Hand them to their lanes; what has become of each entry.

        Raises:
            StoreError, Closed: nothing more is ordered.
        """
        told: dict[int, dict[str, Any]] = {}
        groups: dict[tuple[str, str], list[int]] = {}
        for number, item in items.items():
            problem = self._problem(item)
            if problem:
                told[number] = {"number": number, "done": False, "problem": problem}
            else:
                groups.setdefault((item.consumer, item.log), []).append(number)
        for (consumer, log), numbers in groups.items():
            part = {number: items[number] for number in numbers}
            for one in await self._hand_over(consumer, log, part):
                told[one["number"]] = one
        return [told[number] for number in items]

    def _problem(self, item: Quarantined) -> str:
        if not item.seq:
            return "it was set aside by an earlier version, which did not note where it is stored"
        upstream = self._upstreams.get(item.consumer)
        if upstream is None:
            return f"{item.consumer} is not configured any more"
        if not upstream.url.startswith(("http:", "https:")):
            return f"{item.consumer} is another agent now, which counts what it gets"
        if item.log not in self._log.names():
            return f"there is no log {item.log} any more"
        return ""

    async def _hand_over(
        self, consumer: str, log: str, items: Mapping[int, Quarantined]
    ) -> list[dict[str, Any]]:
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
                state = with_again(state, shape_of(self._upstreams[consumer]), again)
                position = Position(consumer, log, floor, state)
                await (await self._log.append(Entry(positions=(position,)), soon=True)).wait()
        name = consumer.removeprefix(_UPSTREAM)
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
