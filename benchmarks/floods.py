"""What a peer can send to keep an agent busy: kinds of floods, and a process that sends one.

Run as ``python -m benchmarks.floods '{"host": …, "port": …, "kind": "pings", "connections": 1}'``;
it floods until its standard input ends, then prints one JSON object. What the agent answers is read
and thrown away; a connection that the agent closes is opened anew.

A kind that says ``ends`` breaks the protocol, or says goodbye, in what it sends: it lives by
connecting again and again.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgpack

from benchmarks.load import frame, frames, open_socket, payloads
from benchmarks.records import encoded_records, messages

#: About what goes out at a time.
CHUNK_BYTES = 256 * 1024
_PLAIN, _JSON, _MSGPACK = (
    "edge-agent.v1.plain",
    "edge-agent.v1+json",
    "edge-agent.v1+msgpack",
)
_PING, _PONG, _CLOSE, _CONTINUATION, _FINAL = 0x9, 0xA, 0x8, 0x0, 0x80
_sources = itertools.count()


@dataclass(frozen=True, slots=True)
class Kind:
    """A flood: what it says once connected, again and again.

    ``chunk`` gets the ``next`` of the welcome, 0 where there was no hello. ``follows``: it is made
    anew each time, from the number of chunks that went before.
    """

    chunk: Callable[[int], bytes]
    path: str = "/ingest/flood"
    subprotocol: str = _PLAIN
    source: str = ""
    ends: bool = False
    follows: bool = False


def raw_frame(first: int, payload: bytes = b"", *, masked: bool = True) -> bytes:
    """A frame of at most 125 bytes; its mask is zero."""
    head = bytes((first, (0x80 if masked else 0) | len(payload)))
    return head + (bytes(4) if masked else b"") + payload


def fill(piece: bytes, size: int = CHUNK_BYTES) -> Callable[[int], bytes]:
    """``piece`` again and again."""
    whole = piece * max(1, size // len(piece))
    return lambda _: whole


def fragments(*parts: bytes, opcode: int = 2) -> bytes:
    """One message in as many frames."""
    last = len(parts) - 1
    return b"".join(
        raw_frame((_FINAL if at == last else 0) | (opcode if at == 0 else _CONTINUATION), part)
        for at, part in enumerate(parts)
    )


def array(element: bytes, count: int) -> bytes:
    """A msgpack batch of the same element."""
    return msgpack.Packer().pack_array_header(count) + element * count


def singly(payload: bytes, *, text: bool = False) -> Callable[[int], bytes]:
    """Messages of one payload each."""
    return fill(frame(payload, text=text))


def _forwarded(elements: int) -> Callable[[int], bytes]:
    def chunk(turn: int) -> bytes:
        first = 1 + turn * elements
        numbers = range(first, first + elements)
        return frame(msgpack.packb([[1, number, number, "filtered"] for number in numbers]))

    return chunk


def _notes(_: int) -> bytes:
    notes = [
        [2, f"agent-{index}", os.urandom(16), int.from_bytes(os.urandom(6), "big"), 1, 1]
        for index in range(250)
    ]
    return frame(msgpack.packb(notes))


def _question(**asked: object) -> bytes:
    return json.dumps(asked).encode()


_MAP = msgpack.packb({"v": 1})
_MANY_KEYS = msgpack.packb({f"key{index}": index for index in range(40)})
_DEEP = msgpack.packb({"a": {"b": {"c": {"d": [{"e": 1}] * 3}}}})
_BINARY = msgpack.packb({"v": b"12345678"})
_TIME_TEXT = msgpack.packb({"time": "2026-11-28T19:00:00Z", "v": 1})
#: msgpack of ``{1: 1}``: a key that is no text.
_REJECT = b"\x81\x01\x01"
_hub = partial(Kind, path="/forward", subprotocol=_MSGPACK, source="flood/hub/main/live")
_session = partial(Kind, subprotocol=_MSGPACK, source="flood")

KINDS: dict[str, Kind] = {
    "usual records": _session(lambda _: frames(messages(3_000, 1))),
    "empty pings": Kind(fill(raw_frame(_FINAL | _PING))),
    "pings of 125 bytes": Kind(fill(raw_frame(_FINAL | _PING, bytes(125)))),
    "pongs": Kind(fill(raw_frame(_FINAL | _PONG))),
    "messages in two frames": _session(fill(fragments(_MAP[:1], _MAP[1:]))),
    "fragments of one byte": _session(
        fill(fragments(*(bytes((one,)) for one in msgpack.packb({"text": "x" * 1000}))))
    ),
    "empty continuations from a hub": _hub(
        fill(raw_frame(2, b"\x91") + raw_frame(_CONTINUATION) * 4_000)
    ),
    "a text and a ping in turn": _session(
        fill(frame(b'{"v":1}', text=True) + raw_frame(_FINAL | _PING))
    ),
    "rejects {1: 1}": _session(singly(_REJECT)),
    "rejects in text": _session(singly(b"[[]]", text=True)),
    "rejects, plain with ?ack=1": Kind(singly(b"[[]]", text=True), "/ingest/flood?ack=1"),
    "rejects of 4 KiB": _session(fill(frame(msgpack.packb({"time": "?", "text": "x" * 4_000})))),
    "arrays of 10,000 rejects": _session(singly(array(_REJECT, 10_000))),
    "arrays of 10,000, one of them a reject": _session(
        singly(b"\xdc\x27\x10" + _MAP * 9_999 + _REJECT)
    ),
    "arrays of 10,000 with binary": _session(singly(array(_BINARY, 10_000))),
    "arrays of 10,000 with times in text": _session(singly(array(_TIME_TEXT, 10_000))),
    "arrays of deep maps": _session(singly(array(_DEEP, 5_000))),
    "maps of 40 keys": _session(singly(_MANY_KEYS)),
    "JSON nested 10,000 deep": Kind(singly(b"[" * 10_000, text=True), ends=True),
    "batches of 1 MB with a NaN": _session(
        singly(
            b"["
            + b'{"t":21.5,"q":""},' * 9_990
            + b'{"t":NaN,"text":["'
            + b'","' * 270_000
            + b'"]}]',
            text=True,
        )
    ),
    "undecodable, plain with ?ack=1": Kind(
        fill(frame(b"\xc1") * 15 + frame(_MAP)), "/ingest/flood?ack=1"
    ),
    "empty ranges from a hub": _hub(_forwarded(8_000), follows=True),
    "clock notes from a hub": _hub(_notes, follows=True),
    "questions": Kind(
        singly(_question(id=1, stream="*", limit=10_000), text=True), "/query", _JSON
    ),
    "questions that are none": Kind(singly(b"{}", text=True), "/query", _JSON),
    "words to a subscription": Kind(singly(b"1", text=True), "/subscribe/**", _JSON),
    "not masked": Kind(lambda _: raw_frame(_FINAL | 2, _MAP, masked=False), ends=True),
    "closes": Kind(lambda _: raw_frame(_FINAL | _CLOSE), ends=True),
    "hellos": _session(lambda _: raw_frame(_FINAL | _CLOSE), ends=True),
}


class Peer:
    """One connection of a flood."""

    def __init__(self, host: str, port: int, kind: Kind) -> None:
        self._host, self._port, self._kind = host, port, kind
        self.sent = self.opened = 0
        self.open()

    def open(self) -> None:
        """Connect, say hello where the kind does."""
        kind = self._kind
        self.socket, rest = open_socket(self._host, self._port, kind.path, kind.subprotocol)
        self.opened += 1
        if kind.source:
            source = f"{next(_sources)}{kind.source}"
            hello = json.dumps({"type": "hello", "source": source, "epoch": "flood", "first": 1})
            self.socket.sendall(frame(hello.encode(), text=True))
            while not payloads(rest)[0]:
                piece = self.socket.recv(65536)
                if not piece:
                    raise ConnectionError("closed before a welcome")
                rest += piece
        self.socket.setblocking(False)
        self._turn = 0
        self._chunk = kind.chunk(0)
        self._left = memoryview(self._chunk)

    def go_on(self) -> None:
        """Read what came, send what the socket takes."""
        try:
            self._take_in()
            if not self._left:
                self._again()
            count = self.socket.send(self._left)
            self.sent += count
            self._left = self._left[count:]
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            self.open()

    def _again(self) -> None:
        if self._kind.follows:
            self._turn += 1
            self._chunk = self._kind.chunk(self._turn)
        if not self._kind.ends:
            self._left = memoryview(self._chunk)

    def wants(self) -> int:
        """What to wait for."""
        is_done = self._kind.ends and not self._left
        return select.POLLIN if is_done else select.POLLIN | select.POLLOUT

    def _take_in(self) -> None:
        try:
            while len(piece := self.socket.recv(CHUNK_BYTES)) == CHUNK_BYTES:
                pass
        except BlockingIOError:
            return
        if not piece:
            raise ConnectionResetError


def flood(peers: list[Peer]) -> None:
    """Until standard input ends."""
    while True:
        poller = select.poll()
        poller.register(0, select.POLLIN | select.POLLHUP)
        by_descriptor = {peer.socket.fileno(): peer for peer in peers}
        for descriptor, peer in by_descriptor.items():
            poller.register(descriptor, peer.wants())
        for descriptor, _ in poller.poll(1000):
            if descriptor == 0:
                return
            by_descriptor[descriptor].go_on()


def main() -> None:
    """Flood as the JSON argument says."""
    options = json.loads(sys.argv[1])
    kind = KINDS[options["kind"]]
    encoded_records()
    peers = [Peer(options["host"], options["port"], kind) for _ in range(options["connections"])]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    flood(peers)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "bytes": sum(peer.sent for peer in peers),
                "opened": sum(peer.opened for peer in peers),
            }
        )
    )


if __name__ == "__main__":
    main()
