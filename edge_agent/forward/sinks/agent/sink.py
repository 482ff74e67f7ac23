"""The WebSocket sink has a session with another agent's ``/forward``: exactly once.

What a session is and why nothing is lost or doubled over its breaks: `edge_agent.wire`, "Agent to
agent", ``resume.py`` (how it begins again), ``messages.py`` (what is sent), ``connection.py`` (the
connection). Here they are put together, and one rule lives: ranges without a record are held back
to go with the next records, at most `EMPTY_S`, so that a filter that takes nothing still moves
the position.

Clock notes are told in messages of their own, all that the hub is not known to have. They are known
to have arrived once a number is acknowledged that was sent behind them; the number of the newest
such note is kept with the position. A note that nothing was sent behind is told again at the start
of the next session, which costs both sides a message.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import trio
from msgspec import msgpack, structs

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import CredentialFiles
from edge_agent.forward.sink import (
    Acknowledged,
    Batch,
    ClockNews,
    LaneResume,
    Part,
    Resumed,
    SinkParts,
)
from edge_agent.forward.sinks.agent.connection import AgentConnection, ForwardHello
from edge_agent.forward.sinks.agent.link_speed import LEAST_BYTES, MESSAGE_S
from edge_agent.forward.sinks.agent.messages import (
    MESSAGE_BYTES,
    Message,
    Packer,
    note_messages,
    segments_of,
)
from edge_agent.forward.sinks.agent.resume import (
    Greeting,
    HubState,
    greet,
    history_of,
    hub_state,
    judge_welcome,
    source_name,
)
from edge_agent.session import Window
from edge_agent.values.stream_names import compile_patterns
from edge_agent.wire import FORWARD_MESSAGE_BYTES

EMPTY_S = 10.0
#: Messages that became smaller over connections that broke grow again after so many acks …
_ACKS_TO_GROW = 32
#: … and shrink no further than to one block each: 256 KiB >> 12 is less than any.
_HALVINGS_MAX = 13
_TOO_OLD = "this hub would store twice what it has: it needs a newer version of the agent"


class WebSocketSink:
    """One log's session with one hub.

    Args:
        upstream: its configuration.
        log: name of the log.
        identity: who we are, for the source's name and the origin of blocks.
        dial: opens byte streams.
        clock: for a ``Retry-After`` that names a date.
        run_blocking: where a batch is looked into, cut and packed, and files are read, a
            millisecond or two each.
        news: clock notes to tell; None tells none.
    """

    def __init__(self, parts: SinkParts) -> None:
        self._upstream, self._log, self._identity = parts.upstream, parts.log, parts.identity
        self._dial, self._clock, self._news = parts.dial, parts.clock, parts.news
        self._run_blocking = parts.run_blocking
        self._matches = compile_patterns(parts.upstream.streams)
        self._files = CredentialFiles(parts.upstream)
        self._link: AgentConnection | None = None
        self._part: Part = "live"
        self._packer = Packer()
        # Packing and sending are one step, or messages would overtake one another.
        self._sending = trio.Lock()
        self._held_back = trio.Event()
        #: Connections in a row that broke with something sent and nothing acknowledged.
        self._fruitless = 0
        self._state: HubState | None = None
        #: (what was handed over before, number of the last note), not known to have arrived.
        self._told: deque[tuple[int, int]] = deque()

    @property
    def keyed(self) -> bool:
        """The hub numbers records, not batches."""
        return False

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Connect and agree where to go on; at most two hellos (``resume.py``).

        Raises:
            SinkUnavailable: not now.
        """
        identity = self._identity = resume.identity or self._identity
        self._part = resume.part
        own_epoch = identity.epoch
        name, resends = self._upstream.name, resume.part == "resend"
        source = source_name(identity.agent_id, name, self._log, identity.lane, resume.part)
        history = history_of(identity, name, self._log, resume)
        said = greet(resume, own_epoch, identity.lane)
        credentials = await self._run_blocking(self._files.read)
        for _ in range(2):
            link = self._link = AgentConnection(
                self._upstream, self._dial, self._clock, credentials
            )
            words = (resends, said.moved, said.bridged)
            hello = ForwardHello(source, said.epoch, said.first, history, *words)
            answer = await nursery.start(link.run, hello)
            if hello.resends and not answer.welcome.resends:
                raise SinkUnavailable(_TOO_OLD, slow=True, obstacle="there")
            judged = judge_welcome(
                said, answer.epoch, answer.next, resume, own_epoch,
                lane=identity.lane, forked=answer.forked, bridged=answer.welcome.bridged,
            )  # fmt: skip
            if isinstance(judged, Resumed) and judged.forked:
                await link.aclose()
                return judged
            if not isinstance(judged, Greeting):
                self._packer = Packer(link.message_bytes or FORWARD_MESSAGE_BYTES)
                self._sending, self._held_back = trio.Lock(), trio.Event()
                nursery.start_soon(self._flush_in_time)
                self._state = hub_state(judged.state or resume.state)
                self._told.clear()
                if self._news is not None and self._state is not None:
                    # A hub that has lost records has lost notes, too.
                    noted = self._state.noted if judged.next > resume.floor else 0
                    nursery.start_soon(self._tell_clocks, self._news, noted)
                return judged
            await link.aclose()
            said = judged
        text = "the hub's numbers do not follow from what it is told"
        raise SinkUnavailable(text, obstacle="there")

    async def send(self, batch: Batch) -> Acknowledged:
        """Hand over the batch; waits while `QUEUE_BYTES` of earlier ones wait for the window.

        Raises:
            SinkUnavailable: the connection has ended.
        """
        link = self._opened()
        async with self._sending:
            window = link.window
            most = min(window.bytes, int(self._upstream.in_flight_bytes))
            self._packer.fit(Window(window.records, most), self._message_bytes())
            for message in await self._run_blocking(self._packed, batch):
                await link.transmit(message)
        if self._packer.holds_back:
            self._held_back.set()
        return self._noting(link.take())

    async def settle(self, floor: int) -> Acknowledged:
        """Wait until more than ``floor`` is acknowledged, or a record was refused for good."""
        link = self._opened()
        await link.wait_past(floor)
        return self._noting(link.take())

    @property
    def drained(self) -> bool:
        """Whether every record handed over is acknowledged."""
        return self._link is None or not self._link.owes_records

    async def aclose(self) -> None:
        """Close the connection, two seconds at most."""
        link, self._link = self._link, None
        if link is not None:
            if link.acks:
                self._fruitless = max(0, self._fruitless - 1 - link.acks // _ACKS_TO_GROW)
            elif link.sent:
                self._fruitless = min(self._fruitless + 1, _HALVINGS_MAX)
            await link.aclose()

    def _message_bytes(self) -> int:
        """What a message should have: what the link takes in a while (``link_speed.py``), and half
        as much for each connection in a row, from the second on, that broke before anything was
        acknowledged; twice as much again once they last.
        """
        link = self._opened()
        most = min(MESSAGE_BYTES, link.speed.message_bytes)
        if cap := int(self._upstream.bytes_per_second):
            most = min(most, max(cap * MESSAGE_S, LEAST_BYTES))
        return int(most) >> max(0, self._fruitless - 1 - link.acks // _ACKS_TO_GROW)

    async def _flush_in_time(self) -> None:
        while True:
            await self._held_back.wait()
            await trio.sleep(EMPTY_S)
            self._held_back = trio.Event()
            async with self._sending:
                message = self._packer.flush()
                if message is not None:
                    await self._opened().transmit(message)

    async def _tell_clocks(self, news: ClockNews, noted: int) -> None:
        while True:
            await news.wait_clocks(noted)
            async with self._sending:
                link = self._opened()
                newest, notes = news.clock_notes(noted)
                for number, message in note_messages(notes, link.handed, self._identity):
                    await link.transmit(message)
                    self._told.append((message.last, number))
                noted = newest

    def _noting(self, acknowledged: Acknowledged) -> Acknowledged:
        """With the state to keep, where clock notes are known to have arrived."""
        noted = 0
        while self._told and acknowledged.upto > self._told[0][0]:
            noted = self._told.popleft()[1]
        if not noted or self._state is None:
            return acknowledged
        self._state = structs.replace(self._state, noted=noted)
        return replace(acknowledged, state=msgpack.encode(self._state))

    def _packed(self, batch: Batch) -> list[Message]:
        segments = segments_of(
            batch, self._identity, self._matches, historical=self._part != "live"
        )
        return list(self._packer.add(segments))

    def _opened(self) -> AgentConnection:
        if self._link is None:
            raise SinkUnavailable("the sink is closed")
        return self._link


def make(parts: SinkParts) -> WebSocketSink:
    """The sink of a ``ws`` or ``wss`` upstream."""
    return WebSocketSink(parts)
