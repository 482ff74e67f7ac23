"""This module takes in the messages of other agents on ``/forward``.

Blocks are stored as they came, under the numbering of ``$forward/AGENT/UPSTREAM/LOG/LANE`` (no
sensor can name a source that begins with ``$``). Before that each one is looked at:

- Its structure, elsewhere than in the event loop, one call for all blocks that came together: they
  are decompressed for that (``store/format/foreign.py`` says what it costs). What fails goes to
  quarantine and its numbers are used up, because it would fail again.
- Its path. ``Origin.path`` holds the ids of all agents that the block has passed, its origin
  first; `edge_agent.wire` refuses one with more than eight. Our own id in it is a loop: the block
  is dropped, acked and counted. We store the path as it came; our own id is added by our forwarder
  when it sends the block on.

- Its origin. What blocks of which agents an identity may bring is said in `source_owners`. From the
  first one that it may not on, nothing is taken: a stop says so, and the sender keeps it all until
  a person has decided. Streams that the token does not allow are left out, counted, and nacked, as
  a sensor's are: any sensor can choose them, and shall not hold up what others send.

Clock notes are stored before the blocks that they came with, under the agent that they are about,
unless that is us, belongs to another identity, or they say nothing new or nothing possible. Our own
forwarders pass them on.

**A backlog** does not wait for the commit interval. The interval spares the disk: a commit writes
some 35 KB however little it holds. An agent that has `BACKLOG_BYTES` in flight brings ten times
that, so its blocks are wanted soon, and those that come within `BACKLOG_S` of it too. Else the end
of every backlog, and each window smaller than a full group, would wait a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace

import trio
from msgspec import structs

from edge_agent.commit import Closed, Ticket
from edge_agent.errors import ProtocolError, StoreFailed, StoreFull
from edge_agent.server.acks import Owed
from edge_agent.server.bridged_session import BridgedSession
from edge_agent.server.closing import NotNow, Refused
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.held_records import HeldRecords, TooManyRanges
from edge_agent.server.session import Taken
from edge_agent.server.websocket import WebSocket
from edge_agent.session import Hello
from edge_agent.store import (
    AGENT_PREFIX,
    FORBIDDEN_RETRY_S,
    LANE_PREFIX,
    Binding,
    Entry,
    Numbering,
    Quarantined,
    check_payload,
    foreign_stream,
    without_runs,
)
from edge_agent.values.clock_note import BOOT_NS_MAX, ClockNote
from edge_agent.values.record import DAY_S, ForeignBlock
from edge_agent.values.value_count import RECORD_VALUES
from edge_agent.wire import FORWARD_MESSAGE_BYTES, ReceivedSegments, Segment

#: What a session has in flight is worth a commit of its own.
BACKLOG_BYTES = 256 * 1024
#: The last blocks of a backlog come this soon behind those before them.
BACKLOG_S = 0.2
#: How blocks that came back to us are counted among the records that were left out.
LOOP = "$loop"
_Judged = tuple[ForeignBlock | None, ProtocolError | None]
#: An agent that comes this way is noted as seen once a day, so that it is not forgotten.
CLAIM_S = DAY_S
#: How long a sender waits whose order somebody has to change.
_TOO_MANY_S = 3600.0
_TOO_MANY = "too much of it is here in too many pieces: order a shorter time, or fewer streams"
#: Faults of single records in a block that its sender is told of, as it keeps them.
_TOLD = ("forbidden_stream", "too_many_values")
_CROWDED = (
    "a record of {!r} has more than {} values (limits.record_values) and stays where it comes from:"
    " raise the limit here, then have it sent once more (edge-agent upstream resend)"
)
_OWN_ID = (
    "{!r} is the id of the agent that it sends to: its upstream is itself, or its store a copy"
    " of the other one's"
)
_WRONG_PATH = "a block's path has to begin with the agent that it is of and end with {!r}"


class AgentSession(BridgedSession):
    """Segments become blocks. Looking at them may wait, so messages are taken, list by list."""

    _begins_anew = True

    def __init__(self, socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
        told = replace(parts.wire_limits, message_bytes=FORWARD_MESSAGE_BYTES)
        super().__init__(socket, parts, visitor, mode="msgpack", limits=told)
        self._room = trio.Event()
        self._backlog_until = 0.0
        self._agent = ""
        #: What any agent takes with usual limits is taken here, whatever is asked of sensors.
        self._values_max = max(told.record_values, RECORD_VALUES)
        #: Agents that are known to belong to this identity, and since when.
        self._claimed: dict[str, float] = {}
        #: Of a sender that sends once more what may be here; None of any other.
        self._held: HeldRecords | None = None

    def _source_of(self, hello: Hello) -> str:
        """Where this agent's numbers for one upstream, log and lane are kept."""
        if len(hello.source.split("/")) != 4:
            raise ProtocolError(
                "bad_source", f"expected AGENT/UPSTREAM/LOG/LANE, got {hello.source!r}", 1002
            )
        self._agent = hello.source.partition("/")[0]
        if self._agent == self._own:
            # All its blocks would be taken as some that came back: acked, and kept nowhere else.
            raise ProtocolError("forbidden_origin", _OWN_ID.format(self._agent), 1008)
        if hello.resends:
            self._held, self._leaves_out = HeldRecords(self._parts.log, self._agent), True
        return LANE_PREFIX + hello.source

    async def _whose(self) -> Binding | None:
        if self._owner is None:
            return None
        refusal = (await self._claim({self._agent})).get(self._agent)
        if refusal is not None:
            raise refusal
        owner = await self._parts.log.owner_of(self._source)
        # The agent is this identity's, and so are its lanes, whosever they were.
        return None if owner == self._owner else Binding(owner, self._parts.owners.share)

    async def _claim(self, agents: AbstractSet[str]) -> dict[str, ProtocolError | StoreFull]:
        """Let agents belong to this identity, durably; why some do not."""
        log, owners, now = self._parts.log, self._parts.owners, trio.current_time()
        refused: dict[str, ProtocolError | StoreFull] = {}
        tickets: dict[str, Ticket] = {}
        for agent in agents if self._owner is not None else ():
            since = self._claimed.get(agent)
            if since is not None and now - since < CLAIM_S:
                continue
            source = AGENT_PREFIX + agent
            try:
                owner = await log.owner_of(source) if agent.isascii() else None
                over = owners.judge_agent(self._visitor.grant, agent, owner)
            except ProtocolError as error:
                refused[agent] = error
                continue
            binding = Binding(over, owners.share)
            entry = Entry(numbering=Numbering(source, 1, 1, False, self._owner, binding))
            # One that is ours already is only noted as seen.
            is_news = owner != self._owner
            ticket = await log.append(entry, lazy=not is_news, soon=is_news)
            self._claimed[agent] = now
            if is_news:
                tickets[agent] = ticket
        for agent, ticket in tickets.items():
            try:
                await ticket.wait()
            except StoreFull as error:
                del self._claimed[agent]
                refused[agent] = error
        return refused

    async def _copied_next(self, source: str) -> int:
        # It may speak of lanes of the agent that it is, as far as they are this identity's.
        log, lane = self._parts.log, LANE_PREFIX + source
        if source.partition("/")[0] != self._agent:
            return 0
        if self._owner is not None and await log.owner_of(lane) not in (None, self._owner):
            return 0
        copied_next, _ = await log.history_of(lane)
        return copied_next

    async def _read(self, messages: list[str | bytes]) -> None:
        rates, name = self._parts.rates, self._visitor.grant.name
        while messages or (messages := await self._socket.take()):
            if self._is_over_rate():
                return
            # Reading segments and notes is seldom less than a turn's work.
            await self._parts.turns.take()
            begin = self._session.number
            try:
                taken = await self._look_at(messages)
            except (StoreFailed, Closed) as refusal:
                self._hold(begin, refusal)
                return
            except TooManyRanges:
                self._session.take_back(begin)
                self._not_now = NotNow("busy", _TOO_MANY_S, _TOO_MANY)
                self._socket.interrupt("refused")
                return
            rates.charge(name, taken.records, trio.current_time())
            await self._append(taken, soon=self._is_backlog())
            if self._not_now is not None:
                return
            if self._session.failure is not None:
                unread = messages[taken.messages]
                self._unreadable = unread if isinstance(unread, bytes) else unread.encode()
                return
            messages = []
            await self._wait_room()

    def _go_on(self) -> None:
        self._room.set()

    async def _wait_room(self) -> None:
        while not self._session.has_room and self._socket.end is None:
            self._room = trio.Event()
            with self._socket.until_end():
                await self._room.wait()

    async def _look_at(self, messages: Sequence[str | bytes]) -> Taken:
        """Read the segments, look at each block, keep what may be kept."""
        received = self._session.receive_segments(messages)
        notes = [note for note in received.notes if note.boot_ns <= BOOT_NS_MAX]
        blocks_in = [segment.block for segment in received.segments if segment.block is not None]
        origins = {block.origin.agent for block in blocks_in if not self._is_loop(block)}
        refused = await self._claim(origins | {note.agent for note in notes} - {self._own})
        await self._keep_notes([note for note in notes if note.agent not in refused], received)
        received = self._rightful(received, refused)
        found = [segment.block for segment in received.segments if segment.block is not None]
        thinned = sum(map(_thinned, received.segments))
        if thinned:
            self._parts.metrics.add("received_thinned_total", thinned)
        blocks: list[ForeignBlock] = []
        quarantine: list[Quarantined] = []
        if self._held is not None:
            await self._held.look([block for block in found if not self._is_loop(block)])
        judged = await self._parts.run_blocking(self._judged, found) if found else []
        for block, (kept, fault) in zip(found, judged, strict=True):
            if self._is_loop(block):
                self._parts.metrics.add("records_dropped_total", block.count, LOOP)
                continue
            blocks += [] if kept is None else [kept]
            if self._held is not None and fault is None:
                known = block.count - (0 if kept is None else kept.count)
                self._parts.metrics.add("records_duplicate_total", known)
            if fault is not None:
                quarantine.append(self._quarantined(block, fault))
            if fault is not None and fault.code in _TOLD:
                self._session.refuse(block.first, fault.code, fault.message)
        return Taken(
            (),
            tuple(blocks),
            tuple(quarantine),
            received.messages,
            received.numbers,
            sum(block.count for block in found),
            received.size,
        )

    def _rightful(
        self, received: ReceivedSegments, refused: Mapping[str, ProtocolError | StoreFull]
    ) -> ReceivedSegments:
        """What stands before the first block that this identity may not bring."""
        for index, segment in enumerate(received.segments if self._owner is not None else ()):
            block = segment.block
            if block is None or self._is_loop(block):
                continue
            why: ProtocolError | StoreFull | None = refused.get(block.origin.agent)
            if block.origin.path[:1] != (block.origin.agent,) or (
                block.origin.path[-1:] != (self._agent,)
            ):
                why = ProtocolError("forbidden_origin", _WRONG_PATH.format(self._agent))
            if why is not None:
                begin = self._session.number - received.numbers
                self._hold(segment.first, why)
                return replace(
                    received, segments=received.segments[:index], numbers=segment.first - begin
                )
        return received

    def _hold(self, number: int, why: ProtocolError | Refused) -> None:
        """Take nothing from ``number`` on: the sender keeps it and comes back."""
        self._session.take_back(number)
        if isinstance(why, ProtocolError):
            self._not_now = NotNow("forbidden_origin", FORBIDDEN_RETRY_S, why.message)
        else:
            self._not_now = self._parts.not_now(why)
        self._socket.interrupt("refused")

    def _judged(self, blocks: Sequence[ForeignBlock]) -> list[_Judged]:
        """What can be used of each block, and why not all of it. Not for the event loop."""
        return [self._allowed(block) for block in blocks]

    def _allowed(self, block: ForeignBlock) -> _Judged:
        agent = block.origin.agent
        try:
            checked = check_payload(
                block.codec, block.raw_len, block.payload, block.count, self._values_max
            )
        except ProtocolError as error:
            return None, error
        crowded = checked.crowded
        wrong = sorted(
            one for one in checked.streams if not self._may_pass(foreign_stream(one, agent))
        )
        fault = None
        if wrong:
            fault = ProtocolError(
                "forbidden_stream",
                f"the token {self._owner!r} does not allow writing {wrong[0]!r}",
            )
        if crowded:
            told = _CROWDED.format(next(iter(crowded.values())), self._values_max)
            fault = ProtocolError("too_many_values", told)
        kept: ForeignBlock | None = block
        if fault is not None:
            kept = without_runs(
                block, lambda place, stream: place not in crowded and stream not in wrong
            )
        if self._held is not None and kept is not None:
            kept = self._held.lacking(kept)
        return kept, fault

    def _may_pass(self, stream: str) -> bool:
        if self._owner is None:
            return True
        if stream.startswith("$agents/"):
            return stream.split("/")[1] in self._claimed
        may_pass = self._visitor.grant.may_pass
        return may_pass is None or may_pass(stream)

    async def _keep_notes(self, notes: Sequence[ClockNote], received: ReceivedSegments) -> None:
        log = self._parts.log
        news = [
            structs.replace(note, owner=self._owner) for note in notes if note.agent != self._own
        ]
        if not (news and (news := log.clock_news(news))):
            return
        try:
            ticket = await log.append(Entry(clocks=tuple(news)))
        except Closed:
            self._socket.interrupt("closing")
        else:
            # Owed although it takes no number: what comes after it is acked after it.
            self._answers.owe(Owed(ticket, self._session.number - received.numbers))
            # Notes are few where nothing is wrong, and each costs the store as much as a block:
            # what came with them waits for their commit, so that no flood of them gathers.
            with self._socket.until_end(), suppress(StoreFull, StoreFailed):
                await ticket.wait()

    def _is_backlog(self) -> bool:
        """Whether what is appended now should be committed soon."""
        now = trio.current_time()
        if self._session.bytes_in_flight >= BACKLOG_BYTES:
            self._backlog_until = now + BACKLOG_S
        return now < self._backlog_until

    @property
    def _own(self) -> str:
        return self._parts.log.identity.agent_id

    def _is_loop(self, block: ForeignBlock) -> bool:
        own = self._own
        return own == block.origin.agent or own in block.origin.path

    def _quarantined(self, block: ForeignBlock, reason: ProtocolError) -> Quarantined:
        now_ns, source = self._parts.clock.read().wall_ns, self._source
        return Quarantined(
            reason.code, reason.message, "", source, block.first, now_ns, block.payload[:4096]
        )


def _thinned(segment: Segment) -> int:
    """Records that its sender had to thin before we had them."""
    if segment.block is not None:
        return segment.block.thinned
    return segment.last - segment.first + 1 if segment.reason == "thinned" else 0


def serve_forward(socket: WebSocket, parts: Parts, visitor: Visitor) -> Awaitable[None]:
    """One agent's session, from hello to the last answer."""
    return AgentSession(socket, parts, visitor).run()
