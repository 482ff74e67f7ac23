from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from edge_agent.cli.sensor.broker import (
    BrokerMessage,
    BrokerOptions,
    BrokerSession,
    broker_url_problem,
    topic_problem,
)
from edge_agent.errors import ConfigError
from edge_agent.extras import library_needed
from tests.forward.sinks.mqtt.broker import Broker, Subscriber, running_broker, subscribed, until
from tests.patience import PATIENCE_S


@contextmanager
def session(
    broker: Broker, messages_max: int = 10, version: str = "5"
) -> Iterator[tuple[BrokerSession, list[BrokerMessage], list[str]]]:
    taken: list[BrokerMessage] = []
    told: list[str] = []
    options = BrokerOptions(broker.url, ["t/#"], "sensor", version)  # type: ignore[arg-type]  # as given

    def tell(line: str, _: bool) -> None:
        told.append(line)

    one = BrokerSession(options, messages_max, taken.append, tell)
    one.start()
    try:
        yield one, taken, told
    finally:
        one.stop()


def has(taken: list[BrokerMessage], at: int) -> bool:
    return len(taken) > at


def publish(through: Subscriber, count: int) -> None:
    for n in range(count):
        through.client.publish("t/1", str(n), qos=1)


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_was_not_done_comes_again_to_the_next_session(
    tmp_path: Path, version: str
) -> None:
    with running_broker(tmp_path) as broker, subscribed(broker, "mark") as other:
        with session(broker, version=version) as (one, taken, told):
            await until(lambda: bool(told))
            publish(other, 5)
            await until(lambda: len(taken) == 5)
            for message in taken[:2]:
                one.done(message)
            await other.settled()
        assert told == [""]
        with session(broker, version=version) as (one, again, _):
            await until(lambda: len(again) == 3)
            assert [message.payload for message in again] == [b"2", b"3", b"4"]
            # An acknowledgement for another connection would be one for another message.
            one.done(taken[3])
            assert {message.connection for message in again}.isdisjoint({taken[3].connection - 1})


