"""One WebSocket: lists in, messages out, one end, no exceptions of the library's."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from edge_agent.server.fair_turns import Turns
from edge_agent.server.handshake import Upgrade, read_head
from edge_agent.server.keepalive import SilenceWatch
from edge_agent.server.websocket import Guarded, WebSocket
from tests.patience import PATIENCE_S
from tests.server.frames import CLOSE, CONTINUATION, PING, TEXT, frame

Pump = Callable[[WebSocket], Awaitable[None]]


class Pair:
    """A server's `WebSocket` with a pump, and the library's client at the other end."""

    def __init__(self, pump: Pump, *, idle_timeout: float = 60, limit: int = 10_000) -> None:
        self.ours, self.theirs = trio.testing.memory_stream_pair()
        self.silence = SilenceWatch(idle_timeout)
        self.turns = Turns()
        self.socket = WebSocket(
            self.ours,
            idle_timeout=idle_timeout,
            limit=limit,
            silence=self.silence,
            turns=self.turns,
            on_closed=self._closed,
        )
        self.closed = 0
        self.pump = pump
        self.done = trio.Event()

    def _closed(self) -> None:
        self.closed += 1

    async def serve(self) -> None:
        upgrade = await read_head(self.ours, what_this_is="")
        assert isinstance(upgrade, Upgrade)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.silence.run)
            nursery.start_soon(self.turns.run)
            await self.socket.run(upgrade.head(None), upgrade.early, None, self.pump)
            nursery.cancel_scope.cancel()
        self.done.set()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[WebSocketConnection]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve)
            yield await wrap_client_stream(
                nursery,
                self.theirs,  # type: ignore[arg-type]  # the library means sockets, takes any stream
                "localhost",
                "/",
            )
            await self.theirs.aclose()
            with trio.fail_after(300):
                await self.done.wait()
            nursery.cancel_scope.cancel()


async def test_what_came_while_the_pump_was_busy_comes_as_one_list() -> None:
    taken: list[list[str | bytes]] = []
    go = trio.Event()

    async def pump(socket: WebSocket) -> None:
        await go.wait()
        while messages := await socket.take():
            taken.append(messages)

    pair = Pair(pump)
    async with pair.client() as client:
        for text in ("a", "b", "c"):
            await client.send_message(text)
        await client.send_message(b"d")
        await trio.testing.wait_all_tasks_blocked()
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [["a", "b", "c", b"d"]]
        await client.send_message("e")
        await trio.testing.wait_all_tasks_blocked()
        assert taken[1:] == [["e"]]


async def test_a_push_that_raises_ends_its_own_connection_with_what_it_raised() -> None:
    async def pump(socket: WebSocket) -> None:
        def push(messages: list[str | bytes]) -> bool:
            raise ValueError("a bug")

        socket.divert(push)
        with socket.until_end():
            await trio.sleep(math.inf)
        await socket.close(1011, "", 0.1)

    pair = Pair(pump)
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="a bug"), flatten_subgroups=True):
        async with pair.client() as client:
            await client.send_message("x")
            await pair.done.wait()


async def test_a_violation_is_answered_with_a_close_frame() -> None:
    async def pump(socket: WebSocket) -> None:
        while await socket.take():
            pass
        await socket.close(1000, "because", 1)

    pair = Pair(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        await pair.theirs.send_all(frame(TEXT, b"\xff"))
        answer = await pair.theirs.receive_some(100)
        assert answer == b"\x88\x09" + (1007).to_bytes(2, "big") + b"because"
        await pair.theirs.aclose()
        await pair.done.wait()


@pytest.mark.parametrize(
    "payload, code",
    [
        (b"\x03", 1002),
        ((999).to_bytes(2, "big"), 1002),
        ((1005).to_bytes(2, "big"), 1002),
        ((1016).to_bytes(2, "big"), 1002),
        ((5000).to_bytes(2, "big"), 1002),
        ((1000).to_bytes(2, "big") + b"\xff", 1007),
    ],
)
async def test_a_faulty_close_frame_is_answered_with_a_close_frame(
    payload: bytes, code: int
) -> None:
    async def pump(socket: WebSocket) -> None:
        while await socket.take():
            pass
        assert (socket.end, socket.violation) == ("protocol", code)
        await socket.close(1000, "", 1)

    pair = Pair(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        await pair.theirs.send_all(frame(CLOSE, payload))
        with trio.fail_after(PATIENCE_S):
            assert await pair.theirs.receive_some(100) == b"\x88\x02" + code.to_bytes(2, "big")
        await pair.theirs.aclose()
        await pair.done.wait()


@pytest.mark.parametrize("code", [1000, 1002, 1007])
async def test_a_close_frame_that_is_right_is_answered_once_whatever_it_says(code: int) -> None:
    async def pump(socket: WebSocket) -> None:
        while await socket.take():
            pass
        assert (socket.end, socket.violation) == ("peer", None)
        await socket.close(1000, "", 1)

    pair = Pair(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        await pair.theirs.send_all(frame(CLOSE, code.to_bytes(2, "big")))
        with trio.fail_after(PATIENCE_S):
            said = b"".join([one async for one in pair.theirs])
        assert said == b"\x88\x02" + code.to_bytes(2, "big")
        await pair.done.wait()


async def test_a_violation_in_fragments_ends_it_whatever_comes_behind_them() -> None:
    taken: list[str | bytes] = []

    async def pump(socket: WebSocket) -> None:
        while messages := await socket.take():
            taken.extend(messages)
        await socket.close(1000, "", 1)

    pair = Pair(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        fragments = frame(TEXT, b"\xff", final=False) + frame(CONTINUATION, b"")
        await pair.theirs.send_all(frame(TEXT, b"good") + fragments + frame(TEXT, b"behind"))
        with trio.fail_after(PATIENCE_S):
            answer = await pair.theirs.receive_some(100)
        assert answer == b"\x88\x02" + (1007).to_bytes(2, "big")
        await pair.theirs.aclose()
        await pair.done.wait()
    assert taken == ["good"]


async def test_what_was_sent_before_the_peer_closed_is_still_handed_out() -> None:
    taken: list[str | bytes] = []
    go = trio.Event()

    async def pump(socket: WebSocket) -> None:
        await go.wait()
        while messages := await socket.take():
            taken.extend(messages)
        assert socket.end == "peer"
        assert not await socket.send("too late")

    pair = Pair(pump)
    async with pair.client() as client:
        for number in range(5):
            await client.send_message(str(number))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            await trio.testing.wait_all_tasks_blocked()
            go.set()
        await pair.done.wait()
    assert taken == ["0", "1", "2", "3", "4"]


async def test_after_an_interruption_nothing_more_is_handed_out() -> None:
    seen: list[object] = []
    third_sent = trio.Event()

    async def pump(socket: WebSocket) -> None:
        await socket.take()
        with socket.until_end() as scope:
            await trio.sleep(float("inf"))
        seen.append(scope.cancelled_caught)
        await third_sent.wait()
        await trio.testing.wait_all_tasks_blocked()
        seen.append(await socket.take())
        socket.interrupt("closing")
        seen.append(socket.end)
        await socket.close(4409, "taken over", 1)

    pair = Pair(pump)
    async with pair.client() as client:
        await client.send_message("first")
        await trio.testing.wait_all_tasks_blocked()
        await client.send_message("second")
        await trio.testing.wait_all_tasks_blocked()
        pair.socket.interrupt("taken_over")
        await client.send_message("third")
        third_sent.set()
        with pytest.raises(ConnectionClosed) as end:
            await client.get_message()
        assert end.value.reason is not None
        assert (end.value.reason.code, end.value.reason.reason) == (4409, "taken over")
    assert seen == [True, [], "taken_over"]
    assert pair.closed == 1


async def test_a_peer_that_does_not_answer_a_close_is_left_at_the_deadline(
    autojump_clock: trio.abc.Clock,
) -> None:
    took: list[float] = []

    async def pump(socket: WebSocket) -> None:
        await socket.take()
        since = trio.current_time()
        await socket.close(1000, "x" * 500, 2)
        took.append(trio.current_time() - since)

    pair = Pair(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        await pair.theirs.send_all(frame(TEXT, b"x"))
        await pair.done.wait()
    assert took == [pytest.approx(2)]


async def test_a_ping_after_our_close_does_not_reach_the_library(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def pump(socket: WebSocket) -> None:
        await socket.take()
        await socket.close(1000, "", 5)

    pair = Pair(pump)
    with caplog.at_level(logging.DEBUG, "edge_agent.server.websocket"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.serve)
            await hand_shake(pair)
            await pair.theirs.send_all(frame(TEXT, b"x"))
            assert (await pair.theirs.receive_some(100))[0] == 0x88
            await pair.theirs.send_all(frame(PING, b"p") * 3 + frame(8, b"\x03\xe8"))
            with trio.fail_after(PATIENCE_S):
                await pair.done.wait()
    assert caplog.text == ""


async def test_a_silent_peer_is_pinged_and_then_given_up(autojump_clock: trio.abc.Clock) -> None:
    ends: list[object] = []

    async def pump(socket: WebSocket) -> None:
        await socket.take()
        ends.append((socket.end, round(trio.current_time() - since)))

    pair = Pair(pump, idle_timeout=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        since = trio.current_time()
        assert (await pair.theirs.receive_some(100))[0] == 0x80 | PING
        assert round(trio.current_time() - since) == 5
        await pair.done.wait()
    assert ends == [("idle", 10)]


async def test_a_peer_that_answers_pings_may_be_silent_for_ever(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def pump(socket: WebSocket) -> None:
        await socket.take()

    pair = Pair(pump, idle_timeout=10)
    async with pair.client():
        await trio.sleep(1000)
        assert pair.socket.end is None


async def test_a_peer_whose_messages_we_do_not_read_is_not_silent(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def pump(socket: WebSocket) -> None:
        await trio.sleep(100)
        assert socket.end is None
        while await socket.take():
            pass

    pair = Pair(pump, idle_timeout=10, limit=1_000_000)
    async with pair.client() as client, trio.open_nursery() as nursery:

        async def flood() -> None:
            for _ in range(10):
                await client.send_message("x" * 30_000)

        nursery.start_soon(flood)
        await trio.sleep(150)


async def test_what_waits_between_socket_and_pump_is_bounded() -> None:
    async def pump(socket: WebSocket) -> None:
        await trio.sleep_forever()

    pair = Pair(pump)
    sent = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        with trio.move_on_after(0.5):
            while sent < 1000:
                # The memory stream has no bound of its own, so what was taken out is looked at.
                await pair.theirs.send_all(frame(TEXT, b"x" * 5_000))
                sent += 1
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(PATIENCE_S):
            taken = sum(map(len, await pair.socket.take()))
        assert taken < 2 * 65536
        nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_read_is_given_up(autojump_clock: trio.abc.Clock) -> None:
    left, right = trio.testing.lockstep_stream_pair()
    sent: list[object] = []

    async def pump(socket: WebSocket) -> None:
        sent.append(await socket.send("nobody reads this"))
        sent.append(socket.end)

    socket = WebSocket(
        left,
        idle_timeout=10,
        limit=1000,
        silence=SilenceWatch(10),
        turns=Turns(),
        on_closed=lambda: None,
    )
    async with trio.open_nursery() as nursery:
        head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        nursery.start_soon(socket.run, head, b"", None, pump)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await right.receive_some(4096)
    assert sent == [False, "idle"]


async def test_a_message_over_the_limit_comes_after_all_that_was_before_it() -> None:
    taken: list[str | bytes] = []
    facts: list[object] = []

    async def pump(socket: WebSocket) -> None:
        while messages := await socket.take():
            taken.extend(messages)
        facts.extend([socket.end, socket.too_big_bytes])
        facts.append(await socket.send("still heard"))
        await socket.close(1009, "too big", 0.1)

    pair = Pair(pump, limit=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        small = b"".join(frame(TEXT, b"%d" % number) for number in range(20))
        await pair.theirs.send_all(small + frame(TEXT, b"x" * 101) + frame(TEXT, b"late"))
        answer = b""
        while b"\x88" not in answer:
            answer += await pair.theirs.receive_some(4096)
        assert b"still heard" in answer
        await pair.done.wait()
    assert taken == [str(number) for number in range(20)]
    assert facts == ["too_big", 101, True]


@pytest.mark.parametrize(
    "bad, code",
    [(bytes([0x81, 0x02]) + b"hi", 1002), (frame(TEXT, b"\xff"), 1007), (frame(0xB, b""), 1002)],
)
async def test_a_violation_of_the_websocket_protocol_is_an_end_with_a_code(
    bad: bytes, code: int
) -> None:
    facts: list[object] = []

    async def pump(socket: WebSocket) -> None:
        while messages := await socket.take():
            facts.extend(messages)
        facts.extend([socket.end, socket.violation])
        await socket.close(1000, "", 1)

    pair = Pair(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        await pair.theirs.send_all(frame(TEXT, b"before") + bad)
        await pair.done.wait()
    assert facts == ["before", "protocol", code]


async def test_a_broken_socket_is_an_end() -> None:
    ends: list[object] = []

    async def pump(socket: WebSocket) -> None:
        while await socket.take():
            pass
        ends.append(socket.end)
        assert not await socket.send("x")
        await socket.close(1000, "", 1)

    pair = Pair(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.serve)
        await hand_shake(pair)
        await pair.theirs.aclose()
        await pair.done.wait()
    assert ends == ["broken"]


async def hand_shake(pair: Pair) -> None:
    """The client's half of the handshake, by hand; what follows is raw frames."""
    await pair.theirs.send_all(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await pair.theirs.receive_some(4096)
    assert answer.startswith(b"HTTP/1.1 101 ")


async def test_the_end_of_a_task_is_told_with_what_it_raised() -> None:
    told: list[str] = []

    async def good() -> None:
        await trio.lowlevel.checkpoint()

    async def bad() -> None:
        raise ValueError("from the library")

    async with trio.open_nursery() as nursery:
        guarded = Guarded(nursery, lambda error: told.append(repr(error)))
        guarded.start_soon(good)
        guarded.start_soon(bad)
    assert sorted(told) == ["None", "ValueError('from the library')"]


async def test_cancelling_is_not_an_error_and_is_not_held_up() -> None:
    told: list[object] = []
    async with trio.open_nursery() as nursery:
        Guarded(nursery, told.append).start_soon(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert told == []
