"""A session of another agent that is told only of what the bridging upstream has.

Where no upstream bridges (`edge_agent.bridge`) it is a session like any other. Where one does, all
by which a hub tells an agent that it has something waits for that upstream:

- An ack waits (`bridged_acks`). So does one about records that were stored before and left out
  now: they may be newer here than there.
- The welcome says what is here of the source, so the hello waits until the upstream has what the
  log has at that moment. It does not wait for ever: an agent whose hub has no engine keeps its
  records anyway, and is asked to come back.
- Where that upstream is sent everything, the welcome says ``bridged``, and the agent keeps that
  with its position: to another hub that bridges, or to one whose store is new, it need not send
  again what was acknowledged. So a session that was welcomed so never gets another kind of ack. If
  the bridge is taken away, or is sent less than everything, it ends.

Sensors wait for nothing of this. They hold a few records in memory: kept waiting for an engine that
is away they would lose what the disk here could have kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_agent.commit import Ticket
from edge_agent.errors import StoreFailed
from edge_agent.server.acks import Owed
from edge_agent.server.bridged_acks import BridgedAcks
from edge_agent.server.closing import NotNow
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.session import SessionBase
from edge_agent.server.websocket import WebSocket
from edge_agent.session import Hello, Mode, ResumePoint
from edge_agent.store import Entry, Stored
from edge_agent.wire import WireLimits

#: How long a hello waits for the bridging upstream: less than any sender's deadline.
BRIDGE_S = 3.0
#: How long its sender waits then, up to twice as long.
LATER_S = 5.0
#: How soon to come back where acks have another meaning now.
_ANEW_S = 1.0
#: In the place of a ticket, which would keep its records in memory until then.
_TOLD_LATER = Ticket(Entry())
_BEHIND = (
    "upstream {} does not have all yet that is stored here, and acknowledgements wait for that"
    " (bridge): keep what you have"
)
_NO_BRIDGE = "acknowledgements wait for no upstream any more (bridge): say hello again"


class BridgedSession(SessionBase):
    """See the module."""

    def __init__(
        self, socket: WebSocket, parts: Parts, visitor: Visitor, *, mode: Mode, limits: WireLimits
    ) -> None:
        super().__init__(socket, parts, visitor, mode=mode, limits=limits)
        #: None where no upstream has bridged in this session.
        self._held_acks: BridgedAcks | None = None
        self._is_over = False
        socket.on_unclogged = self._unclogged

    async def run(self) -> None:
        """From hello to the last answer."""
        try:
            await super().run()
        finally:
            if self._held_acks is not None:
                self._held_acks.close()

    async def _not_yet(self, hello: Hello) -> NotNow | None:
        bridge, log = self._parts.bridge, self._parts.log
        if not bridge.upstream:
            return None
        try:
            copied = hello.history is not None and hello.history.copied
            is_known = bool(copied) or await log.next_of(self._source) > 0
        except StoreFailed as refusal:
            return self._parts.not_now(refusal)
        # That of others, too: who brought what is not known after a start, and together it is
        # seconds' worth, as none of them is acknowledged either.
        if is_known and not await bridge.passed(self._all_marks(), BRIDGE_S):
            wait = LATER_S * self._parts.random.uniform(1, 2)
            return NotNow("busy", wait, _BEHIND.format(bridge.upstream))
        self._is_bridged = bridge.is_whole
        return None

    async def _resume_point(self, hello: Hello, epoch: str, known: int) -> ResumePoint:
        point = await super()._resume_point(hello, epoch, known)
        if not (self._is_bridged and hello.bridged and hello.history is not None):
            return point
        if hello.epoch in (None, epoch):
            return point
        # What another store acknowledged has gone where this one would send it.
        return replace(point, next=max(point.next, hello.history.done))

    def tell(self, done: Sequence[Owed]) -> None:
        """Nacks and the ack, at once or when the bridging upstream has what they are about."""
        bridge = self._parts.bridge
        if self._held_acks is None:
            if not (bridge.upstream or self._is_bridged):
                super().tell(done)
                return
            self._held_acks = BridgedAcks(bridge, self._parts.teller, self, self._session.acked)
        marks: dict[str, int] = {}
        for owed in done:
            answer = owed.ticket.answer
            assert isinstance(answer, Stored), "only what is stored is told"
            if answer.duplicates or self._leaves_out:
                # Of what was left out nobody knows where it is, but that it is.
                marks = self._all_marks()
            for name, seq in answer.last.items():
                marks[name] = max(seq, marks.get(name, 0))
        self._held_acks.hold(done[-1].upto, marks)

    def tell_now(self, upto: int) -> None:
        """As `tell`, for `BridgedAcks`."""
        # Once an ack was dropped no later one may stand for it.
        self._is_over |= self._is_bridged and not self._parts.bridge.is_whole
        if not self._is_over:
            super().tell((Owed(_TOLD_LATER, upto),))
        elif self._not_now is None:
            self._not_now = NotNow("busy", self._parts.random.uniform(0, _ANEW_S), _NO_BRIDGE)
            self._socket.interrupt("refused")

    async def _answered(self) -> None:
        await super()._answered()
        if self._held_acks is not None:
            await self._held_acks.told()

    def _unclogged(self) -> None:
        self._answers.due()
        if self._held_acks is not None:
            self._held_acks.due()

    def _all_marks(self) -> dict[str, int]:
        log = self._parts.log
        return {name: log.last_seq(name) for name in log.names()}
