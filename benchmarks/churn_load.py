"""Opens and closes many real connections, politely and otherwise.

Run as ``python -m benchmarks.churn_load '{"host": …, "port": …}'``. It reads numbers, one a line;
for each it opens and closes so many connections, in waves of `WAVE` at a time, and prints one JSON
object: how many of each kind of `Churn.kinds` so far, and how many records were acked. They come
from `ADDRESSES` in turn, so that those which the kernel still remembers as closed (TIME_WAIT) take
no port away from new ones.
"""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Generator

from benchmarks.load import frame
from benchmarks.records import encoded_records
from benchmarks.sessions import server_frames

WAVE = 100
ADDRESSES = [f"127.0.0.{last}" for last in range(2, 22)]
#: Each source comes back after so many others, long after its last connection has ended. The agent
#: remembers twice as many.
SOURCES, STREAMS = 5_000, 50
TIMEOUT_S = 20.0
#: Linux: choose the port at connect(2), where one may serve several destinations.
_BIND_ADDRESS_NO_PORT = 24
_CLOSE_FRAME = bytes([0x88]) + frame((1000).to_bytes(2, "big"))[1:]
_SUBPROTOCOL = "Sec-WebSocket-Protocol: edge-agent.v1+json\r\n"

#: The steps of a connection: at each ``yield`` all others of its wave take a step of theirs.
Steps = Generator[None]


class Churn:
    """Makes connections, and counts what came of them."""

    def __init__(self, host: str, port: int, seed: int = 1) -> None:
        #: What a connection does, and how often, of a hundred.
        self.kinds = {
            self.session: 50,
            self.plain: 15,
            self.vanishing: 10,
            self.careless: 10,
            self.half_request: 10,
            self.whole_request: 5,
        }
        self.opened: Counter[str] = Counter()
        self.acked = 0
        self._address = (host, port)
        self._dice = random.Random(seed)
        self._connections = 0
        self._sources = 0
        self._records = encoded_records()

    def run(self, count: int) -> None:
        """So many connections, one wave after the other."""
        while count > 0:
            size = min(WAVE, count)
            kinds = self._dice.choices(list(self.kinds), list(self.kinds.values()), k=size)
            self.opened.update(kind.__name__ for kind in kinds)
            count -= size
            wave = [kind() for kind in kinds]
            while wave:
                wave = [steps for steps in wave if next(steps, "ended") is None]

    def session(self) -> Steps:
        """A record, its ack, and the close handshake."""
        connection = self._connect()
        yield from self._send_record(connection)
        self._take_ack(connection)
        yield from self._say_goodbye(connection)

    def plain(self) -> Steps:
        """The same without a session, acks asked for."""
        connection = self._connect()
        connection.sendall(self._request("?ack=1", ""))
        yield
        _read_head(connection)
        connection.sendall(self._message())
        yield
        self._take_ack(connection)
        yield from self._say_goodbye(connection)

    def vanishing(self) -> Steps:
        """A record and its ack; then gone without a close frame."""
        connection = self._connect()
        yield from self._send_record(connection)
        self._take_ack(connection)
        connection.close()

    def careless(self) -> Steps:
        """A record, and reset before its ack can come."""
        connection = self._connect()
        yield from self._send_record(connection, wait=False)
        _reset(connection)

    def half_request(self) -> Steps:
        """Reset in the middle of the request's head."""
        connection = self._connect()
        connection.sendall(self._request("", _SUBPROTOCOL)[:60])
        yield
        _reset(connection)

    def whole_request(self) -> Steps:
        """Reset before the answer can be read: in the middle of the upgrade."""
        connection = self._connect()
        connection.sendall(self._request("", _SUBPROTOCOL))
        _reset(connection)
        yield

    def _connect(self) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        connection.bind((ADDRESSES[self._connections % len(ADDRESSES)], 0))
        connection.connect(self._address)
        self._connections += 1
        return connection

    def _request(self, query: str, subprotocol: str) -> bytes:
        host, port = self._address
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET /ingest/churn/{self._connections % STREAMS}{query} HTTP/1.1\r\n"
            f"Host: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{subprotocol}\r\n"
        ).encode()

    def _send_record(self, connection: socket.socket, *, wait: bool = True) -> Steps:
        """Upgrade, hello, welcome, record; ``wait``: until all others of the wave did so too."""
        connection.sendall(self._request("", _SUBPROTOCOL))
        yield
        _read_head(connection)
        source = f"churn/{self._sources % SOURCES}"
        self._sources += 1
        hello = json.dumps({"type": "hello", "source": source}).encode()
        connection.sendall(frame(hello, text=True))
        yield
        welcome = _read_answer(connection)
        if welcome.get("type") != "welcome":
            raise ConnectionError(f"expected a welcome, got {welcome}")
        connection.sendall(self._message())
        if wait:
            yield

    def _message(self) -> bytes:
        return frame(self._records[self._connections % len(self._records)])

    def _take_ack(self, connection: socket.socket) -> None:
        # {"type": "ack", "next": …} in a session, {"ack": …} in plain mode.
        answer = _read_answer(connection)
        if "ack" not in answer and answer.get("type") != "ack":
            raise ConnectionError(f"expected an ack, got {answer}")
        self.acked += 1

    def _say_goodbye(self, connection: socket.socket) -> Steps:
        connection.sendall(_CLOSE_FRAME)
        yield
        while connection.recv(4096):
            pass  # Its close frame, then the end.
        connection.close()


def _read_head(connection: socket.socket) -> None:
    """The answer to the upgrade; nothing comes behind it before we have said something."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _receive(connection)
    if b" 101 " not in answer.split(b"\r\n")[0]:
        raise ConnectionError(f"upgrade refused: {answer!r}")


def _read_answer(connection: socket.socket) -> dict[str, object]:
    incoming = bytearray()
    while True:
        incoming += _receive(connection)
        for opcode, payload in server_frames(incoming):
            if opcode == 1:
                answer: dict[str, object] = json.loads(payload)
                return answer


def _receive(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the agent hung up")
    return piece


def _reset(connection: socket.socket) -> None:
    # Closing with a linger time of zero sends RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def main() -> None:
    """Serve numbers of connections."""
    options = json.loads(sys.argv[1])
    churn = Churn(options["host"], options["port"])
    print("ready", flush=True)
    for line in sys.stdin:
        churn.run(int(line))
        print(json.dumps({"opened": churn.opened, "acked": churn.acked}), flush=True)


if __name__ == "__main__":
    main()
