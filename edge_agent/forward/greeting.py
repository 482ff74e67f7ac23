"""How a session with another agent begins again after a break. Pure.

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
that a person moved the     floor + 1             that number, whatever its epoch: sent again, or
floor (`moved`)                                   never, as ordered
=========================== ===================== ================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.plan import Again, again_of, moves_of
from edge_agent.forward.sink import Resume, Resumed


class HubState(msgspec.Struct, array_like=True, frozen=True):
    """The consumer's state: the epochs of both stores when the numbering was agreed on, whether a
    person has moved the floor since, and the number of our newest clock note that the hub is known
    to have. ``moves``, how often they have, and ``again`` are for keyed upstreams
    (`edge_agent.forward.plan`).
    """

    hub: str
    own: str
    moved: bool = False
    noted: int = 0
    moves: int = 0
    again: list[Again] = []


@dataclass(frozen=True, slots=True)
class Greeting:
    """What to say in hello; ``state`` is what that is based on."""

    epoch: str | None
    first: int
    state: HubState | None


_decoder = msgspec.msgpack.Decoder(HubState)


def hub_state(state: bytes | None) -> HubState | None:
    """What is stored; None for nothing yet, or where the upstream was of another kind before."""
    try:
        return _decoder.decode(state or b"")
    except msgspec.MsgspecError:
        return None


def source_name(agent_id: str, upstream: str, log: str) -> str:
    """The name of this session's source at the hub; the last part is the lane."""
    return f"{agent_id}/{upstream}/{log}/live"


def moved(state: bytes | None) -> bytes:
    """The state of a consumer whose floor a person moves: what was agreed on does not hold.

    The plan of a keyed upstream ends with it too; new ranges are cut from the new floor on, and
    their keys are new.
    """
    known = hub_state(state) or HubState("", "")
    moves, again = moves_of(state) + 1, again_of(state)
    now = HubState(known.hub, known.own, True, moves=moves, again=again)
    return msgspec.msgpack.encode(now)


def greet(resume: Resume, own_epoch: str) -> Greeting:
    """The first hello of a connection."""
    state = hub_state(resume.state)
    if state is None:
        return Greeting(None, resume.first, None)
    if state.own != own_epoch or state.moved:
        return Greeting(None, max(resume.first, resume.floor + 1), state)
    return Greeting(state.hub, resume.first, state)


def judge_welcome(
    said: Greeting, epoch: str, next_number: int, resume: Resume, own_epoch: str
) -> Resumed | Greeting:
    """Where to go on, or what to say in a second hello on a new connection.

    Raises:
        SinkUnavailable: the answer does not follow from what was said.
    """
    state = msgspec.msgpack.encode(HubState(epoch, own_epoch))
    if said.epoch == epoch:
        if next_number > resume.last + 1:
            # It counts records that this store never had. Going on would drop ours as duplicates.
            return Greeting(None, resume.floor + 1, None)
        return Resumed(next_number)
    if next_number != said.first:
        raise SinkUnavailable(f"the hub wants number {next_number} after a hello from {said.first}")
    if said.state is None:
        return Resumed(next_number, state)
    if said.state.moved:
        return Resumed(next_number, state)
    if said.epoch is None and said.state.hub != epoch and said.first > resume.first:
        return Greeting(None, resume.first, None)
    # What it had of the records before `first` is gone at both ends.
    gap = next_number - 1 if said.state.hub != epoch else 0
    return Resumed(next_number, state, gap)
