"""The socket as trio-websocket sees it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.server.gate import FrameGate
from edge_agent.server.transport import Transport, abort
from tests.server.test_gate import TEXT, frame


class Wired:
    """A transport, the peer's end of it, and what it reported."""

    def __init__(self, limit: int = 1000) -> None:
        ours, self.peer = trio.testing.memory_stream_pair()
        self.gate = FrameGate(limit)
        self.reports = 0
        self.transport = Transport(ours, self.gate, self.report)

    def report(self) -> None:
        self.reports += 1


async def test_it_plays_the_head_then_waits_for_the_upgrade_then_gives_what_came_early() -> None:
    wired = Wired()
    early, later = frame(TEXT, b"early"), frame(TEXT, b"later")
    wired.transport.replay(b"HEAD", early)
    await wired.peer.send_all(later)
    assert await wired.transport.receive_some(100) == b"HEAD"
    received = []

    async def read() -> None:
        received.append(await wired.transport.receive_some(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        wired.transport.accepted.set()
    assert received == [early]
    assert await wired.transport.receive_some(100) == later


async def test_what_the_gate_drops_is_not_an_end() -> None:
    wired = Wired(limit=10)
    wired.transport.accepted.set()
    await wired.peer.send_all(frame(TEXT, b"x" * 500))
    await wired.peer.send_eof()
    assert await wired.transport.receive_some(100) == b""
    assert wired.gate.too_big == 500
    assert wired.reports >= 1


async def test_what_is_sent_goes_to_the_socket() -> None:
    wired = Wired()
    await wired.transport.send_all(b"out")
    assert await wired.peer.receive_some(10) == b"out"
    await wired.transport.wait_send_all_might_not_block()
    await wired.transport.aclose()
    assert await wired.peer.receive_some(10) == b""


async def test_silence_is_only_counted_while_we_listen(autojump_clock: trio.abc.Clock) -> None:
    wired = Wired()
    wired.transport.accepted.set()
    await trio.sleep(100)
    assert wired.transport.silence() == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wired.transport.receive_some, 100)
        await trio.sleep(7)
        assert wired.transport.silence() == pytest.approx(7)
        await wired.peer.send_all(frame(TEXT, b"x"))
    assert wired.transport.silence() == 0


async def test_abort_closes_whatever_is_going_on() -> None:
    ours, peer = trio.testing.memory_stream_pair()
    await abort(ours)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
    assert await peer.receive_some(1) == b""