@pytest.mark.needs("mosquitto")
async def test_no_more_is_taken_than_there_are_places_for(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker, subscribed(broker, "mark") as other:
        with session(broker, messages_max=2) as (one, taken, told):
            await until(lambda: bool(told))
            publish(other, 6)
            await until(lambda: len(taken) == 2)
            await other.settled()
            assert len(taken) == 2
            for at in range(6):
                await until(partial(has, taken, at))
                one.done(taken[at])
        assert [message.payload for message in taken] == [b"%d" % n for n in range(6)]


@pytest.mark.needs("mosquitto")
async def test_a_large_message_takes_the_place_of_several(tmp_path: Path) -> None:
    with (
        running_broker(tmp_path) as broker,
        subscribed(broker, "mark") as other,
        session(broker, messages_max=3) as (one, taken, told),
    ):
        await until(lambda: bool(told))
        for payload in (b"x" * 200_000, b"a", b"b", b"c"):
            other.client.publish("t/1", payload, qos=1)
        await other.settled()
        await until(lambda: len(taken) == 1)
        one.done(taken[0])
        await until(lambda: len(taken) == 4)


@pytest.mark.needs("mosquitto")
async def test_it_comes_back_when_the_broker_does(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker, session(broker) as (_, taken, told):
        await until(lambda: bool(told))
        broker.stop(9)
        await until(lambda: len(told) > 2)
        assert "ended" in told[1]
        assert f"no connection to the broker 127.0.0.1:{broker.port}: Connection refused" in told[2]
        broker.start()
        await until(lambda: told[-1] == "")
        with subscribed(broker, "mark") as other:
            publish(other, 1)
            await until(lambda: len(taken) == 1)
    assert threading.active_count() < 20


def test_without_the_library_the_line_for_pip_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho", None)
    monkeypatch.delitem(sys.modules, "paho.mqtt", raising=False)
    monkeypatch.delitem(sys.modules, "paho.mqtt.client", raising=False)
    options = BrokerOptions("mqtt://h", ["t"], "x")
    with pytest.raises(ConfigError, match=re.escape(library_needed("mqtt"))):
        BrokerSession(options, 1, print, lambda line, lasting: None)


@pytest.mark.parametrize("url", ["mqtt://h", "mqtts://h:1/", "mqtt://[::1]:1883"])
def test_good_urls_of_brokers(url: str) -> None:
    assert broker_url_problem(url) is None


@pytest.mark.parametrize(
    "url", ["h", "tcp://h", "mqtt://", "mqtt://u:p@h", "mqtt://h/t", "mqtt://h:x"]
)
def test_bad_urls_of_brokers(url: str) -> None:
    assert broker_url_problem(url) is not None


@pytest.mark.parametrize("topic", ["#", "a/#", "+/b", "a/+/#", "/", "a b"])
def test_good_topics(topic: str) -> None:
    assert topic_problem(topic) is None


@pytest.mark.parametrize("topic", ["", "#/a", "a#", "a+/b", "a/##", "x" * 70_000, "a\0"])
def test_bad_topics(topic: str) -> None:
    assert topic_problem(topic) is not None


@contextmanager
def answering(*said: bytes) -> Iterator[int]:
    """A broker's port that answers to each connection's first packets with ``said``."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    stream, _ = server.accept()
                    with stream:
                        for each in said:
                            stream.recv(4096)
                            stream.sendall(each)
                        if said[-1]:
                            stream.settimeout(PATIENCE_S)
                            stream.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


def connack(version: str, code: int) -> bytes:
    return bytes((0x20, 3, 0, code, 0)) if version == "5" else bytes((0x20, 2, 0, code))


ANSWERS = [
    ("5", 0x86, "user and password", True),
    ("3.1.1", 4, "user and password", True),
    ("5", 0x87, "not authorised", True),
    ("3.1.1", 5, "not authorised", True),
    ("5", 0x85, "the client id", True),
    ("3.1.1", 2, "the client id", True),
    ("5", 0x8A, "banned", True),
    ("5", 0x84, "--version 3.1.1 asks", True),
    ("5", 0x88, "not available", False),
    ("3.1.1", 3, "not available", False),
]


async def told_by(port: int, version: str, scheme: str = "mqtt") -> tuple[str, bool]:
    heard: list[tuple[str, bool]] = []
    url = f"{scheme}://127.0.0.1:{port}"
    options = BrokerOptions(url, ["t"], "sensor", version)  # type: ignore[arg-type]  # as given
    one = BrokerSession(options, 1, lambda _: None, lambda *it: heard.append(it))
    one.start()
    try:
        await until(lambda: bool(heard))
    finally:
        await trio.to_thread.run_sync(one.stop)
    assert len(heard) == 1, "that the connection ended is no news then"
    return heard[0]


@pytest.mark.parametrize("version, code, words, lasting", ANSWERS)
async def test_a_broker_that_refuses_us_says_why_and_whether_a_person_is_needed(
    version: str, code: int, words: str, lasting: bool
) -> None:
    with answering(connack(version, code)) as port:
        line, is_lasting = await told_by(port, version)
    assert words in line and is_lasting is lasting


@pytest.mark.parametrize("said", [connack("5", 5), b"\x20\xff\xff\xff\xff\xff"])
async def test_an_answer_that_is_no_mqtt_5_is_told_and_does_not_end_the_thread(said: bytes) -> None:
    """An old broker has codes of its own whatever it was asked."""
    with answering(said) as port:
        line, lasting = await told_by(port, "5")
    assert line.startswith("the broker answers with no welcome: ") and lasting
    assert "--version 3.1.1" in line


async def test_a_broker_that_hangs_up_without_a_word_is_tried_again() -> None:
    with answering(b"") as port:
        line, lasting = await told_by(port, "3.1.1")
    assert line.startswith("the broker answers with no welcome: ") and not lasting
    assert line.endswith(" (with TLS the URL begins with mqtts://)")


# paho leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_to_a_port_without_it_is_told() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        line, lasting = await told_by(port, "5", "mqtts")
    assert line.endswith(" (without TLS the URL begins with mqtt://)") and not lasting


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_alert_is_no_sign_of_a_port_without_tls() -> None:
    with answering(b"\x15\x03\x03\x00\x02\x02\x28") as port:  # handshake_failure
        line, _ = await told_by(port, "5", "mqtts")
    assert "handshake failure" in line.lower() and "mqtt://" not in line


async def test_a_topic_that_is_refused_is_told_and_lasting_where_none_is_left() -> None:
    ok = connack("5", 0)
    with answering(ok, bytes((0x90, 4, 0, 1, 0, 0x87))) as port:
        assert await told_by(port, "5") == (
            "the broker refuses the topic t: not authorised (0x87)",
            True,
        )


@pytest.mark.parametrize("version, refusal", [("5", 0x87), ("3.1.1", 0x80)])
async def test_one_of_several_topics_that_is_refused_is_told_and_asked_for_again(
    version: str, refusal: int
) -> None:
    size = int(version == "5")
    first = bytes((0x90, 4 + size, 0, 1, *[0] * size, refusal, 0))
    then = bytes((0x90, 3 + size, 0, 2, *[0] * size, 1))
    told: list[tuple[str, bool]] = []
    with answering(connack(version, 0), first, then) as port:
        url, topics = f"mqtt://127.0.0.1:{port}", ["t", "u"]
        options = BrokerOptions(url, topics, "sensor", version)  # type: ignore[arg-type]  # as given
        one = BrokerSession(options, 1, lambda _: None, lambda *it: told.append(it))
        one.start()
        try:
            await until(lambda: len(told) == 2)
            assert told[0] == ("", False) and "the topic t" in told[1][0] and not told[1][1]
            assert one.missing == ["t"]
            one.subscribe(one.missing)
            await until(lambda: len(told) == 3)
            assert told[2] == ("", False) and not one.missing
        finally:
            await trio.to_thread.run_sync(one.stop)
