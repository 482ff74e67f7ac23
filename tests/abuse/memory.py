"""What one hostile message costs an agent of memory, at its peak.

``python -m tests.abuse.memory [WORD…]`` prints it for each of `MESSAGES`, or for those with a word
in their name. A real agent with its usual limits
gets one message on one connection; its RssAnon is read every millisecond meanwhile.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgpack
import trio

from edge_agent.wire import Segment, encode_segments
from edge_agent.zstd import zstd
from tests.abuse.place import JSON, MSGPACK, Place
from tests.end_to_end.support import AgentProcess, agents
from tests.server.test_agent_session import block

MIB = 1024 * 1024
CONFIG = '[store]\nsize = "64MiB"\n[log.main]\ncommit_interval = "20ms"\n'
#: How long after a message memory is still looked at.
LOOK_S = 0.7


@dataclass(frozen=True, slots=True)
class Message:
    """One message: what it is said to, and how; ``post`` is the type of a body over HTTP; ``limits``
    is what is not usual of them.
    """

    name: str
    data: Callable[[], str | bytes]
    path: str = "/ingest/abuse"
    post: str = ""
    limits: str = ""


#: As far as records may be made longer.
_LONG = '[limits]\nrecord_bytes = "256KiB"\n'


def _zeros() -> bytes:
    from msgspec import structs

    bomb = zstd.compress(bytes(64 * MIB), 3)
    spoilt = structs.replace(block(1, 3), payload=bomb, codec=1, raw_len=MIB)
    return encode_segments([Segment.of(spoilt)])


def _maps() -> bytes:
    count = MIB - 100
    return _of_peer(msgpack.packb([["a/b", "pi", 1, 1, True, 0, [{}] * count]]), count)


def _runs() -> bytes:
    return _of_peer(
        msgpack.packb([["a", "", 0, 1, True, at, [{}]] for at in range(80_000)]), 80_000
    )


def _arrays() -> bytes:
    return _of_peer(msgpack.packb([["a", "", 0, 1, True, 0, [{"a": [[]] * (MIB - 100)}]]]), 1)


def _of_peer(payload: bytes, records: int) -> bytes:
    from msgspec import structs

    packed = zstd.compress(payload, 3)
    made = structs.replace(block(1, records), payload=packed, codec=1, raw_len=len(payload))
    return encode_segments([Segment.of(made)])


def _lines(line: str) -> Callable[[], str]:
    return lambda: (line + "\n") * (MIB // (len(line) + 1))


MESSAGES = (
    Message("usual: 10,000 records in an array", lambda: json.dumps([{"t": 1.5, "h": 2}] * 10_000)),
    Message("JSON: 1 MiB of brackets", lambda: "[" * MIB),
    Message("JSON: 10,000 records of 100 bytes", lambda: json.dumps([{"t": 1.5, "text": "x" * 75}] * 9_900)),
    Message("JSON: 16 records of 4,000 keys", lambda: json.dumps([{f"k{n}": n for n in range(4000)}] * 16)),
    Message("JSON: a field of 10,000 arrays, 16 times", lambda: json.dumps([{"a": [[]] * 16_000}] * 16)),
    Message("JSON: a field of 32,000 numbers, 16 times", lambda: json.dumps([{"a": [1] * 21_000}] * 16)),
    Message("JSON: 300,000 elements", lambda: "[" + "1," * 500_000 + "1]"),
    Message("JSON: a megabyte of text in one record", lambda: json.dumps({"t": "x" * (MIB - 100)})),
    Message("JSON: a megabyte with NaN", lambda: "[" + '{"t":NaN},' * 9_999 + '{"x":"' + "y" * 900_000 + '"}]'),
    Message("JSON: a map with NaN and a megabyte of text", lambda: '{"t":NaN,"x":"' + "y" * (MIB - 100) + '"}'),
    Message("JSON: 16 fields of 8,000 maps of one key", lambda: json.dumps([{"a": [{"": 1}] * 8_000}] * 16, separators=(",", ":"))),
    Message("JSON: a megabyte and one letter of four bytes", lambda: '[{"x":"\U0001f600' + "y" * (MIB - 100) + '"}]'),
    Message("JSON: a megabyte with NaN and one letter of four bytes", lambda: '[{"x":"\U0001f600' + "y" * (MIB - 200) + '"},{"t":NaN}]'),
    Message("JSON: text of letters of three bytes, in records", lambda: json.dumps([{"t": "\u6e29" * 30}] * 9_000, ensure_ascii=False)),
    Message("JSON: escapes", lambda: json.dumps([{"t": "\u00e9" * 10_000}] * 17)),
    Message("msgpack: 10,000 empty maps", lambda: b"\xdc\x27\x10" + b"\x80" * 10_000),
    Message("msgpack: a megabyte of empty maps", lambda: b"\xdd\x00\x0f\xff\x00" + b"\x80" * 0xFFF00),
    Message("msgpack: a megabyte of array heads", lambda: b"\x91" * MIB),
    Message("msgpack: 16 records of 60,000 arrays", lambda: msgpack.packb([{"a": [[]] * 60_000}] * 16)),
    Message("msgpack: 16 records of 60,000 maps in arrays", lambda: msgpack.packb([{"a": [{}] * 60_000}] * 16)),
    Message("msgpack: 16 records of 20,000 maps of one key", lambda: msgpack.packb([{"a": [{"": 1}] * 20_000}] * 16)),
    Message("msgpack: 10,000 rejects", lambda: b"\xdc\x27\x10" + b"\x81\x01\x01" * 10_000),
    Message("long records, msgpack: 4 of 250,000 arrays", lambda: msgpack.packb([{"a": [[]] * 250_000}] * 4), limits=_LONG),
    Message("long records, JSON: 4 of 87,000 arrays", lambda: json.dumps([{"a": [[]] * 87_000}] * 4, separators=(",", ":")), limits=_LONG),
    Message("hub: a zstd bomb of 64 MiB", _zeros, "/forward"),
    Message("hub: a block of a million empty records", _maps, "/forward"),
    Message("hub: a block of 80,000 runs", _runs, "/forward"),
    Message("hub: a record of a megabyte of arrays", _arrays, "/forward"),
    Message("hub: 10,000 segments", lambda: msgpack.packb([[1, n, n, "filtered"] for n in range(1, 10_001)]), "/forward"),
    Message("POST: a megabyte of empty lines", _lines(""), post="application/x-ndjson"),
    Message("POST: 500,000 lines of a number", _lines("1"), post="application/x-ndjson"),
    Message("POST: 350,000 lines of {}", _lines("{}"), post="application/x-ndjson"),
    Message("POST: 260,000 lines that are wrong", _lines("[[]"), post="application/x-ndjson"),
    Message("POST: a megabyte of JSON", lambda: json.dumps([{"t": 1.5, "text": "x" * 75}] * 9_900), post="application/json"),
    Message("POST: a megabyte and one letter of four bytes", lambda: '[{"x":"\U0001f600' + "y" * (MIB - 100) + '"}]', post="application/json"),
    Message("POST: 9,000 lines of text", lambda: ('{"x":"' + "y" * 90 + '"}\n') * 9_000, post="application/x-ndjson"),
    Message("POST: lines, and one letter of four bytes", lambda: '{"x":"\U0001f600"}\n' + ('{"x":"' + "y" * 90 + '"}\n') * 9_000, post="application/x-ndjson"),
    Message("POST: 500,000 elements", lambda: "[" + "1," * 500_000 + "1]", post="application/json"),
    Message("POST: SenML of 20,000 entries", lambda: json.dumps([{"n": "t", "v": 1}] * 9_999), post="application/senml+json"),
)  # fmt: skip


class Peak:
    """The highest RssAnon of a process, read every millisecond."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._over = False
        self.most = place.memory()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over = True
        self._thread.join()

    def _watch(self) -> None:
        while not self._over:
            self.most = max(self.most, self._place.memory())
            time.sleep(0.001)


