"""This module decides how a session with another agent begins again after a break. Pure.

The numbers of a forward session are this log's seqs. What the hub says about them (``next``)
means something only within the hub's epoch, and only for the store that gave the seqs out. So

- the hub's epoch is kept, durably and before the first record is sent, as the consumer's state.
  The hub, for its part, makes a numbering that starts anew durable before it says welcome, so
  that a break at any moment finds both sides agreed, or neither;
- the epoch of our own store is kept beside it: a store that was salvaged counts on, but may give
  numbers a second time that the hub has seen.

=========================== ===================== ================================================
we remember                 hello says            the hub answers
=========================== ===================== ================================================
nothing                     first held            that number: begin there
the hub's epoch             epoch, first held     its ``next``: go on there; below our floor it has
                                                  lost data; another epoch: it has lost everything
the hub's epoch, from a     floor + 1             that number, if its epoch is the remembered one;
store of ours since lost                          otherwise greet again from the first held
the hub's epoch, and that   epoch, first held     from another epoch, if it bridges as well:
it bridges                                        floor + 1
the hub's epoch, under      epoch, first held,    where it has what was acknowledged: floor + 1; or
another lane (a copy)       that lane             where that ends, if it was set back itself
that a person moved the     floor + 1             that number, whatever its epoch: sent again, or
floor, or that divided                            never, as ordered; or by the other lane
the log (`moved`)
=========================== ===================== ================================================

Whether the hub's ``next`` counts records of this very history is for the hub to tell, from the
openings of our store (`history_of`, `edge_agent.session.has_forked`). Where it does not, or counts
more than there ever was here, this store is a copy, or one that lost its end: it takes another
epoch, and goes on behind its floor under another source (`source_name`), so that a living original
keeps its numbers.

A hub that **bridges** (`edge_agent.bridge`) acknowledges only what is with its upstream, so that
nothing is lost with its store. From which number on it does is kept in the state: while anything is
held here that was acknowledged before, all that is held is sent to a hub that has nothing.

**Two lanes.** While a backlog is sent beside newer records (`edge_agent.forward.lanes.split`) each
is a source of its own, ``…/backlog`` and ``…/live``. A lane takes up nothing below its base: a hub
that has lost everything is greeted again from there, as what is below is the other lane's.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.batches.plan import MovedState, again_of, moves_of
from edge_agent.forward.sink import LaneResume, Part, Resumed
from edge_agent.session import History
from edge_agent.store import Identity


class HubState(MovedState, array_like=True, frozen=True):
    """The consumer's state; ``lane`` is that of the source that was agreed on (`source_name`).
    ``bridged``: what was acknowledged above that number is with the hub's upstream; -1 for nothing.
    """

    lane: str = ""
    bridged: int = -1

    def is_promised(self, first: int) -> bool:
        """Whether all that was acknowledged and is held, from ``first`` on, is with it."""
        return 0 <= self.bridged < first


@dataclass(frozen=True, slots=True)
class Greeting:
    """What to say in hello; ``state`` is what that is based on."""

    epoch: str | None
    first: int
    state: HubState | None

    @property
    def moved(self) -> bool:
        """Whether it begins where it does on purpose, and nothing before that is missing."""
        return self.epoch is None and self.state is not None and self.state.moved

    @property
    def bridged(self) -> bool:
        """Whether a hub that bridges need not be sent what was acknowledged."""
        return (
            self.epoch is not None and self.state is not None and self.state.is_promised(self.first)
        )


_decoder = msgspec.msgpack.Decoder(HubState)


def hub_state(state: bytes | None) -> HubState | None:
    """What is stored; None for nothing yet, or where the upstream was of another kind before."""
    try:
        return _decoder.decode(state or b"")
    except msgspec.MsgspecError:
        return None


def source_name(agent_id: str, upstream: str, log: str, lane: str = "", part: Part = "live") -> str:
    """The name of this session's source at the hub; the last part is the lane, and for a store that
    was a copy says which one.
    """
    return f"{agent_id}/{upstream}/{log}/{part}" + (f"-{lane}" if lane else "")


def history_of(identity: Identity, upstream: str, log: str, resume: LaneResume) -> History | None:
    """What the hub is told of our store's openings; None where nothing is known of them."""
    if not identity.opening:
        return None
    before = tuple((opening, last + 1) for opening, last in identity.ends.get(log, ()))
    state, copied = hub_state(resume.state), ""
    if state is not None and state.lane != identity.lane:
        copied = source_name(identity.agent_id, upstream, log, state.lane, resume.part)
    return History(identity.opening, resume.floor + 1, before, copied)


