"""How fast a backlog reaches an MQTT broker as single messages of QoS 1, and what each costs.

The peer is Mosquitto's own bridge: a broker with the same backlog in its memory, which brings it to
another one. Both find the same broker, with persistence on and nobody subscribed. The clock starts
when the first message is there, since both space their attempts to connect.
"""

from __future__ import annotations

import getpass
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.bench_drain import DIGESTED, fill
from benchmarks.peers.mosquitto import PUBACK_BYTES, open_client, packet, publish, text
from benchmarks.ports import free_port
from benchmarks.processes import Agent, Server
from benchmarks.records import RECORD_BYTES

RECORDS = 500_000
BLOCK_RECORDS = 1_000
REST_S = 3.0
#: Of a message at the peer: about a record's JSON with its id.
BODY = b"x" * 330
_LOOK_S = 0.1
_WINDOW = 2_000
_TIMEOUT_S = 180.0
_SYS_TOPIC = b"$SYS/broker/publish/messages/received"


def run(
    folder: Path,
    records: int = RECORDS,
    rest_s: float = REST_S,
    versions: Sequence[str] = ("5", "3.1.1"),
) -> dict[str, Any]:
    """Messages a second, and microseconds of the sender's CPU for each, for us and for the peer.

    The agent is given ``rest_s`` seconds for what it does after a start, whoever it sends to.
    """
    found: dict[str, Any] = {"records": records, "record_bytes": RECORD_BYTES}
    for version in versions:
        found[f"edge-agent, MQTT {version}"] = _agent(folder / version, records, version, rest_s)
    found["Mosquitto's bridge"] = _bridge(folder / "bridge", records)
    return found


def _agent(folder: Path, records: int, version: str, rest_s: float) -> dict[str, float]:
    port = free_port()
    fill(folder / "data", records, BLOCK_RECORDS)
    config = (
        f'{DIGESTED}[[upstream]]\nname = "broker"\nurl = "mqtt://127.0.0.1:{port}"\n'
        'backoff_base = "200ms"\nbackoff_max = "400ms"\n'
        f'[upstream.mqtt]\nversion = "{version}"\n'
    )
    agent = Agent(folder, config)
    broker: Server | None = None
    try:
        time.sleep(rest_s)
        idle_mb, cpu = agent.memory_mb(), agent.cpu_seconds()
        broker = _broker(folder / "broker", port)
        seconds = _drain(lambda: _position(agent), records)
        cpu = agent.cpu_seconds() - cpu
        peak_mb = agent.memory_mb()
    finally:
        agent.stop()
        if broker is not None:
            broker.stop()
    return _row(records, seconds, cpu) | {"RssAnon MB": peak_mb, "idle MB": idle_mb}


def _bridge(folder: Path, records: int) -> dict[str, float]:
    port, own = free_port(), free_port()
    more = (
        f"connection bench\naddress 127.0.0.1:{port}\ntopic bench out 1\ncleansession false\n"
        "restart_timeout 1\nbridge_protocol_version mqttv311\n"
    )
    near = _broker(folder / "near", own, more)
    far: Server | None = None
    try:
        _flood(own, records)
        cpu = near.cpu_seconds()
        far = _broker(folder / "far", port)
        with closing(_Counter(port)) as counter:
            seconds = _drain(counter.read, records)
        cpu = near.cpu_seconds() - cpu
    finally:
        near.stop()
        if far is not None:
            far.stop()
    return _row(records, seconds, cpu)


def _row(records: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"messages/s": records / seconds, "us CPU/message": cpu / records * 1e6}


def _broker(folder: Path, port: int, more: str = "") -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    conf = folder / "mosquitto.conf"
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
        f"persistence_location {folder}/\nmax_queued_messages 0\nsys_interval 1\n"
        f"user {getpass.getuser()}\n{more}"
    )
    return Server(["mosquitto", "-c", str(conf)], port, folder)


def _position(agent: Agent) -> int:
    (upstream,) = agent.get("/api/status")["upstreams"]
    return int(upstream["acknowledged_records"])


def _drain(count: Callable[[], int], records: int) -> float:
    """Seconds from the last look that found nothing to the first that found everything."""
    began, deadline = time.perf_counter(), time.perf_counter() + _TIMEOUT_S
    while (found := count()) < records:
        now = time.perf_counter()
        if not found:
            began = now
        if now > deadline:
            raise SystemExit(f"only {found} of {records} after {_TIMEOUT_S} s")
        time.sleep(_LOOK_S)
    return time.perf_counter() - began


class _Counter:
    """What a broker has received, as it says itself, each second."""

    def __init__(self, port: int) -> None:
        self._socket = open_client("127.0.0.1", port, b"counter", clean=True)
        self._socket.sendall(packet(0x82, b"\x00\x01" + text(_SYS_TOPIC) + b"\x00"))
        self._socket.settimeout(_LOOK_S)
        self._found = 0

    def close(self) -> None:
        self._socket.close()

    def read(self) -> int:
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            return self._found
        at = data.rfind(_SYS_TOPIC)
        if at >= 0:
            told = data[at + len(_SYS_TOPIC) :]
            digits = bytes(one for one in told[:20] if 48 <= one <= 57)
            self._found = int(digits or b"0")
        return self._found


def _flood(port: int, records: int) -> None:
    """The backlog of the bridge, by QoS 1."""
    sock = open_client("127.0.0.1", port, b"flood", clean=True)
    sent = ack_bytes = 0
    while ack_bytes < records * PUBACK_BYTES:
        if sent < records and sent - ack_bytes // PUBACK_BYTES < _WINDOW:
            upto = min(sent + 1_000, records)
            sock.sendall(b"".join(publish(number, BODY) for number in range(sent, upto)))
            sent = upto
        else:
            ack_bytes += len(sock.recv(65_536))
    sock.close()


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp())
    try:
        count = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
        print(json.dumps(run(place, count), indent=2))
    finally:
        shutil.rmtree(place)
