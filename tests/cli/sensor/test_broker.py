from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from edge_agent.cli.sensor.broker import (
    BrokerMessage,
    BrokerOptions,
    BrokerSession,
    broker_url_problem,
)
from edge_agent.errors import ConfigError
from edge_agent.extras import library_needed
from tests.forward.sinks.mqtt.broker import Broker, Subscriber, running_broker, subscribed, until


@contextmanager
def session(
    broker: Broker, messages_max: int = 10, version: str = "5"
) -> Iterator[tuple[BrokerSession, list[BrokerMessage], list[str]]]:
    taken: list[BrokerMessage] = []
    told: list[str] = []
    options = BrokerOptions(broker.url, ["t/#"], "sensor", version)  # type: ignore[arg-type]  # as given
    one = BrokerSession(options, messages_max, taken.append, told.append)
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
        assert told == ["connected to the broker"]
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
        assert "ended" in told[1] and "trying again" in told[1]
        assert f"no connection to the broker 127.0.0.1:{broker.port}: Connection refused" in told[2]
        broker.start()
        await until(lambda: told[-1] == "connected to the broker")
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
        BrokerSession(options, 1, print, print)


@pytest.mark.parametrize("url", ["mqtt://h", "mqtts://h:1/", "mqtt://[::1]:1883"])
def test_good_urls_of_brokers(url: str) -> None:
    assert broker_url_problem(url) is None


@pytest.mark.parametrize(
    "url", ["h", "tcp://h", "mqtt://", "mqtt://u:p@h", "mqtt://h/t", "mqtt://h:x"]
)
def test_bad_urls_of_brokers(url: str) -> None:
    assert broker_url_problem(url) is not None
