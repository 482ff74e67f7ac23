"""One connection, against a hub whose every word the test decides, under a clock that jumps."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from edge_agent.config import Upstream
from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import CredentialFiles
from edge_agent.forward.sink import Acknowledged
from edge_agent.forward.sinks.agent.connection import (
    ACK_S,
    PING_S,
    QUEUE_BYTES,
    AgentConnection,
    ForwardHello,
)
from edge_agent.forward.sinks.agent.messages import Message
from edge_agent.net.dial import Dial
from edge_agent.session import (
    MSGPACK_SESSION,
    Ack,
    Nack,
    Resume,
    Stop,
    Welcome,
    Window,
    decode_hello,
    encode_control,
)
from edge_agent.wire import Segment, encode_segments
from tests.forward.support import upstream
from tests.manual_clock import ManualClock

Clock = trio.testing.MockClock
HELLO = ForwardHello("a1/hub/main/live", "hubs", 5)


def link_to(config: Upstream, dial: Dial) -> AgentConnection:
    return AgentConnection(config, dial, ManualClock(), CredentialFiles(config).read())


@dataclass
class Hub:
    """The far side of one connection."""

    nursery: trio.Nursery
    subprotocol: str | None = MSGPACK_SESSION
    window: Window = field(default_factory=lambda: Window(1000, 100_000))
    next: int = 5
    said: list[Any] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    path: str = ""
    reject: int = 0
    is_welcoming: bool = True
    got: list[str | bytes] = field(default_factory=list)
    socket: WebSocketConnection | None = None
    stream: Any = None

    async def dial(self, host: str, port: int, context: ssl.SSLContext | None) -> trio.abc.Stream:
        ours, self.stream = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.serve)
        return ours

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, self.stream)
            self.headers, self.path = request.headers, request.path
            if self.reject:
                await request.reject(self.reject, body=b"no")
                return
            socket = self.socket = await request.accept(subprotocol=self.subprotocol)
            try:
                self.said.append(decode_hello(await socket.get_message()))
                if self.is_welcoming:
                    await self.say(Welcome("hubs", self.next, self.window))
                while True:
                    self.got.append(await socket.get_message())
            except ConnectionClosed:
                pass

    async def say(self, what: Welcome | Ack | Nack | Stop) -> None:
        assert self.socket is not None
        await self.socket.send_message(encode_control(what, "msgpack"))


@asynccontextmanager
async def connected(**more: Any) -> AsyncIterator[tuple[AgentConnection, Hub, trio.Nursery]]:
    """A link that is welcome at a hub; whatever ends it is left to the test."""
    settings = {
        name: more.pop(name)
        for name in ("in_flight_bytes", "timeout", "token_file")
        if name in more
    }
    async with trio.open_nursery() as hubs:
        hub = Hub(hubs, **more)
        config = upstream("ws://hub.example:8765/forward", **settings)
        link = link_to(config, hub.dial)
        async with trio.open_nursery() as nursery:
            resume = await nursery.start(link.run, HELLO)
            assert isinstance(resume, Resume) and resume.next == hub.next
            yield link, hub, nursery
            await link.aclose()
        hubs.cancel_scope.cancel()


def message(first: int, last: int, records: int = 1, pad: int = 1) -> Message:
    segments = [Segment(first, last, "filtered") if pad == 1 else Segment(first, last, "trimmed")]
    return Message(first, last, records, encode_segments(segments) + bytes(0))


async def test_the_hello_and_what_is_sent_arrive_and_acks_count(autojump_clock: Clock) -> None:
    async with connected() as (link, hub, _):
        assert (hub.said[0].source, hub.said[0].epoch, hub.said[0].first) == (
            HELLO.source, "hubs", 5,
        )  # fmt: skip
        assert hub.path == "/forward"
        await link.transmit(message(5, 7, 3))
        await link.transmit(message(8, 8, 1))
        await trio.testing.wait_all_tasks_blocked()
        assert len(hub.got) == 2 and link.take() == Acknowledged(4)
        await hub.say(Ack(8))
        await link.wait_past(4)
        assert link.take() == Acknowledged(7, 3, len(hub.got[0]))
        await hub.say(Ack(9))
        await link.wait_past(7)
        assert link.take() == Acknowledged(8, 1, len(hub.got[1]))


@pytest.mark.parametrize(
    "url, host, port, is_tls",
    [
        ("ws://hub.example:8765/forward", "hub.example", 8765, False),
        ("ws://hub.example/forward", "hub.example", 80, False),
        ("wss://hub.example", "hub.example", 443, True),
        ("wss://[::1]:9/x/forward", "::1", 9, True),
    ],
)
async def test_the_url_says_where_and_whether_with_tls(
    url: str, host: str, port: int, is_tls: bool
) -> None:
    async def dial(*where: Any) -> trio.abc.Stream:
        dialled.append(where)
        raise OSError("seen enough")

    dialled: list[Any] = []
    with pytest.raises(SinkUnavailable, match="seen enough"):
        await link_to(upstream(url), dial).run(HELLO)
    ((to_host, to_port, context),) = dialled
    assert (to_host, to_port, isinstance(context, ssl.SSLContext)) == (host, port, is_tls)


async def test_the_token_goes_into_a_header(autojump_clock: Clock, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    async with connected(token_file=str(token)) as (_, hub, _):
        assert (b"authorization", b"Bearer s3cret") in hub.headers


async def test_no_more_is_sent_than_the_hubs_window_allows(autojump_clock: Clock) -> None:
    async with connected(window=Window(4, 100_000)) as (link, hub, nursery):
        await link.transmit(message(5, 7))
        nursery.start_soon(link.transmit, message(8, 9))
        await trio.sleep(20)
        assert len(hub.got) == 1
        await hub.say(Ack(8))
        await trio.testing.wait_all_tasks_blocked()
        assert len(hub.got) == 2


async def test_no_more_is_sent_than_our_own_bound_allows(autojump_clock: Clock) -> None:
    async with connected(in_flight_bytes=30) as (link, hub, nursery):
        await link.transmit(message(5, 7))
        nursery.start_soon(link.transmit, message(8, 9))
        nursery.start_soon(link.transmit, message(10, 11))
        size = len(message(5, 7).data)
        await trio.sleep(1)
        assert len(hub.got) == 30 // size < 3
        await hub.say(Ack(8))
        await trio.testing.wait_all_tasks_blocked()
        assert len(hub.got) == 30 // size + 1
        await hub.say(Ack(10))
        await trio.testing.wait_all_tasks_blocked()


async def test_what_waits_for_the_window_goes_in_order_and_its_sender_reads_on_meanwhile(
    autojump_clock: Clock,
) -> None:
    async with connected(window=Window(2, 100_000)) as (link, hub, _):
        messages = [message(first, first + 1) for first in range(5, 15, 2)]
        for one in messages:
            await link.transmit(one)
        await trio.testing.wait_all_tasks_blocked()
        for index, one in enumerate(messages):
            assert hub.got == [sent.data for sent in messages[: index + 1]]
            assert link.owes_records
            await hub.say(Ack(one.last + 1))
            await trio.testing.wait_all_tasks_blocked()
        assert not link.owes_records and link.take().records == 5


async def test_no_more_waits_for_the_window_than_is_read_ahead(autojump_clock: Clock) -> None:
    big = replace(message(8, 9), data=bytes(QUEUE_BYTES))
    async with connected(window=Window(3, 10**9)) as (link, hub, nursery):
        await link.transmit(message(5, 7))
        await link.transmit(big)
        handed_over = trio.Event()

        async def hand_over() -> None:
            await link.transmit(message(10, 11))
            handed_over.set()

        nursery.start_soon(hand_over)
        await trio.testing.wait_all_tasks_blocked()
        assert not handed_over.is_set()
        await hub.say(Ack(8))
        await handed_over.wait()


async def test_a_stop_lets_nothing_out_that_still_waits(autojump_clock: Clock) -> None:
    with unavailable():
        async with connected(window=Window(3, 10**9)) as (link, hub, _):
            await link.transmit(message(5, 7))
            await link.transmit(message(8, 9))
            await trio.testing.wait_all_tasks_blocked()
            await hub.say(Stop("store_full", 12.5, "the log main is full"))
            await hub.say(Ack(8, Window(100, 10**9)))
            await trio.testing.wait_all_tasks_blocked()
            assert len(hub.got) == 1
            await trio.sleep(inf)


async def test_a_closed_link_takes_nothing(autojump_clock: Clock) -> None:
    async with connected() as (link, _, _):
        await link.aclose()
        with pytest.raises(SinkUnavailable, match="closed"):
            await link.transmit(message(5, 7))


async def test_a_refused_record_is_told_though_nothing_new_is_acknowledged(
    autojump_clock: Clock,
) -> None:
    async with connected() as (link, hub, _):
        await link.transmit(message(5, 7))
        await trio.testing.wait_all_tasks_blocked()
        await hub.say(Nack(5, "bad_block", "not a payload"))
        await link.wait_past(4)
        acknowledged = link.take()
        assert acknowledged.refused == 1 and "bad_block: not a payload" in acknowledged.refusal
        assert acknowledged.upto == 4 and link.take().refused == 0


@contextmanager
def unavailable() -> Iterator[list[SinkUnavailable]]:
    """The link inside ends; the list then holds why."""
    found: list[SinkUnavailable] = []
    try:
        yield found
    except ExceptionGroup as group:
        found.append(only(group))
    else:
        pytest.fail("the link did not end")


def only(group: ExceptionGroup) -> SinkUnavailable:
    error: Any = group
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, SinkUnavailable)
    return error


async def test_a_stop_ends_it_after_the_last_acks(autojump_clock: Clock) -> None:
    began = trio.current_time()
    acked = []
    with unavailable() as found:
        async with connected() as (link, hub, _):
            await link.transmit(message(5, 7))
            await hub.say(Stop("store_full", 12.5, "the log main is full"))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(SinkUnavailable, match="store_full"):
                await link.transmit(message(8, 9))
            await hub.say(Ack(8))
            await link.wait_past(4)
            acked.append(link.take().upto)
            await trio.sleep(inf)
    error = found[0]
    assert error.retry_after == 12.5 and "store_full" in str(error)
    assert acked == [7] and trio.current_time() - began < 5


async def test_a_connection_that_is_reset_ends_it_at_once(autojump_clock: Clock) -> None:
    began = trio.current_time()
    with unavailable() as found:
        async with connected() as (_, hub, _):
            await trio.aclose_forcefully(hub.stream)
            await trio.sleep(inf)
    assert "closed" in str(found[0])
    assert trio.current_time() == began


async def test_a_silent_network_is_noticed_by_pings_that_nobody_answers(
    autojump_clock: Clock,
) -> None:
    async def dial(*_: object) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        kept.append(theirs)
        nursery.start_soon(answer_upgrade, theirs)
        return ours

    async def answer_upgrade(stream: Any) -> None:
        async with trio.open_nursery() as readers:
            request = await wrap_server_stream(readers, stream)
            socket = await request.accept(subprotocol=MSGPACK_SESSION)
            await socket.get_message()
            await socket.send_message(encode_control(Welcome("h", 5, Window(9, 9)), "msgpack"))
            # The cable is cut: bytes go into the void, none come.
            readers.cancel_scope.cancel()

    kept: list[Any] = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        link = link_to(upstream("ws://h/forward", timeout=20.0), dial)
        with pytest.raises(SinkUnavailable, match="not heard for 50 s"):
            await link.run(HELLO)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(PING_S + 20 + PING_S, abs=PING_S)


async def test_a_hub_that_answers_pings_is_kept_at_rest(autojump_clock: Clock) -> None:
    async with connected() as (link, _, _):
        await trio.sleep(3600)
        await link.transmit(message(5, 7))


async def test_a_hub_that_never_acknowledges_is_given_up(autojump_clock: Clock) -> None:
    began = trio.current_time()
    with unavailable() as found:
        async with connected() as (link, _, _):
            await link.transmit(message(5, 7))
            await trio.sleep(inf)
    assert "nothing was acknowledged" in str(found[0])
    assert ACK_S <= trio.current_time() - began < ACK_S + 70


async def test_what_answers_but_is_no_agent_needs_a_person(autojump_clock: Clock) -> None:
    error = await refused_hello(subprotocol=None)
    assert "not an edge agent" in str(error) and error.slow


async def test_no_token_is_told_and_needs_a_person(autojump_clock: Clock) -> None:
    error = await refused_hello(reject=401)
    assert "HTTP 401" in str(error) and error.slow


async def test_a_hub_that_never_welcomes_is_given_up_at_the_deadline(
    autojump_clock: Clock,
) -> None:
    began = trio.current_time()
    assert "within 30 s" in str(await refused_hello(is_welcoming=False))
    assert trio.current_time() - began == pytest.approx(30, abs=0.1)


async def refused_hello(timeout: float = 30.0, **more: Any) -> SinkUnavailable:
    """Why a hello came to nothing."""
    errors: list[SinkUnavailable] = []
    async with trio.open_nursery() as hubs:
        hub = Hub(hubs, **more)
        link = link_to(upstream("ws://hub/forward", timeout=timeout), hub.dial)
        try:
            await link.run(HELLO)
        except SinkUnavailable as error:
            errors.append(error)
        hubs.cancel_scope.cancel()
    return errors[0]


async def test_an_unreachable_hub(autojump_clock: Clock) -> None:
    async def dial(*_: object) -> trio.abc.Stream:
        raise OSError(111, "Connection refused")

    link = link_to(upstream("ws://hub/forward"), dial)
    with pytest.raises(SinkUnavailable, match="refused"):
        await link.run(HELLO)


async def test_a_hub_that_breaks_the_protocol_ends_the_link_and_nothing_else(
    autojump_clock: Clock,
) -> None:
    with unavailable() as found:
        async with connected() as (_, hub, _):
            await hub.say(Ack(99))
            await trio.sleep(inf)
    assert "ack of 99" in str(found[0])


async def test_closing_is_polite_and_may_be_repeated(autojump_clock: Clock) -> None:
    async with connected() as (link, hub, nursery):
        began = trio.current_time()
        await link.aclose()
        assert trio.current_time() == began
        await link.aclose()
        assert hub.socket is not None
        reason = hub.socket.closed
        assert reason is not None and reason.code == 1000
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_a_hub_that_hangs_up_during_the_upgrade_is_noticed_at_once(
    autojump_clock: Clock,
) -> None:
    async def dial(host: str, port: int, context: ssl.SSLContext | None) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.aclose()
        return ours

    began = trio.current_time()
    link = link_to(upstream("ws://hub:1/forward"), dial)
    with pytest.raises(SinkUnavailable, match=r"(hung up|reset) during the upgrade"):
        await link.run(HELLO)
    assert trio.current_time() - began < 1
