"""`/forward`, misused: blocks that lie, numbers with holes, origins of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
from msgspec import structs

from edge_agent.wire import Segment, encode_segments
from edge_agent.zstd import zstd
from tests.abuse.cases import Cases
from tests.abuse.place import JSON, MSGPACK, Place, upgrade
from tests.server.test_agent_session import block

CASES = Cases("Hubs")
case = CASES.case
AGENT = "aaaaaaaaaaaa"


def _message(*blocks: Any) -> list[Any]:
    """A sound message as it goes over the wire, to be spoilt."""
    made: list[Any] = msgpack.unpackb(encode_segments([Segment.of(one) for one in blocks]))
    return made


def _spoilt(index: int, value: object) -> bytes:
    message = _message(block(1, 3))
    message[0][index] = value
    data: bytes = msgpack.packb(message)
    return data


def ended(name: str, sent: str, data: bytes | str, code: int) -> None:
    """A message that ends the session, and takes no number."""

    async def run(place: Place) -> None:
        lane = "".join(one if one.isalnum() else "-" for one in name)
        async with place.socket("/forward", subprotocol=MSGPACK) as peer:
            assert await peer.hello(f"{AGENT}/{lane}/main/live") == 1
            await peer.say(data)
            closed = await peer.closed()
            assert closed.code == code, closed
        async with place.socket("/forward", subprotocol=MSGPACK) as peer:
            assert await peer.hello(f"{AGENT}/{lane}/main/live") == 1

    CASES.add(name, sent, f"close {code}, no number is taken", run)


def set_aside(name: str, sent: str, payload: bytes, *, raw_len: int = 0, codec: int = 0) -> None:
    """A block whose envelope is sound and whose payload is not."""

    async def run(place: Place) -> None:
        lane = "".join(one if one.isalnum() else "-" for one in name)
        spoilt = structs.replace(
            block(1, 3), payload=payload, codec=codec, raw_len=raw_len or len(payload)
        )
        async with (
            place.counts("quarantined_total", "bad_block"),
            place.socket("/forward", subprotocol=MSGPACK) as peer,
        ):
            await peer.hello(f"{AGENT}/{lane}/main/live")
            await peer.say(encode_segments([Segment.of(spoilt)]))
            await peer.acked(4)

    CASES.add(name, sent, "quarantine `bad_block`, its numbers are used up", run)


MIB = 1024 * 1024
ended(
    "a hole in the numbers",
    "segments 1 and 3",
    msgpack.packb([[1, 1, 1, "filtered"], [1, 3, 3, "filtered"]]),
    1002,
)
ended("numbers that go back", "a segment from 5 to 1", msgpack.packb([[1, 5, 1, "filtered"]]), 1002)
ended(
    "a message that begins elsewhere",
    "a block from 7 on",
    msgpack.packb([[1, 7, 9, "filtered"]]),
    1002,
)
ended("more records than numbers", "count 99 in three numbers", _spoilt(3, 99), 1002)
ended("a payload that was changed", "a CRC that does not fit", _spoilt(7, 1), 1007)
ended("a payload shorter than it says", "raw, raw_len 5", _spoilt(5, 5), 1002)
ended("a payload of two gigabytes", "raw_len 2^31", _spoilt(5, 2**31), 1002)
ended("an unknown codec", "codec 7", _spoilt(4, 7), 1002)
ended("an origin that is none", "origin 1", _spoilt(10, 1), 1002)
ended(
    "a path of nine agents",
    "more than eight ids",
    _spoilt(10, [AGENT, "e", "main", 1, bytes(16), 1, 1, True, ["a"] * 9]),
    1002,
)
ended(
    "numbers beyond 2^63",
    "first 2^64-1",
    msgpack.packb([[1, 2**64 - 1, 2**64 - 1, "filtered"]]),
    1002,
)
ended("text instead of msgpack", "a text message", "[]", 1002)
ended("an empty array", "no segment at all", msgpack.packb([]), 1002)
ended("10,001 segments", "more than a message may have",
      msgpack.packb([[1, n, n, "filtered"] for n in range(1, 10_002)]), 1002)  # fmt: skip
ended("a message over the limit for hubs", "1 MiB and a byte", bytes(MIB + 1), 1009)
ended(
    "300 clock notes",
    "more than 256",
    msgpack.packb([[2, f"a{n}", bytes(16), 1, 1, 1] for n in range(300)]),
    1002,
)
set_aside("noise as a block", "a payload of 1,000 times ff", b"\xff" * 1000)
set_aside("a bomb of zeros", "zstd: 64 MiB of zeros in 6 KB, said to be 1 MiB",
          zstd.compress(bytes(64 * MIB), 3), raw_len=MIB, codec=1)  # fmt: skip
set_aside("a bomb that says nothing", "zstd, longer than raw_len",
          zstd.compress(bytes(2 * MIB), 3), raw_len=100, codec=1)  # fmt: skip
set_aside(
    "zstd that is none", "codec 1, noise", b"\x28\xb5\x2f\xfd" + b"\xff" * 50, raw_len=1000, codec=1
)
set_aside("a run that claims 2^32 records", "lengths that lie within a payload",
          b"\x91\x97\xa3a/b\xa2pi\x01\x01\xc3\x00\xdd\xff\xff\xff\xff")  # fmt: skip
set_aside("arrays in one another as a block", "91 91 91 …", b"\x91" * 100_000)
set_aside(
    "a run without records", "an empty run", msgpack.packb([["a/b", "pi", 1, 1, True, 0, []]])
)
set_aside("a block's stream that is no name", "stream `../x`",
          msgpack.packb([["../x", "pi", 1, 1, True, 0, [{"n": 1}] * 3]]))  # fmt: skip


@case(
    "a record of a million arrays in a block",
    "1 MiB, 64 MB as objects, between two that are sound",
    "nack `too_many_values`, in quarantine; the two are stored",
)
async def _(place: Place) -> None:
    runs: list[Any] = [
        ["abuse/crowd", "pi", n, 1, True, n - 1, [{"a": [[]] * (1_000_000 if n == 2 else 1)}]]
        for n in (1, 2, 3)
    ]
    raw = msgpack.packb(runs)
    packed = zstd.compress(raw, 3)
    crowd = structs.replace(block(1, 3), payload=packed, codec=1, raw_len=len(raw))
    async with (
        place.counts("records_nacked_total", "too_many_values"),
        place.counts("quarantined_total", "too_many_values"),
        place.socket("/forward", subprotocol=MSGPACK) as peer,
    ):
        await peer.hello(f"{AGENT}/crowd/main/live")
        await peer.say(encode_segments([Segment.of(crowd)]))
        assert await peer.acked(4) == ["too_many_values"]
    assert len(await place.stored("abuse/crowd")) == 2


@case("a block that came back", "a path with the hub's own id", "acked, dropped, counted")
async def _(place: Place) -> None:
    own = (await place.agent.get("/api/status"))["agent"]["id"]
    async with (
        place.counts("records_dropped_total", "$loop", least=3),
        place.socket("/forward", subprotocol=MSGPACK) as peer,
    ):
        await peer.hello(f"{AGENT}/loops/main/live")
        await peer.say(encode_segments([Segment.of(block(1, 3, path=(AGENT, own)))]))
        await peer.acked(4)


@case(
    "an agent that is the hub itself",
    "hello with the hub's own id",
    "stop `forbidden_origin`, close 1008; nothing is acked",
)
async def _(place: Place) -> None:
    own = (await place.agent.get("/api/status"))["agent"]["id"]
    async with place.socket("/forward", subprotocol=MSGPACK) as peer:
        await peer.say(msgpack.packb({"type": "hello", "source": f"{own}/up/main/live"}))
        assert (await peer.hear())["code"] == "forbidden_origin"
        assert (await peer.closed()).code == 1008


@case("a hub that speaks JSON", "`/forward` with a JSON subprotocol", "400")
async def _(place: Place) -> None:
    head = upgrade("/forward", f"Sec-WebSocket-Protocol: {JSON}")
    assert (await place.ask(head)).status == 400


@case(
    "sources of another shape",
    "hello as `a`, `a/b/c`, `a/b/c/d/e`",
    "stop `bad_source`, close 1002",
)
async def _(place: Place) -> None:
    for source in ("a", "a/b/c", "a/b/c/d/e"):
        async with place.socket("/forward", subprotocol=MSGPACK) as peer:
            await peer.say(msgpack.packb({"type": "hello", "source": source}))
            assert (await peer.hear())["code"] == "bad_source"
            assert (await peer.closed()).code == 1002


@case("clock notes from the future", "a note about the year 292 billion, and one of our own",
      "neither is kept; what comes behind is")  # fmt: skip
async def _(place: Place) -> None:
    own = (await place.agent.get("/api/status"))["agent"]["id"]
    notes: Sequence[Any] = [
        [2, "future", bytes(16), 2**62, 2**62, 1], [2, own, bytes(16), 1, 1, 1],
        [1, 1, 1, "filtered"],
    ]  # fmt: skip
    async with place.socket("/forward", subprotocol=MSGPACK) as peer:
        await peer.hello(f"{AGENT}/notes/main/live")
        await peer.say(msgpack.packb(notes))
        await peer.acked(2)