def moved(state: bytes | None, moves: int | None = None) -> bytes:
    """The state of a consumer whose floor a person moves: what was agreed on does not hold.

    The plan of a keyed upstream ends with it too; new ranges are cut from the new floor on, and
    their keys are new. ``moves``: how often that was, where one more than before is not it.
    """
    known = hub_state(state) or HubState("", "")
    moves, again = moves_of(state) + 1 if moves is None else moves, again_of(state)
    now = HubState(known.hub, known.own, True, moves=moves, again=again, lane=known.lane)
    return msgspec.msgpack.encode(now)


def greet(resume: LaneResume, own_epoch: str, lane: str = "") -> Greeting:
    """The first hello of a connection, under ``lane``."""
    state = hub_state(resume.state)
    if state is None:
        return Greeting(None, _lowest(resume), None)
    if state.moved or (state.own != own_epoch and state.lane == lane):
        return Greeting(None, max(resume.first, resume.floor + 1), state)
    return Greeting(state.hub, resume.first, state)


def judge_welcome(
    said: Greeting,
    epoch: str,
    next_number: int,
    resume: LaneResume,
    own_epoch: str,
    *,
    lane: str = "",
    forked: bool = False,
    bridged: bool = False,
) -> Resumed | Greeting:
    """Where to go on, or what to say in a second hello on a new connection.

    Raises:
        SinkUnavailable: the answer does not follow from what was said.
    """
    kept = _kept_promise(said, epoch, next_number, resume) if bridged else None
    since = (next_number - 1 if bridged else -1) if kept is None else kept
    state = msgspec.msgpack.encode(HubState(epoch, own_epoch, lane=lane, bridged=since))
    if said.epoch == epoch:
        # Going on would drop our records as duplicates of others.
        if next_number > resume.last + 1:
            return Resumed(next_number, forked="an upstream has records that were never here")
        if forked:
            return Resumed(next_number, forked="an upstream has other records under its numbers")
        is_new = said.state is not None and (
            said.state.own != own_epoch or said.state.bridged != since
        )
        return Resumed(next_number, state if is_new else None)
    if kept is not None:
        # What was acknowledged is where this hub would bring it.
        return Resumed(next_number, state)
    if next_number != said.first:
        text = f"the hub wants number {next_number} after a hello from {said.first}"
        raise SinkUnavailable(text, obstacle="there")
    if said.state is None:
        return Resumed(next_number, state)
    if next_number <= resume.base:
        return Greeting(None, _lowest(resume), None)
    if said.state.moved:
        return Resumed(next_number, state)
    if said.epoch is None and said.state.hub != epoch and said.first > resume.first:
        return Greeting(None, _lowest(resume), None)
    # What it had of the records before `first` is gone at both ends.
    gap = next_number - 1 - resume.base if said.state.hub != epoch else 0
    return Resumed(next_number, state, gap)


def _kept_promise(said: Greeting, epoch: str, next_number: int, resume: LaneResume) -> int | None:
    """Since which number a promise holds with which this hub goes on; None for none."""
    state = said.state
    if state is None or state.bridged < 0:
        return None
    goes_on = state.is_promised(resume.first) and next_number == resume.floor + 1
    return state.bridged if goes_on or said.epoch == epoch else None


def _lowest(resume: LaneResume) -> int:
    """Where to begin at a hub that has nothing."""
    return max(resume.first, resume.base + 1)
