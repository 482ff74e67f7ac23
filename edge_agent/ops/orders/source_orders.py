"""Orders about sources: to move one to another identity, or to forget it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from edge_agent.forward import OrderRefused
from edge_agent.store import AGENT_PREFIX, LANE_PREFIX, SourceOrder, SourceView
from edge_agent.values.record import format_time

AGENT, LANE = "agent:", "lane:"

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


class SourceMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``to``: the identity that a source is moved to; ``agent``: as in `ConsumerOrder`."""

    order: Literal["move", "forget"]
    source: _Name
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    keep_numbers: bool = False
    agent: str | None = None


def told_source(view: SourceView) -> dict[str, Any]:
    """A source as JSON and ``source list`` show it."""
    return {
        "source": said(view.name),
        "owner": view.owner,
        "next": view.next,
        "last_heard": format_time(view.seen_ns) if view.seen_ns else None,
    }


def said(name: str) -> str:
    """A source as people say it."""
    for prefix, word in ((AGENT_PREFIX, AGENT), (LANE_PREFIX, LANE)):
        if name.startswith(prefix):
            return word + name.removeprefix(prefix)
    return name


def meant(given: SourceMove, there: Sequence[SourceView]) -> list[SourceView]:
    """What a person means, of what is ``there``; an agent comes with its lanes.

    Raises:
        OrderRefused: there is no such source, or it cannot be moved like that.
    """
    name = given.source
    if given.order == "move" and given.to is None:
        raise OrderRefused("move needs an identity: the name of a token")
    if name.startswith((LANE, "$")):
        agent = name.removeprefix(LANE).removeprefix(LANE_PREFIX).partition("/")[0]
        raise OrderRefused(f"a lane goes with its agent: {AGENT}{agent}")
    own, lanes = name, ""
    if name.startswith(AGENT):
        agent = name.removeprefix(AGENT)
        own, lanes = AGENT_PREFIX + agent, f"{LANE_PREFIX}{agent}/"
    found = [one for one in there if one.name == own or (lanes and one.name.startswith(lanes))]
    if found and all(one.name != own for one in found):
        # Lanes of before there were owners: the agent is theirs, too.
        found.append(SourceView(own, 1, 0, synced=False, owner=None))
    if not found:
        raise OrderRefused(f"there is no source {name}; `edge-agent source list` shows them all")
    return found


def orders_for(given: SourceMove, chosen: Sequence[SourceView]) -> tuple[SourceOrder, ...]:
    """What to commit."""
    return tuple(SourceOrder(one.name, given.order, given.to, given.keep_numbers) for one in chosen)
