"""The cheap client that holds many sessions: frames, welcomes, acks, pings."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

import pytest

from benchmarks.sessions import Sensor, server_frames, take_acks, welcome_all


def said(message: dict[str, object], opcode: int = 1) -> bytes:
    payload = json.dumps(message).encode()
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    return head + bytes([126]) + len(payload).to_bytes(2, "big") + payload


ACK, LONG = said({"type": "ack", "next": 7}), said({"type": "ack", "next": 9, "x": "y" * 200})


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_frames_are_the_same_however_the_bytes_are_cut(step: int) -> None:
    stream = ACK + LONG + b"\x89\x02hi"
    incoming, found = bytearray(), []
    for at in range(0, len(stream), step):
        incoming += stream[at : at + step]
        found += server_frames(incoming)

    assert found == [(1, ACK[2:]), (1, LONG[4:]), (9, b"hi")]
    assert not incoming


def test_a_close_is_an_error_that_shows_its_reason() -> None:
    with pytest.raises(ConnectionError, match="full"):
        server_frames(bytearray(ACK + b"\x88\x06\x03\xe8full"))


def sensor_and_agent() -> tuple[Sensor, socket.socket]:
    ours, theirs = socket.socketpair()
    return Sensor(ours, "a", [], base=5), theirs


def test_acks_count_from_the_welcome_and_pings_are_answered() -> None:
    sensor, agent = sensor_and_agent()
    with sensor.socket, agent:
        agent.sendall(ACK + b"\x89\x02hi")

        assert take_acks(sensor) == 2
        pong = agent.recv(100)
        key, masked = pong[2:6], pong[6:]
        assert pong[:2] == b"\x8a\x82"
        assert bytes(a ^ b for a, b in zip(masked, key, strict=False)) == b"hi"


@pytest.mark.parametrize(
    "answer, error",
    [(said({"type": "stop", "code": "rate"}), "expected an ack"), (b"", "went away")],
)
def test_anything_but_an_ack_ends_the_run(answer: bytes, error: str) -> None:
    sensor, agent = sensor_and_agent()
    with sensor.socket, agent:
        agent.sendall(answer)
        agent.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError, match=error):
            take_acks(sensor)


def answering(head: bytes, count: int) -> tuple[tuple[str, int], Callable[[], None]]:
    """A listener that answers ``count`` upgrades with ``head`` and each hello with a welcome."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peers = [listener.accept()[0] for _ in range(count)]
        for number, peer in enumerate(peers):
            peer.recv(65536)
            peer.sendall(head)
            if b" 101 " in head and peer.recv(65536):
                peer.sendall(said({"type": "welcome", "next": 40 + number}))
        for peer in peers:
            peer.close()
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return listener.getsockname(), thread.join


def test_all_sessions_are_opened_at_once_and_each_gets_its_own_next() -> None:
    address, join = answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 3)

    sensors = welcome_all(address, ["a", "b", "c"], ["s"] * 3)

    join()
    assert sorted(sensor.base for sensor in sensors) == [40, 41, 42]
    assert all(sensor.welcomed_s > 0 for sensor in sensors)
    for sensor in sensors:
        sensor.socket.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the run ends, and its sockets with it
def test_a_refused_upgrade_says_what_the_agent_said() -> None:
    address, join = answering(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 1)

    with pytest.raises(ConnectionError, match="503"):
        welcome_all(address, ["a"], ["s"])

    join()
