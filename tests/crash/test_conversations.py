"""Reading what was said from the bytes that went over connections."""

from __future__ import annotations

import json

from tests.crash.conversations import Fact, facts_of
from tests.crash.recording import Op

PORT, HUB_PORT = 80, 90
SENSOR = "127.0.0.1:80->127.0.0.1:5000"
UPGRADE = b"GET /ingest/telemetry/json HTTP/1.1\r\nHost: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
WELCOME = {"type": "welcome", "epoch": "e1", "next": 7}


def frame(value: object, *, masked: bool = False) -> bytes:
    data = json.dumps(value).encode()
    assert len(data) < 126
    if not masked:
        return bytes([0x81, len(data)]) + data
    mask = b"\x01\x02\x03\x04"
    hidden = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    return bytes([0x81, 0x80 | len(data)]) + mask + hidden


def facts(*said: tuple[str, bytes], ends: str = SENSOR) -> list[Fact]:
    ops = [
        Op(10 * place, 10 * place + 5, kind, ends, data=data)
        for place, (kind, data) in enumerate(said)
    ]
    return facts_of(ops, PORT, HUB_PORT)


def opened(*more: tuple[str, bytes]) -> list[Fact]:
    hello = {"type": "hello", "source": "json/1"}
    return facts(
        ("hear", UPGRADE), ("say", SWITCH), ("hear", frame(hello, masked=True)),
        ("say", frame(WELCOME)), *more,
    )  # fmt: skip


def test_a_welcome_tells_the_epoch_and_that_all_before_it_is_acked() -> None:
    assert opened() == [Fact(30, "epoch", "e1"), Fact(30, "acked", "json/1", 7)]


def test_records_count_from_the_welcome_once_they_were_read() -> None:
    batch = frame([{"a": 1}, {"a": 2}], masked=True)
    *_, first, second = opened(("hear", frame({"a": 0}, masked=True)), ("hear", batch))

    assert first == Fact(45, "received", "json/1", numbers=(7,))
    assert second == Fact(55, "received", "json/1", numbers=(8, 9))


def test_an_ack_counts_from_its_first_byte_on() -> None:
    *_, ack = opened(("say", frame({"type": "ack", "next": 9})))

    assert ack == Fact(40, "acked", "json/1", 9)


def test_messages_are_found_however_the_bytes_are_cut() -> None:
    whole = frame({"a": 0}, masked=True) + frame({"a": 1}, masked=True)
    cuts = [("hear", whole[:3]), ("hear", whole[3:20]), ("hear", whole[20:])]
    numbers = [fact.numbers for fact in opened(*cuts) if fact.kind == "received"]

    assert numbers == [(7,), (8,)]


def test_a_restart_is_known_before_it_is_welcome() -> None:
    hello = {"type": "hello", "source": "mixed/4", "epoch": "old", "first": 1001}
    found = facts(("hear", UPGRADE), ("say", SWITCH), ("hear", frame(hello, masked=True)))

    assert found == [Fact(25, "greeted", "mixed/4", 1001)]


def test_plain_messages_are_counted() -> None:
    upgrade = UPGRADE.replace(b" HTTP", b"?ack=1 HTTP")
    found = facts(
        ("hear", upgrade), ("say", SWITCH),
        ("hear", frame({"a": 0}, masked=True)), ("say", frame({"ack": 1})),
    )  # fmt: skip

    assert found == [
        Fact(25, "received", "plain", numbers=(1,)),
        Fact(30, "acked", "plain", 2),
    ]


def test_a_mark_begins_a_phase() -> None:
    assert facts(("hear", b"GET /mark-second-start HTTP/1.0\r\n\r\n")) == [
        Fact(5, "phase", "second start")
    ]


def test_connections_of_others_are_left_alone() -> None:
    assert facts(("hear", UPGRADE), ends="127.0.0.1:1->127.0.0.1:2") == []


def test_what_a_stranger_says_is_nobodys() -> None:
    upgrade = UPGRADE.replace(b"Host: x", b"Host: x\r\nStranger: yes")
    hello = {"type": "hello", "source": "mixed/4", "first": 1001}
    stop = {"type": "stop", "code": "forbidden_source"}
    found = facts(
        ("hear", upgrade), ("say", SWITCH), ("hear", frame(hello, masked=True)),
        ("say", frame(stop)),
    )  # fmt: skip
    assert found == []
