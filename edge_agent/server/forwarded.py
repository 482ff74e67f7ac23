"""Other agents: what the messages of ``/forward`` mean.

Blocks are stored as they came, under the numbering of ``$forward/AGENT/UPSTREAM/LOG/LANE`` (no
sensor can name a source that begins with ``$``). Before that each one is looked at:

- Its structure, elsewhere than in the event loop, one call for all blocks that came together: they
  are decompressed for that (``store/foreign.py`` says what it costs). What fails goes to
  quarantine and its numbers are used up, because it would fail again.
- Its path. ``Origin.path`` holds the ids of all agents that the block has passed, its origin
  first; `edge_agent.wire` refuses one with more than eight. Our own id in it is a loop: the block
  is dropped, acked and counted. We store the path as it came; our own id is added by our forwarder
  when it sends the block on.

Clock notes are stored before the blocks that they came with, under the agent that they are about,
unless that is us or they say nothing new. Our own forwarders pass them on.

**A backlog** does not wait for the commit interval. The interval spares the disk: a commit writes
some 26 KB however little it holds. An agent that has `BACKLOG_BYTES` in flight brings ten times
that, so its blocks are wanted soon, and those that come within `BACKLOG_S` of it too. Else the end
of every backlog, and each window smaller than a full group, would wait a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import trio

from edge_agent.commit import Closed
from edge_agent.errors import ProtocolError
from edge_agent.record import ForeignBlock
from edge_agent.server.answers import Owed
from edge_agent.server.parts import Parts, Visitor
from edge_agent.server.session import SessionBase, Taken
from edge_agent.server.websocket import WebSocket
from edge_agent.store import Entry, Quarantined, check_payload
from edge_agent.wire import FORWARD_MESSAGE_BYTES, Hello, ReceivedSegments, Segment, WireLimits

SOURCE_PREFIX = "$forward/"
#: What a session has in flight is worth a commit of its own.
BACKLOG_BYTES = 256 * 1024
#: The last blocks of a backlog come this soon behind those before them.
BACKLOG_S = 0.2
#: How blocks that came back to us are counted among the records that were left out.
LOOP = "$loop"


class AgentSession(SessionBase):
    """Segments become blocks. Looking at them may wait, so messages are taken, list by list."""

    _begins_anew = True

    def __init__(self, socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
        limits = parts.wire_limits
        told = WireLimits(
            FORWARD_MESSAGE_BYTES, limits.record_bytes, limits.record_depth, limits.batch_records
        )
        super().__init__(socket, parts, visitor, mode="msgpack", limits=told)
        self._room = trio.Event()
        self._backlog_until = 0.0

    def _source_of(self, hello: Hello) -> str:
        """Where this agent's numbers for one upstream, log and lane are kept."""
        if len(hello.source.split("/")) != 4:
            raise ProtocolError(
                "bad_source", f"expected AGENT/UPSTREAM/LOG/LANE, got {hello.source!r}", 1002
            )
        return SOURCE_PREFIX + hello.source

    def _copied_from(self, source: str) -> str:
        return SOURCE_PREFIX + source

    async def _read(self, messages: list[str | bytes]) -> None:
        rates, name = self._parts.rates, self._visitor.grant.name
        while messages or (messages := await self._socket.take()):
            if self._is_over_rate():
                return
            taken = await self._look_at(messages)
            rates.charge(name, taken.records, trio.current_time())
            await self._append(taken, soon=self._is_backlog())
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
        await self._keep_notes(received)
        found = [segment.block for segment in received.segments if segment.block is not None]
        thinned = sum(map(_thinned, received.segments))
        if thinned:
            self._parts.metrics.add("received_thinned_total", thinned)
        blocks: list[ForeignBlock] = []
        quarantine: list[Quarantined] = []
        faults = await self._parts.run_blocking(_faults, found) if found else []
        for block, fault in zip(found, faults, strict=True):
            if self._is_loop(block):
                self._parts.metrics.add("records_dropped_total", block.count, LOOP)
                continue
            if fault is None:
                blocks.append(block)
            else:
                quarantine.append(self._quarantined(block, fault))
        return Taken(
            (),
            tuple(blocks),
            tuple(quarantine),
            received.messages,
            received.numbers,
            sum(block.count for block in found),
            received.size,
        )

    async def _keep_notes(self, received: ReceivedSegments) -> None:
        log = self._parts.log
        news = [note for note in received.notes if note.agent != log.identity.agent_id]
        if not (news and (news := log.clock_news(news))):
            return
        try:
            ticket = await log.append(Entry(clocks=tuple(news)))
        except Closed:
            self._socket.interrupt("closing")
        else:
            # Owed although it takes no number: what comes after it is acked after it.
            self._answers.owe(Owed(ticket, self._session.number - received.numbers))

    def _is_backlog(self) -> bool:
        """Whether what is appended now should be committed soon."""
        now = trio.current_time()
        if self._session.bytes_in_flight >= BACKLOG_BYTES:
            self._backlog_until = now + BACKLOG_S
        return now < self._backlog_until

    def _is_loop(self, block: ForeignBlock) -> bool:
        own = self._parts.log.identity.agent_id
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


def _faults(blocks: Sequence[ForeignBlock]) -> list[ProtocolError | None]:
    return [_fault(block) for block in blocks]


def _fault(block: ForeignBlock) -> ProtocolError | None:
    try:
        check_payload(block.codec, block.raw_len, block.payload, block.count)
    except ProtocolError as error:
        return error
    return None


def serve_forward(socket: WebSocket, parts: Parts, visitor: Visitor) -> Awaitable[None]:
    """One agent's session, from hello to the last answer."""
    return AgentSession(socket, parts, visitor).run()