async def peak_of(message: Message, folder: Path) -> tuple[int, int]:
    """Bytes at the peak, and a moment later, over what the agent had before."""
    place = Place(AgentProcess(folder, "agent", CONFIG + message.limits))
    data = message.data()
    async with agents(place.agent):
        # The ways that a message goes have been gone before.
        await _send(place, message, '{"n":1}' if isinstance(data, str) else msgpack.packb({"n": 1}))
        await trio.sleep(0.3)
        before = place.memory()
        with Peak(place) as peak:
            await _send(place, message, data)
            await trio.sleep(LOOK_S)
        after = place.memory()
        assert place.agent.process is not None and place.agent.process.poll() is None
        await place.agent.stop()
    return peak.most - before, after - before


async def _send(place: Place, message: Message, data: str | bytes) -> None:
    if message.post:
        body = data.encode() if isinstance(data, str) else data
        head = (
            f"POST {message.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {message.post}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        await place.ask(head.encode() + body)
        return
    is_hub = message.path == "/forward"
    mode = MSGPACK if is_hub or isinstance(data, bytes) else JSON
    async with place.socket(message.path, subprotocol=mode) as peer:
        await peer.hello("aaaaaaaaaaaa/hub/main/live" if is_hub else "hostile")
        await peer.say(data)
        with trio.move_on_after(LOOK_S):
            await peer.closed()


async def main() -> None:
    """Print the table."""
    words = sys.argv[1:] or [""]
    for message in MESSAGES:
        if not any(word in message.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            peak, after = await peak_of(message, Path(folder))
        print(
            f"{message.name:46} peak {peak / 1e6:6.1f} MB, then {after / 1e6:6.1f} MB", flush=True
        )


if __name__ == "__main__":
    trio.run(main)
