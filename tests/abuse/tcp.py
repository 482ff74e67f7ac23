"""TCP: connections that say nothing, too slowly, too often, or vanish."""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from tests.abuse.cases import Cases
from tests.abuse.place import JSON, MSGPACK, PING, Peer, Place, upgrade
from tests.patience import receive_to_end
from tests.server.frames import TEXT, frame

CASES = Cases("TCP")
case = CASES.case
#: The address of a crowd, so that others' places stay theirs.
CROWD = "127.0.0.9"


@case("half-open", "connects and says nothing", "closed at `handshake_timeout`", slow=True)
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "timeout"), place.peer() as peer:
        assert await receive_to_end(peer.stream) == b""


@case(
    "slowloris", "a header every 0.2 s, never the last", "closed at `handshake_timeout`", slow=True
)
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "timeout"), place.peer() as peer:
        await peer.write("GET /ingest/abuse HTTP/1.1\r\nHost: localhost\r\n")
        assert await _dribbled(peer, b"X-More: 1\r\n") == b""


@case("a byte at a time", "a request in bytes, one every 0.2 s", "closed at `handshake_timeout`",
      slow=True)  # fmt: skip
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "timeout"), place.peer() as peer:
        assert await _dribbled(peer, b"G") == b""


@case("a silent session", "upgrades and never says hello", "close 1001 at `handshake_timeout`",
      slow=True)  # fmt: skip
async def _(place: Place) -> None:
    async with place.socket(subprotocol=JSON) as peer:
        assert (await peer.closed()).code == 1001


@case("deaf to pings", "a session that answers no ping", "close 1001 at `idle_timeout`", slow=True)
async def _(place: Place) -> None:
    async with place.socket(subprotocol=JSON) as peer:
        await peer.hello("deaf")
        assert (await peer.frame())[0] == PING
        assert (await peer.closed()).code == 1001


@case("never reading", "pings without end, not one pong read",
      "read no further, given up at `idle_timeout`", slow=True)  # fmt: skip
async def _(place: Place) -> None:
    async with place.socket(subprotocol=JSON) as peer:
        await peer.hello("never-reading")
        stream = peer.stream
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pings = frame(PING, bytes(125)) * 500
        try:
            while True:
                await stream.send_all(pings)
        except trio.BrokenResourceError:
            pass


@case("a reset while connecting", "connects and resets, 50 times", "nothing is held")
async def _(place: Place) -> None:
    async with place.counts("connections_total", least=50):
        for _ in range(50):
            async with place.peer() as peer:
                peer.reset()


@case("a reset within the request", "half a request, then a reset", "counted as left")
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "left"), place.peer() as peer:
        await peer.write(upgrade("/ingest/abuse")[:60])
        await trio.sleep(0.05)
        peer.reset()


@case("a reset within a frame", "a record, half of the next one, then a reset",
      "the first is stored, the half is not, the source may come back at once")  # fmt: skip
async def _(place: Place) -> None:
    async with place.socket("/ingest/abuse/reset", subprotocol=JSON) as peer:
        await peer.hello("reset")
        await peer.say({"n": 1})
        await peer.acked(2)
        await peer.write(frame(TEXT, b'{"n": 2}')[:9])
        peer.reset()
    async with place.socket("/ingest/abuse/reset", subprotocol=JSON) as peer:
        assert await peer.hello("reset") == 2
    assert await place.stored("abuse/reset") == [{"n": 1}]


@case("an end within a message", "a fragment, then FIN", "nothing of it is stored")
async def _(place: Place) -> None:
    async with place.socket("/ingest/abuse/torn?ack=1") as peer:
        await peer.write(frame(TEXT, b'{"n": 1}', final=False))
        assert isinstance(peer.stream, trio.SocketStream)
        await peer.stream.send_eof()
        assert (await peer.closed()).code in (1000, 1002, 1006)
    assert await place.stored("abuse/torn") == []


@case("urgent data", "TCP's urgent byte within a request", "as if it were not there")
async def _(place: Place) -> None:
    async with place.peer() as peer:
        await peer.write("GET /ingest/ab")
        assert isinstance(peer.stream, trio.SocketStream)
        await peer.stream.socket.send(b"!", socket.MSG_OOB)
        await peer.write("use HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await peer.answer()).status == 426


@case("a crowd that says nothing", "300 connections from one address, all silent",
      "50 of them are held, the oldest give way; others get in at once")  # fmt: skip
async def _(place: Place) -> None:
    held: list[trio.SocketStream] = []
    async with place.counts("connections_refused_total", "displaced", least=200):
        try:
            for _ in range(300):
                stream = await trio.open_tcp_stream(
                    "127.0.0.1", place.agent.port, local_address=CROWD
                )
                held += [stream]
            async with place.socket(subprotocol=JSON) as peer:
                await peer.hello("newcomer")
        finally:
            for stream in held:
                await trio.aclose_forcefully(stream)


@case("a storm of connections", "1,500 from one address, closed as soon as opened",
      "after the first 400, those beyond 50 a second are reset unheard")  # fmt: skip
async def _(place: Place) -> None:
    async with place.counts("connections_refused_total", "rush", least=500):
        for _ in range(1500):
            with suppress(OSError):  # Reset before the connection was even there.
                stream = await trio.open_tcp_stream(
                    "127.0.0.1", place.agent.port, local_address="127.0.0.10"
                )
                await trio.aclose_forcefully(stream)


@case("many that never say hello", "150 upgraded connections of one address, silent",
      "a newcomer still gets in", slow=True)  # fmt: skip
async def _(place: Place) -> None:
    held: list[trio.SocketStream] = []
    try:
        for _ in range(150):
            stream = await trio.open_tcp_stream(
                "127.0.0.1", place.agent.port, local_address="127.0.0.11"
            )
            held.append(stream)
            await stream.send_all(
                upgrade("/ingest/abuse", f"Sec-WebSocket-Protocol: {MSGPACK}").encode()
            )
        async with place.socket(subprotocol=JSON) as peer:
            await peer.hello("late")
    finally:
        for stream in held:
            await trio.aclose_forcefully(stream)


async def _dribbled(peer: Peer, piece: bytes) -> bytes:
    """Send a piece every 0.2 s until the agent has had enough; what it said."""
    said: list[bytes] = []

    async def listen() -> None:
        said.append(await receive_to_end(peer.stream))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        while not said:
            await peer.write(piece)
            await trio.sleep(0.2)
    return said[0]
