"""Negative controls: mistakes planted in the agent from outside, each of which must be noticed.

A simulation that finds nothing proves something only if it would have found these. Each is a way
to lose or to double a record that has been made before, somewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

import trio

from edge_agent.client.position import ProducerPosition as ClientPosition
from edge_agent.commit import Committer
from edge_agent.commit.gather import settle
from edge_agent.commit.persist import Persistence
from edge_agent.errors import SinkUnavailable, StoreFailed
from edge_agent.forward import sink
from edge_agent.forward.batches.plan import Plan
from edge_agent.forward.batches.planned_reader import PlannedBatches
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.lanes.split import LaneLog, Split
from edge_agent.forward.sink import Acknowledged
from edge_agent.forward.sinks.agent.sink import WebSocketSink
from edge_agent.forward.sinks.http.sink import HttpSink
from edge_agent.store.commit.group import Group
from edge_agent.store.format.payload import join_runs, raw_runs, read_runs
from edge_agent.store.thinning import aggregate, thinner
from edge_agent.store.thinning.aggregate import Aggregated
from edge_agent.store.thinning.consumer_guard import Guard
from edge_agent.store.types import CommitResult, Position, Stored
from edge_agent.values.aggregates import THINNED_SOURCE
from tests.model.outages.plan import Shape, draw
from tests.model.outages.world import simulate

#: Among so many seeds a control has to show.
SEEDS: Final = 40


@contextmanager
def ack_before_commit() -> Iterator[None]:
    """Tickets are answered when their group is taken, not when it is synced."""
    commit = Committer._commit_group

    async def early(self: Committer) -> None:
        waiting = self._gathering._waiting
        for ticket in list(waiting):
            numbering = ticket.entry.numbering
            settle([ticket], [Stored({}, 0 if numbering is None else numbering.next, 0)])
        await commit(self)

    with patch.object(Committer, "_commit_group", early):
        yield


@contextmanager
def position_before_the_hub() -> Iterator[None]:
    """What was handed to the socket counts as acknowledged."""
    send = WebSocketSink.send

    async def hasty(self: WebSocketSink, batch: Any) -> Acknowledged:
        await send(self, batch)
        return Acknowledged(batch.last)

    with patch.object(WebSocketSink, "send", hasty):
        yield


@contextmanager
def next_in_memory_only() -> Iterator[None]:
    """The numbers expected of sources are not stored."""
    with patch.object(Group, "_put_sources", lambda self: None):
        yield


@contextmanager
def retry_drops_the_batch() -> Iterator[None]:
    """An HTTP batch that failed is not sent again."""
    send = HttpSink.send

    async def careless(self: HttpSink, batch: Any) -> Acknowledged:
        try:
            return await send(self, batch)
        except SinkUnavailable:
            return Acknowledged(batch.last)

    with patch.object(HttpSink, "send", careless):
        yield


@contextmanager
def plan_in_memory_only() -> Iterator[None]:
    """Ranges are sent before they are durable."""

    async def forgetful(self: PlannedBatches, plan: Plan) -> None:
        await trio.lowlevel.checkpoint()
        self._plan = plan

    with patch.object(PlannedBatches, "_keep", forgetful):
        yield


@contextmanager
def no_retry_after_401() -> Iterator[None]:
    """A lane stays where it is when the server wants another token."""
    back_off = Lane._back_off

    async def final(self: Lane, error: Exception) -> None:
        if "HTTP 401" in str(error):
            await trio.sleep_forever()
        await back_off(self, error)  # type: ignore[arg-type]  # as the original's

    with patch.object(Lane, "_back_off", final):
        yield


@contextmanager
def failed_commit_passes_for_done() -> Iterator[None]:
    """After the disk refused, the store is opened again and the group is not committed again."""
    call = Persistence.call

    async def once(self: Persistence, function: Any, *arguments: Any) -> Any:
        if function.__name__ != "commit":
            return await call(self, function, *arguments)
        try:
            return await self._timed(function, *arguments)
        except StoreFailed:
            await call(self, self._engine.reopen)
            answers = [
                Stored({}, 0 if entry.numbering is None else entry.numbering.next, 0)
                for entry in arguments[0]
            ]
            return CommitResult(tuple(answers), {}, {}, {}, {}, {}, {}, {})

    with patch.object(Persistence, "call", once):
        yield


@contextmanager
def sensor_takes_sent_for_done() -> Iterator[None]:
    """A producer's next ack counts for everything that has left."""
    sending = ClientPosition.sending

    def hopeful(self: ClientPosition, number: int, count: int) -> None:
        sending(self, number, count)
        self.done_below = self.sent_below

    with patch.object(ClientPosition, "sending", hopeful):
        yield


