"""Keeps which records the agent has acknowledged, from one connection to the next. Pure.

Own numbers count what was handed over, from 1; the number on the wire is ``own + shift``. The
rules by which a welcome is read are those of PROTOCOL, "Epoch":

- First contact: the agent says where its numbering of this source stands, and ours is laid
  behind it (or, ``numbered``, is the same).
- The epoch we know: everything before ``next`` is durable. If that is further than we ever got,
  somebody else sends under our name, and what we hold is laid behind it. The same where the agent
  says that what it has is of another history (`edge_agent.session.has_forked`): the buffer, or the
  one that sent before, is a copy.
- Another epoch: the agent's store is new. Numbering starts at the oldest record that we still
  have, and everything that we still have is sent again. Rather twice than lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.session import (
    CLOSE_TAKEN_OVER,
    CLOSE_TOO_BIG,
    CLOSE_UNDECODABLE,
    History,
    Resume,
    ToldLimits,
)

#: What is assumed until a welcome tells.
_USUAL = ToldLimits(message_bytes=1024 * 1024, record_bytes=64 * 1024, batch_records=10_000)


@dataclass(slots=True)
class ProducerPosition:
    """See the module. Numbers are the producer's own unless said otherwise.

    Attributes:
        numbered: own numbers are the wire's; the shift is 0.
        epoch: of the agent's store, None before first contact.
        shift: wire number less own number.
        sent_below: everything before this may have reached the agent.
        done_below: everything before this is durable there, or refused for good.
        singly_below: everything before this is sent one record a message, because a message
            that held it was refused as a whole.
        limits: the agent's, as last told.
    """

    numbered: bool = False
    epoch: str | None = None
    shift: int = 0
    sent_below: int = 1
    done_below: int = 1
    singly_below: int = 1
    limits: ToldLimits = _USUAL
    # Nacks told and not yet acked, so that one that comes again after a resend is told once.
    _told: set[int] = field(default_factory=set)

    def greeting(self, first: int) -> tuple[str | None, int | None, int]:
        """``(epoch, first, held)`` for `ClientSession.hello`, when ``first`` is the oldest record
        still kept (or the next one's number).
        """
        if self.epoch is None:
            return None, None, 0
        # Held counts only what can have been sent: a `next` beyond that is not ours.
        return self.epoch, max(1, first + self.shift), max(0, self.sent_below - first)

    def history(
        self, first: int, opening: str, before: Sequence[tuple[str, int]]
    ) -> History | None:
        """What the agent is told of the buffer's openings, in the wire's numbers; ``first`` as in
        `greeting`. None where own numbers are the wire's: whoever sends them sends the same.
        """
        if self.numbered:
            return None
        told = tuple((known, max(1, following + self.shift)) for known, following in before)
        return History(opening, max(1, first + self.shift), told)

    def welcome(self, resume: Resume, first: int) -> str:
        """Read a welcome; why numbering could not simply go on, as a sentence, or ""."""
        known, self.epoch = self.epoch, resume.epoch
        told = ""
        if resume.epoch_changed:
            told = f"the agent has another store than before; sending again from number {first}"
            self._told.clear()
        if self.numbered:
            # Whoever else sent these numbers sent the same records: the same lines of the file.
            self.done_below = max(first, resume.next)
        elif resume.renumber:
            if resume.forked:
                told = (
                    "the agent has other records under these numbers: the buffer is a copy, or"
                    f" another producer uses this source; sent again, behind those, from {first} on"
                )
            elif known is not None and not resume.epoch_changed:
                told = "another producer uses this source; numbering goes on behind what it sent"
            self.shift = resume.next - first
            self.done_below = first
        else:
            self.done_below = first + resume.drop
        # Where numbering went on, what left on an earlier connection keeps its number.
        before = first if told or known is None else self.sent_below
        self.sent_below = max(self.done_below, before)
        limits = resume.welcome.limits
        self.limits = ToldLimits(
            limits.message_bytes or _USUAL.message_bytes,
            limits.record_bytes or _USUAL.record_bytes,
            limits.batch_records or _USUAL.batch_records,
        )
        return told

    def sending(self, number: int, count: int) -> None:
        """``count`` records from ``number`` on are about to leave."""
        self.sent_below = max(self.sent_below, number + count)

    def ack(self, wire_next: int) -> None:
        """Everything before ``wire_next`` is done."""
        self.done_below = max(self.done_below, wire_next - self.shift)
        self._told = {number for number in self._told if number >= self.done_below}

    def nack(self, wire_number: int) -> int | None:
        """The own number that a nack is about; None where it was told before."""
        number = wire_number - self.shift
        if number in self._told:
            return None
        self._told.add(number)
        return number

    def closed(self, code: int) -> None:
        """The agent closed with ``code``: after an unusable message, go singly past it; after a
        takeover, count what was not acked as not sent.
        """
        if code in (CLOSE_UNDECODABLE, CLOSE_TOO_BIG):
            self.singly_below = self.sent_below
        elif code == CLOSE_TAKEN_OVER:
            # All that it took from us it acked before it closed, unless its disk was slow. The
            # numbers that follow are the other one's: were they taken for ours, records of ours
            # would count as durable that nobody has.
            self.sent_below = self.done_below
