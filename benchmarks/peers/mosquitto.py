"""Mosquitto with QoS 1 and persistence, for a subscriber that is away and must get everything.

Mosquitto keeps its messages in memory and writes all of them to its file every half hour and when
it stops; to write more often means to write everything more often, so its default interval stays.
Without a subscriber nothing would be kept, so one with a persistent session subscribes first and
leaves; its queue has no limit.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from benchmarks.load import Task
from benchmarks.peers.peer import Peer, program, version_of
from benchmarks.pump import RECEIVE_BYTES, Flow, chunked
from benchmarks.records import RECORD_BYTES

TOPIC = b"bench"
#: Packet identifiers have 16 bits, so no more can be out on one connection.
WINDOW = 60_000
CHUNK_MESSAGES = 1_000
PUBACK_BYTES = 4
#: The broker sends at once what waits; so long a silence means that there is no more.
QUIET_S = 0.5


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT 3.1.1 control packet: its kind, the length in sevens of bits, the rest."""
    head, size = bytearray([kind]), len(body)
    while size > 127:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + body


def text(value: bytes) -> bytes:
    """A string with its length in front."""
    return struct.pack(">H", len(value)) + value


def publish(number: int, body: bytes) -> bytes:
    """PUBLISH with QoS 1 and the packet identifier of the message ``number``, counted from 0."""
    return packet(0x32, text(TOPIC) + struct.pack(">H", number % 65_535 + 1) + body)


def open_client(host: str, port: int, name: bytes, *, clean: bool) -> socket.socket:
    """Connect as ``name``; a session that is not ``clean`` outlives its connection."""
    sock = socket.create_connection((host, port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    flags = 0x02 if clean else 0
    sock.sendall(packet(0x10, text(b"MQTT") + bytes([4, flags, 0, 0]) + text(name)))
    answer = sock.recv(4)
    if answer[:2] != b"\x20\x02" or answer[3:] != b"\0":
        raise ConnectionError(f"mosquitto: {answer!r}")
    return sock


def count_acks(flow: Flow, data: bytes) -> None:
    """Only PUBACKs come back, of four bytes each."""
    data = flow.rest + data
    whole = len(data) // PUBACK_BYTES
    if data[: whole * PUBACK_BYTES : PUBACK_BYTES] != b"\x40" * whole:
        raise ConnectionError(f"mosquitto: {data[:100]!r}")
    flow.acked += whole
    flow.rest = data[whole * PUBACK_BYTES :]


class Mosquitto(Peer):
    """QoS 1, persistence on."""

    title = "Mosquitto QoS 1, persistence on"
    promise = "the message is in memory; written to the file every 30 minutes and at a stop"
    synced = False
    messages = 20_000

    def missing(self) -> str:
        """Debian's package."""
        return "" if program("mosquitto") else "apt install mosquitto"

    def command(self, folder: Path, port: int) -> list[str]:
        """A configuration file. Started by root, it would become somebody without the folder."""
        path = folder / "mosquitto.conf"
        lines = [
            f"listener {port} 127.0.0.1", "allow_anonymous true", "persistence true",
            f"persistence_location {folder}/", "max_inflight_messages 0",
            "max_queued_messages 0", "max_queued_bytes 0", "set_tcp_nodelay true",
            "log_type error", "sys_interval 0", "memory_limit 1073741824",
        ]  # fmt: skip
        if os.geteuid() == 0:
            lines.append("user root")
        path.write_text("\n".join(lines) + "\n")
        return [program("mosquitto"), "-c", str(path)]

    def prepare(self, port: int) -> None:
        """The subscriber that is away."""
        with open_client("127.0.0.1", port, b"away", clean=False) as sock:
            sock.sendall(packet(0x82, b"\0\1" + text(TOPIC) + b"\1"))
            if (answer := sock.recv(5)) != b"\x90\x03\0\1\1":
                raise ConnectionError(f"mosquitto: {answer!r}")
            sock.sendall(packet(0xE0, b""))

    def connect(self, task: Task, index: int) -> Flow:
        """One connection of the load."""
        packets = [publish(number, body) for number, body in enumerate(task.bodies(index))]
        chunks, upto = chunked(packets, CHUNK_MESSAGES)
        sock = open_client(task.host, task.port, b"load-%d" % index, clean=True)
        return Flow(sock, chunks, upto, WINDOW, count_acks, source=f"{index}")

    def stored(self, folder: Path, port: int) -> int:
        """The subscriber comes back and counts what waits for it; all messages have one size."""
        size = len(publish(0, bytes(RECORD_BYTES)))
        number = 2 + len(text(TOPIC))  # where the packet's identifier stands
        found, data = 0, b""
        with open_client("127.0.0.1", port, b"away", clean=False) as sock:
            sock.settimeout(QUIET_S)
            while True:
                try:
                    data += sock.recv(RECEIVE_BYTES)
                except TimeoutError:
                    return found
                whole = len(data) // size
                identifiers = [
                    data[at + number : at + number + 2] for at in range(0, whole * size, size)
                ]
                sock.sendall(b"".join(b"\x40\x02" + identifier for identifier in identifiers))
                found, data = found + whole, data[whole * size :]

    def version(self) -> str:
        """As it says itself."""
        return f"Mosquitto {version_of(program('mosquitto'), '-h')}"
