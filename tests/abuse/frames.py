"""RFC 6455: frames that break it, on a session that has a record acked before."""

from __future__ import annotations

import zlib

import trio
import trio.lowlevel

from tests.abuse.cases import Cases
from tests.abuse.place import CLOSE, JSON, PING, PONG, Place
from tests.server.frames import BINARY, CONTINUATION, TEXT, frame
from tests.wire import framing

CASES = Cases("RFC 6455")
case = CASES.case
RECORD = b'{"n":2}'
KIB = 1024
#: What the agents of this suite take in one message.
MESSAGE_BYTES = 256 * KIB


def broken(name: str, sent: str, data: bytes, code: int) -> None:
    """Frames that end a session with ``code``; what was acked before stays, nothing is added."""

    async def run(place: Place) -> None:
        source = "frames/" + "".join(one if one.isalnum() else "-" for one in name)
        async with place.socket(subprotocol=JSON) as peer:
            assert await peer.hello(source) == 1
            await peer.say({"n": 1})
            await peer.acked(2)
            await peer.write(data)
            closed = await peer.closed()
            assert closed.code == code, closed
        async with place.socket(subprotocol=JSON) as peer:
            assert await peer.hello(source) == 2

    CASES.add(name, sent, f"close {code}", run)


broken("no mask", "a frame without a mask", framing.frame(TEXT, RECORD, key=None), 1002)
broken(
    "a reserved bit", "RSV1, as for a compressed message", frame(TEXT, RECORD, reserved=0x40), 1002
)
broken("all reserved bits", "RSV1 to RSV3", frame(TEXT, RECORD, reserved=0x70), 1002)
broken("a reserved opcode", "opcode 3", frame(3, RECORD), 1002)
broken("a reserved control opcode", "opcode 11", frame(11, b""), 1002)
broken("a ping in fragments", "a ping without FIN", frame(PING, b"x", final=False), 1002)
broken("a ping of 126 bytes", "a control frame may have 125", frame(PING, bytes(126)), 1002)
broken("a continuation of nothing", "a continuation first", frame(CONTINUATION, RECORD), 1002)
broken("a message within a message", "a second text before the first one's end",
       frame(TEXT, RECORD[:3], final=False) + frame(TEXT, RECORD), 1002)  # fmt: skip
broken("a length in too many bytes", "7 bytes, their length in eight",
       frame(TEXT, RECORD, length_bytes=8), 1002)  # fmt: skip
broken("a length beyond 2^63", "a length with its highest bit set",
       frame(TEXT, RECORD, length_bytes=8, length=2**63), 1002)  # fmt: skip
broken("a length of a terabyte", "the header of a frame of 2^40 bytes",
       frame(BINARY, b"", length_bytes=8, length=2**40), 1009)  # fmt: skip
broken("a message over the limit", "one byte more than `message_bytes`",
       frame(BINARY, bytes(MESSAGE_BYTES + 1)), 1009)  # fmt: skip
broken("the same in fragments", "257 fragments of a KiB",
       frame(BINARY, bytes(KIB), final=False) + frame(CONTINUATION, bytes(KIB), final=False) * 256, 1009)  # fmt: skip
broken("a message in 5,000 frames", "fragments without a byte",
       frame(BINARY, b"", final=False) + frame(CONTINUATION, b"", final=False) * 5000, 1009)  # fmt: skip
broken("text that is no UTF-8", "the bytes ff fe", frame(TEXT, b"\xff\xfe"), 1007)
broken("UTF-8 that ends too soon", "half of ü at the end", frame(TEXT, b'{"n":"\xc3'), 1007)
broken("UTF-8 torn by a fragment and wrong", "the first half of ü, then a letter",
       frame(TEXT, b'{"n":"\xc3', final=False) + frame(CONTINUATION, b'a"}'), 1007)  # fmt: skip
broken("a surrogate in UTF-8", "ed a0 80", frame(TEXT, b'{"n":"\xed\xa0\x80"}'), 1007)
broken("a close of one byte", "a close code has two", frame(CLOSE, b"\x03"), 1002)
broken(
    "a close code of nobody's",
    "close 1005, which is never sent",
    frame(CLOSE, (1005).to_bytes(2, "big")),
    1002,
)
broken("a close code of 0", "close 0", frame(CLOSE, bytes(2)), 1002)
broken(
    "a close reason that is no UTF-8", "close 1000, then ff", frame(CLOSE, b"\x03\xe8\xff"), 1007
)
broken(
    "data behind the close",
    "a close, then a record",
    frame(CLOSE, b"\x03\xe8") + frame(TEXT, RECORD),
    1000,
)
broken(
    "two closes",
    "a close, then another one",
    frame(CLOSE, b"\x03\xe8") + frame(CLOSE, b"\x03\xe9"),
    1000,
)


@case("a flood of pings", "20,000 pings at once", "20,000 pongs, in turns with everybody's records")
async def _(place: Place) -> None:
    async with place.socket(subprotocol=JSON) as peer, trio.open_nursery() as nursery:
        await peer.hello("pings")
        nursery.start_soon(peer.write, frame(PING, b"p") * 20_000)
        for _ in range(20_000):
            assert await peer.frame() == (PONG, b"p")


@case("pongs that nobody asked for", "5,000 pongs", "nothing")
async def _(place: Place) -> None:
    async with place.socket(subprotocol=JSON) as peer:
        await peer.hello("pongs")
        await peer.write(frame(PONG, b"x") * 5000)
        await peer.say({"n": 1})
        await peer.acked(2)


@case("compression, offered", "permessage-deflate with all its parameters",
      "not accepted; whoever compresses all the same gets close 1002")  # fmt: skip
async def _(place: Place) -> None:
    offer = "permessage-deflate; client_max_window_bits=15; server_no_context_takeover"
    headers = f"Sec-WebSocket-Extensions: {offer}"
    async with place.socket("/ingest/abuse", headers, subprotocol=JSON) as peer:
        assert "Extensions" not in peer.head
        await peer.hello("deflate")
        await peer.write(frame(TEXT, zlib.compress(RECORD)[2:-4], reserved=0x40))
        assert (await peer.closed()).code == 1002


@case("a record in single bytes", "a frame cut into bytes", "stored as if it had come whole")
async def _(place: Place) -> None:
    async with place.socket("/ingest/abuse/bytes", subprotocol=JSON) as peer:
        await peer.hello("bytes")
        for byte in frame(TEXT, b'{"whole":1}'):
            await peer.write(bytes((byte,)))
            await trio.lowlevel.checkpoint()
        await peer.acked(2)
    assert await place.stored("abuse/bytes") == [{"whole": 1}]
