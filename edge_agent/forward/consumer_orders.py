"""This module turns a person's order to a consumer into the `Position` that does it. Pure.

=========== ===================================================================================
pause       nothing more is sent, across restarts too; retention still respects the floor
resume      goes on where it was
rewind      what was acknowledged is sent again from a seq on
skip        what was not acknowledged up to a seq is never sent, and counted as discarded
forget      the position of a consumer that is no longer configured is removed
=========== ===================================================================================

Only upstreams are moved. A rule that acts after storing is a consumer too, but its records are in
the log: moved back it would write them a second time, moved on it would close windows that lack
records.

What an upstream makes of a rewind: another agent counts our seqs, and would answer that it has
them; so the numbering is agreed on anew from the moved position (`resume.moved`), and what is
sent again is stored there a second time. An HTTP server gets them under other keys than before,
whatever the ranges (`plan.Plan.moves`), and knows the repeats by each record's id alone.

**While a backlog is sent beside newer records** (``lanes/split.py``) an order is for both lanes,
and moves each within its own part of the log, in one commit: a rewind to before the backlog sends
all of that again, and what came after it too; a skip to within the backlog leaves newer records
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from edge_agent.config import UPSTREAM
from edge_agent.errors import EdgeAgentError
from edge_agent.forward.batches.plan import moves_of, with_moves
from edge_agent.forward.sinks.agent.resume import moved
from edge_agent.store import ConsumerView, Position

Order = Literal["pause", "resume", "rewind", "skip", "forget"]
ORDERS: Final[tuple[Order, ...]] = ("pause", "resume", "rewind", "skip", "forget")


class OrderRefused(EdgeAgentError):
    """What cannot be done, and why; a sentence."""


@dataclass(frozen=True, slots=True)
class LogRange:
    """Where one log begins and ends: oldest seq still stored, newest."""

    first: int
    last: int


def full_name(name: str) -> str:
    """``hub`` as people say it is ``upstream/hub`` as it is stored."""
    return name if "/" in name else UPSTREAM + name


def positions_for(
    order: Order,
    held: ConsumerView,
    backlog: ConsumerView | None,
    lines: LogRange,
    *,
    configured: bool,
    target: int | None = None,
) -> tuple[Position, ...]:
    """What to commit for a consumer and the ``backlog`` beside it, None without one; the rest is as
    in `position_for`.

    Raises:
        OrderRefused: it makes no sense, or would do harm.
    """
    if backlog is None:
        return (position_for(order, held, lines, configured=configured, target=target),)
    first, end = backlog.span
    parts = ((backlog, LogRange(lines.first, end)), (held, LogRange(end + 1, lines.last)))
    made: list[Position] = []
    refused: OrderRefused | None = None
    for part, own in parts:
        try:
            made.append(position_for(order, part, own, configured=configured, target=target))
        except OrderRefused as error:
            refused = error
    if refused is not None and not made:
        raise refused
    if order not in ("rewind", "skip"):
        return tuple(made)
    # A keyed upstream is to see no key again that either lane has used.
    moves = max(moves_of(held.state), moves_of(backlog.state)) + 1
    by_name = {one.consumer: one for one in made}
    for part, _ in parts:
        known = by_name.get(part.consumer)
        if known is None:
            state = with_moves(part.state, moves)
            by_name[part.consumer] = Position(part.consumer, part.log, part.floor, state)
        else:
            by_name[part.consumer] = replace(known, state=moved(part.state, moves))
    back = by_name[backlog.consumer]
    if back.rewind:
        by_name[backlog.consumer] = replace(back, span=(min(first, back.floor + 1), end))
    return tuple(by_name.values())


def position_for(
    order: Order,
    held: ConsumerView,
    lines: LogRange,
    *,
    configured: bool,
    target: int | None = None,
) -> Position:
    """What to commit; ``target`` is the seq to be sent next, for rewind and skip.

    Raises:
        OrderRefused: it makes no sense, or would do harm.
    """
    name, log = held.consumer, held.log
    if order == "forget":
        if configured:
            raise OrderRefused(f"{name} is configured; take it out of the configuration first")
        return Position(name, log, 0, order="forget")
    if not name.startswith(UPSTREAM):
        raise OrderRefused(
            f"{name} is a rule: only what goes upstream can be paused, rewound or skipped"
        )
    if order in ("pause", "resume"):
        return Position(name, log, 0, order=order)
    assert target is not None
    if order == "rewind":
        floor = max(target, lines.first) - 1
        if floor >= held.floor:
            raise OrderRefused(
                f"{name} in log {log} stands at {held.floor}, records are there from"
                f" {lines.first} on: there is nothing between to send again"
            )
        return Position(name, log, floor, moved(held.state), rewind=True)
    floor = min(target - 1, lines.last)
    if floor <= held.floor:
        raise OrderRefused(
            f"{name} in log {log} stands at {held.floor}, the log ends at {lines.last}: there is"
            " nothing between to skip"
        )
    return Position(name, log, floor, moved(held.state), order="skip")