@contextmanager
def an_aggregate_is_left_out() -> Iterator[None]:
    """Of what takes the place of a full log's oldest records the first aggregate is missing."""
    real = aggregate.aggregate

    def shorter(blocks: Any, block_bytes: int) -> Aggregated | None:
        made = real(blocks, block_bytes)
        if made is None or made.aggregates < 2:
            return made
        runs = list(zip(read_runs(made.raw), raw_runs(made.raw), strict=True))
        first = next(n for n, (run, _) in enumerate(runs) if run.source.startswith(THINNED_SOURCE))
        raw = join_runs([piece for n, (_, piece) in enumerate(runs) if n != first])
        return replace(made, raw=raw, count=made.count - 1)

    with patch.object(thinner, "aggregate", shorter):
        yield


@contextmanager
def an_aggregate_counts_a_record_twice() -> Iterator[None]:
    """The last record of each minute."""
    real = aggregate._piece

    def more(key: Any, minute: Any) -> Any:
        minute.records += 1
        for summary in minute.numbers.values():
            summary.add(summary.last, summary.last_ns)
        return real(key, minute)

    with patch.object(aggregate, "_piece", more):
        yield


@contextmanager
def a_record_and_its_aggregate() -> Iterator[None]:
    """What an upstream may have had already is thinned, and it is given the aggregates, too."""
    with (
        patch.object(Guard, "covers", lambda self, block: block.last <= self.acknowledged),
        patch.object(sink, "as_owed", lambda items, first, begun: items),
    ):
        yield


@contextmanager
def a_log_is_divided_in_two_commits() -> Iterator[None]:
    """Where newer records begin is durable before there is a backlog."""
    write = Split._write

    async def one_by_one(self: Split, *positions: Position) -> None:
        for position in reversed(positions):
            await write(self, position)

    with patch.object(Split, "_write", one_by_one):
        yield


@contextmanager
def a_log_is_divided_again_before_its_backlog_is_sent() -> Iterator[None]:
    """The new backlog takes the place of the one that was there."""

    def always(self: LaneLog, item: Any) -> bool:
        return self.part == "live" and self.split.live_first and self.split.is_old(item)

    with (
        patch.object(LaneLog, "falls_behind", always),
        patch.object(LaneLog, "base", property(lambda self: 0)),
        patch.object(LaneLog, "rearrange", _without_a_look_at_what_is_there),
    ):
        yield


async def _without_a_look_at_what_is_there(
    self: LaneLog, resume: Any, resumed: Any, *, keyed: bool, may_divide: bool
) -> bool:
    begin = resumed.next - 1
    if self.part == "backlog" or not may_divide or not await self.split.is_due(begin):
        return False
    await self.split.divide(begin, keyed=keyed)
    return True


def _any(shape: Shape) -> bool:
    return True


def _web(shape: Shape) -> bool:
    return shape.http


def _small(shape: Shape) -> bool:
    # Where everything is kept, what was acknowledged too early is sent again all the same.
    return shape.full == "discard-oldest"


def _thins(shape: Shape) -> bool:
    return shape.full == "thin-oldest"


def _divided(shape: Shape) -> bool:
    return shape.order == "live first" and not shape.full


_Planted = tuple[Callable[[], AbstractContextManager[None]], Callable[[Shape], bool], int]
#: Name to the mistake, to where it can show, and to the seed from which on to look: one in which it
#: showed before.
CONTROLS: Final[dict[str, _Planted]] = {
    planted.__name__.replace("_", " "): (planted, shows, begin)
    for planted, shows, begin in (
        (ack_before_commit, _any, 1),
        (position_before_the_hub, _small, 9),
        (next_in_memory_only, _any, 1),
        (retry_drops_the_batch, _web, 1),
        (plan_in_memory_only, _web, 12),
        (no_retry_after_401, _web, 25),
        (failed_commit_passes_for_done, _any, 2),
        (sensor_takes_sent_for_done, _any, 1),
        (an_aggregate_is_left_out, _thins, 7),
        (an_aggregate_counts_a_record_twice, _thins, 7),
        (a_record_and_its_aggregate, _thins, 278),
        (a_log_is_divided_in_two_commits, _divided, 54),
        (a_log_is_divided_again_before_its_backlog_is_sent, _divided, 23),
    )
}


def caught(name: str) -> int | None:
    """The first seed whose simulation notices the mistake; None where none does."""
    planted, shows, begin = CONTROLS[name]
    plans = [plan for plan in map(draw, range(begin, begin + SEEDS)) if shows(plan.shape)]
    with planted():
        return next((one.seed for one in plans if simulate(one, to_the_end=False).problems), None)
