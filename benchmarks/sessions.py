"""Many sessions held by one process with one epoll: connect at once, hello, welcome, acks.

For loads that must cost little themselves: no tasks, no client library. `benchmarks.load` keeps few
connections busy; this keeps many open.
"""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import time
from dataclasses import dataclass, field

import msgspec

from benchmarks.load import frame

#: Nothing came for so long: the run has failed.
STALLED_AFTER_S = 30.0
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


@dataclass(slots=True)
class Sensor:
    """One session. ``base`` is the ``next`` of its welcome; ``welcomed_s`` when that came."""

    socket: socket.socket
    source: str
    pending: list[bytes]  # what is still to say before the welcome: upgrade, hello
    incoming: bytearray = field(default_factory=bytearray)
    base: int = 0
    acked: int = 0
    welcomed_s: float = -1.0
    frames: list[bytes] = field(default_factory=list)
    due: list[float] = field(default_factory=list)  # of each message sent


def new_sensor(address: tuple[str, int], source: str, stream: str) -> Sensor:
    """Begin to connect; `welcome_all` does the rest."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection.connect(address)
    except BlockingIOError:
        pass  # It will be writable once it is connected.
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /ingest/{stream} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: edge-agent.v1+json\r\n\r\n"
    )
    hello = json.dumps({"type": "hello", "source": source}).encode()
    return Sensor(connection, source, [request.encode(), frame(hello, text=True)])


def welcome_all(address: tuple[str, int], sources: list[str], streams: list[str]) -> list[Sensor]:
    """Open all sessions at once; each says hello when its upgrade was accepted, as clients do.

    ``welcomed_s`` counts from before the first socket was made.
    """
    poller = select.epoll()
    began = time.perf_counter()
    sensors = []
    by_descriptor: dict[int, Sensor] = {}
    for source, stream in zip(sources, streams, strict=True):
        sensor = new_sensor(address, source, stream)
        sensors.append(sensor)
        by_descriptor[sensor.socket.fileno()] = sensor
        poller.register(sensor.socket, select.EPOLLOUT)
    left = len(sensors)
    while left:
        events = poller.poll(STALLED_AFTER_S)
        if not events:
            raise TimeoutError(f"{left} of {len(sensors)} sessions got no welcome")
        for descriptor, event in events:
            sensor = by_descriptor[descriptor]
            if event & select.EPOLLOUT:
                sensor.socket.send(sensor.pending.pop(0))
                poller.modify(descriptor, select.EPOLLIN)
            elif _proceed(sensor):
                sensor.welcomed_s = time.perf_counter() - began
                poller.unregister(descriptor)
                left -= 1
    poller.close()
    return sensors


def _proceed(sensor: Sensor) -> bool:
    """Read on before the welcome; True once it is there."""
    piece = sensor.socket.recv(65536)
    if not piece:
        raise ConnectionError(f"{sensor.source}: refused: {bytes(sensor.incoming)!r}")
    sensor.incoming += piece
    if sensor.pending:
        head, end, rest = bytes(sensor.incoming).partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(f"{sensor.source}: refused: {head!r}")
        sensor.incoming[:] = rest
        sensor.socket.send(sensor.pending.pop(0))
    for opcode, payload in server_frames(sensor.incoming):
        if opcode in (_TEXT, _BINARY):
            welcome = msgspec.json.decode(payload)
            if welcome["type"] != "welcome":
                raise ConnectionError(f"{sensor.source}: expected a welcome, got {welcome}")
            sensor.base = welcome["next"]
            return True
    return False


def take_acks(sensor: Sensor) -> int:
    """Read what has come; the number of messages that are acked now. Answers pings."""
    piece = sensor.socket.recv(65536)
    if not piece:
        raise ConnectionError(f"{sensor.source}: the agent went away")
    sensor.incoming += piece
    acked = sensor.acked
    for opcode, payload in server_frames(sensor.incoming):
        if opcode in (_TEXT, _BINARY):
            answer = msgspec.json.decode(payload)
            if answer["type"] != "ack":
                raise ConnectionError(f"{sensor.source}: expected an ack, got {answer}")
            acked = answer["next"] - sensor.base
        elif opcode == _PING:
            sensor.socket.send(bytes([0x80 | _PONG]) + frame(payload)[1:])
    return acked


def server_frames(incoming: bytearray) -> list[tuple[int, bytes]]:
    """Take whole unmasked frames out of ``incoming``: opcode and payload of each.

    Raises:
        ConnectionError: the agent closes.
    """
    found = []
    at = 0
    while len(incoming) - at >= 2:
        opcode, size, start = incoming[at] & 0x0F, incoming[at + 1] & 0x7F, at + 2
        if size == 126:
            if len(incoming) - at < 4:
                break
            size, start = int.from_bytes(incoming[at + 2 : at + 4], "big"), at + 4
        if len(incoming) - start < size:
            break
        payload = bytes(incoming[start : start + size])
        if opcode == _CLOSE:
            raise ConnectionError(f"closed by the agent: {payload!r}")
        found.append((opcode, payload))
        at = start + size
    del incoming[:at]
    return found
