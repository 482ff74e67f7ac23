"""This table says which event leads a forwarder from which phase to which.

=========== ======= =========== ======= ======= ========= ======= ======
phase       records unavailable refused retry   drained   gave_up held
=========== ======= =========== ======= ======= ========= ======= ======
CAUGHT_UP   SENDING BACKING_OFF –       –       CAUGHT_UP –       PAUSED
SENDING     SENDING BACKING_OFF HALVING –       CAUGHT_UP STOPPED PAUSED
BACKING_OFF –       –           –       SENDING –         –       PAUSED
HALVING     SENDING BACKING_OFF –       –       CAUGHT_UP STOPPED PAUSED
STOPPED     –       –           –       SENDING –         –       PAUSED
PAUSED      –       BACKING_OFF –       SENDING –         –       PAUSED
=========== ======= =========== ======= ======= ========= ======= ======

CAUGHT_UP: the upstream has acknowledged everything there is. SENDING: something is on its way,
or a connection for it is being made. BACKING_OFF: waiting after a failure. HALVING: the upstream
refused a batch for its content and the bad record is being looked for. STOPPED: it refused so
many single records in a row, and those of other streams that were tried (``diagnosis.py``), that
the configuration must be wrong; a person is needed. A restart of the agent tries again, as does
resuming it, and the first record of a stream that was not tried. PAUSED: a person has paused it, or
is moving its position at this moment, or no window of its upstream is open.

A mistake of ours leads to BACKING_OFF from everywhere; it is no event.

An event that the table does not name is our own mistake: `next_phase` raises and nothing changes.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where a forwarder is; the values are the words that status shows."""

    CAUGHT_UP = "caught up"
    SENDING = "sending"
    BACKING_OFF = "backing off"
    HALVING = "halving"
    STOPPED = "stopped"
    PAUSED = "paused"


#: How BACKING_OFF shows where waiting alone does not help: a person has to do something.
HELD = "held"
#: How PAUSED shows where nobody but the time of day has to do anything.
WAITING = "waiting"


class Event(Enum):
    """What can happen to it."""

    RECORDS = "there is something to send"
    UNAVAILABLE = "the upstream cannot take anything now"
    REFUSED = "the upstream refuses this batch for its content"
    RETRY = "the wait is over"
    DRAINED = "the upstream has acknowledged everything"
    GAVE_UP = "too many single records refused in a row"
    HELD = "a person holds it"


TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.CAUGHT_UP: {
        Event.RECORDS: Phase.SENDING,
        Event.UNAVAILABLE: Phase.BACKING_OFF,
        Event.DRAINED: Phase.CAUGHT_UP,
        Event.HELD: Phase.PAUSED,
    },
    Phase.SENDING: {
        Event.RECORDS: Phase.SENDING,
        Event.UNAVAILABLE: Phase.BACKING_OFF,
        Event.REFUSED: Phase.HALVING,
        Event.DRAINED: Phase.CAUGHT_UP,
        Event.GAVE_UP: Phase.STOPPED,
        Event.HELD: Phase.PAUSED,
    },
    Phase.BACKING_OFF: {
        Event.RETRY: Phase.SENDING,
        Event.HELD: Phase.PAUSED,
    },
    Phase.HALVING: {
        Event.RECORDS: Phase.SENDING,
        Event.UNAVAILABLE: Phase.BACKING_OFF,
        Event.DRAINED: Phase.CAUGHT_UP,
        Event.GAVE_UP: Phase.STOPPED,
        Event.HELD: Phase.PAUSED,
    },
    Phase.STOPPED: {
        Event.RETRY: Phase.SENDING,
        Event.HELD: Phase.PAUSED,
    },
    Phase.PAUSED: {
        Event.HELD: Phase.PAUSED,
        Event.UNAVAILABLE: Phase.BACKING_OFF,
        Event.RETRY: Phase.SENDING,
    },
}


def next_phase(phase: Phase, event: Event) -> Phase:
    """Where ``event`` leads from ``phase``.

    Raises:
        AssertionError: the table does not allow it.
    """
    following = TRANSITIONS[phase].get(event)
    if following is None:
        raise AssertionError(f"a forwarder that is {phase.value} cannot have: {event.value}")
    return following
