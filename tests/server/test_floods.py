"""One peer's unusual work is done a little at a time: counted by pass of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import wsproto.connection

from tests.patience import PATIENCE_S, eventually
from tests.server.frames import BINARY, CONTINUATION, PING, TEXT, frame
from tests.server.support import Serving, bystander, connect, raw, serving, session, upgrade

#: What a turn is worth; a pass may see the end of one and the whole of the next.
TURN_UNITS = 64
PONG = 0xA
REJECT = b"\x81\x01\x01"  # msgpack of {1: 1}
MAP = b"\x81\xa1v\x01"


class Passes(trio.abc.Instrument):
    """The most by which ``count`` rose within one pass of the event loop."""

    def __init__(self, count: Callable[[], float]) -> None:
        self.most = 0.0
        self._count, self._last = count, count()

    def before_io_wait(self, timeout: float) -> None:
        now = self._count()
        self.most, self._last = max(self.most, now - self._last), now


@contextmanager
def passes(count: Callable[[], float]) -> Iterator[Passes]:
    found = Passes(count)
    trio.lowlevel.add_instrument(found)
    try:
        yield found
    finally:
        trio.lowlevel.remove_instrument(found)


def messages_read(port: Serving) -> float:
    return port.metrics.get("messages_received_total")


async def flooded(port: Serving, path: str, protocol: str, hello: str, data: bytes) -> None:
    """Send ``data`` on a connection of its own, throw away what comes back."""
    head = upgrade(path, f"Sec-WebSocket-Protocol: {protocol}").replace("\n", "\r\n").encode()
    async with raw(port) as stream, trio.open_nursery() as nursery:
        await stream.send_all(head)
        assert b" 101 " in await stream.receive_some(4096)

        welcomed = trio.Event()

        async def read() -> None:
            while answer := await stream.receive_some(65536):
                if b"welcome" in answer:
                    welcomed.set()

        nursery.start_soon(read)
        if hello:
            # What comes before the welcome gathers, and is one list.
            await stream.send_all(frame(TEXT, hello.encode()))
            await welcomed.wait()
        await stream.send_all(data)
        await trio.sleep_forever()


SESSION = ("/ingest/flood", "edge-agent.v1+msgpack", '{"type":"hello","source":"flood"}')
PLAIN = ("/ingest/flood", "edge-agent.v1.plain", "")
TOLD = ("/ingest/flood?ack=1", "edge-agent.v1.plain", "")


@pytest.mark.parametrize(
    "how, data, count",
    [
        pytest.param(SESSION, frame(BINARY, REJECT) * 4000, 4000, id="rejects"),
        pytest.param(PLAIN, frame(BINARY, REJECT) * 4000, 4000, id="rejects, plain"),
        pytest.param(TOLD, frame(BINARY, REJECT) * 2000, 2000, id="rejects, told"),
        pytest.param(
            TOLD, (frame(BINARY, b"\xc1") * 15 + frame(BINARY, MAP)) * 120, 1920, id="undecodable"
        ),
        pytest.param(
            SESSION, (frame(TEXT, b'{"v":1}') + frame(PING)) * 1000, 1000, id="texts and pings"
        ),
        pytest.param(
            SESSION,
            (frame(BINARY, MAP[:1], final=False) + frame(CONTINUATION, MAP[1:])) * 2000,
            2000,
            id="in two frames",
        ),
        pytest.param(
            SESSION, frame(BINARY, b"\xdc\x0b\xb8" + REJECT * 3000), 3000, id="array of rejects"
        ),
    ],
)
async def test_few_messages_are_dealt_with_in_one_pass(
    tmp_path: Path, how: tuple[str, str, str], data: bytes, count: int
) -> None:
    async with serving(tmp_path) as port, bystander(port) as other:

        def dealt() -> float:
            return max(messages_read(port), port.metrics.total("records_nacked_total"))

        before = dealt()
        with passes(dealt) as found, trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flooded, port, *how, data)
                while dealt() - before < count - 10:
                    await other.is_served()
                nursery.cancel_scope.cancel()
    assert found.most <= 2 * TURN_UNITS + 2


@pytest.mark.parametrize(
    "path, data",
    [
        pytest.param("/ingest/a", frame(PING) * 2000, id="empty pings"),
        pytest.param("/ingest/a", frame(PING, bytes(125)) * 1000, id="full pings"),
        pytest.param("/ingest/a", frame(PONG) * 11_000, id="pongs"),
        pytest.param(
            "/ingest/a",
            frame(BINARY, b"\x91", final=False) + frame(CONTINUATION, final=False) * 4000,
            id="empty continuations",
        ),
    ],
)
async def test_the_library_gets_few_frames_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, data: bytes
) -> None:
    given = 0
    receive = wsproto.connection.Connection.receive_data

    def counting(self: wsproto.connection.Connection, piece: bytes | None) -> None:
        nonlocal given
        if not self.client:
            given += len(piece or b"")
        receive(self, piece)

    monkeypatch.setattr(wsproto.connection.Connection, "receive_data", counting)
    largest = max(map(len, trio_frames(data)))
    async with serving(tmp_path) as port, bystander(port) as other:
        before = given
        with passes(lambda: given) as found, trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flooded, port, path, "edge-agent.v1.plain", "", data)
                while given - before < len(data):
                    await other.is_served()
                nursery.cancel_scope.cancel()
    assert found.most <= (2 * TURN_UNITS + 2) * largest


def trio_frames(data: bytes) -> list[bytes]:
    """The frames of at most 125 bytes, or of less than 64 KiB, in ``data``."""
    found, at = [], 0
    while at < len(data):
        size, head = data[at + 1] & 0x7F, 6
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 8
        found.append(data[at : at + head + size])
        at += head + size
    return found


async def test_a_flood_of_rejects_waits_for_its_commits(tmp_path: Path) -> None:
    async with serving(tmp_path) as port:
        port.held.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flooded, port, *PLAIN, frame(BINARY, REJECT) * 20_000)
            nursery.start_soon(flooded, port, *SESSION, frame(BINARY, REJECT) * 20_000)
            await eventually(lambda: messages_read(port) > 300, "it is read")
            last = 0.0
            while last < messages_read(port):
                last = messages_read(port)
                await trio.sleep(0.5)
            port.held.let_go()
            nursery.cancel_scope.cancel()
    # Some 7 MiB each, 16 KiB for each of them, and what came with the last turn.
    assert last < 2000


async def test_a_large_message_of_rejects_is_kept_piece_by_piece(tmp_path: Path) -> None:
    array = b"\xdc\x03\xe8" + (MAP + REJECT) * 500
    async with serving(tmp_path) as port, session(port) as sensor:
        welcome = await sensor.hello("pi")
        await sensor.socket.send_message(array)
        with trio.fail_after(PATIENCE_S):
            nacked: list[int] = []
            while (told := await sensor.receive())["next" if "next" in told else "at"] <= 1000:
                if told["type"] == "nack":
                    nacked.append(told["at"])
        assert nacked == list(range(welcome["next"] + 1, 1001, 2))
        entries = [entry for entry in port.held.committed if entry.quarantine]
        assert all(len(entry.quarantine) <= 2 * TURN_UNITS for entry in entries)
        assert len(await port.records()) == len(await port.quarantine()) == 500


async def test_what_was_read_before_a_close_is_all_stored(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as port,
        connect(port, "/ingest/a", "edge-agent.v1.plain") as socket,
    ):
        for _ in range(3000):
            await socket.send_message(REJECT)
        await socket.send_message(b"\x01")
        await socket.aclose()
        with trio.fail_after(PATIENCE_S):
            while port.open_sockets() or port.settling():
                await trio.sleep(0.01)
        assert messages_read(port) == 3001
        assert [record.fields for record in await port.records()] == [{"value": 1}]
