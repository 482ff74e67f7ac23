"""A real Mosquitto on loopback, and a subscriber that writes down what it was given."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import trio
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.ports import free_port
from tests.patience import PATIENCE_S


@dataclass
class Broker:
    """One Mosquitto; ``more`` are lines of its configuration."""

    folder: Path
    more: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = (
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {self.folder}/\nmax_queued_messages 0\n"
            f"user {getpass.getuser()}\nlog_type error\n{self.more}\n"
        )
        conf = self.folder / "mosquitto.conf"
        conf.write_text(text)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(["mosquitto", "-c", conf], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            os.kill(self.process.pid, number)
            self.process.wait(PATIENCE_S)
            self.process = None


@contextmanager
def running_broker(folder: Path, more: str = "") -> Iterator[Broker]:
    broker = Broker(folder, more)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class Subscriber:
    """A durable subscriber of QoS 1, by paho; ``messages`` are whole, in their order."""

    def __init__(self, broker: Broker, topic: str = "#", on_message: Any = None) -> None:
        self.broker, self.messages = broker, list[paho.MQTTMessage]()
        self._marks, self._mark = set[bytes](), 0
        self.subscribed = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, "subscriber", protocol=MQTTProtocolVersion.MQTTv5
        )
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda *_: client.subscribe(topic, qos=1)  # type: ignore[assignment]  # what it gives is not looked at
        client.on_subscribe = lambda *_: self.subscribed.set()
        client.on_message = on_message or self._take
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
        properties.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", broker.port, clean_start=False, properties=properties)
        self.client = client
        client.loop_start()
        assert self.subscribed.wait(PATIENCE_S)

    def _take(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        if message.topic == "mark":
            self._marks.add(bytes(message.payload))
        else:
            self.messages.append(message)

    async def settled(self) -> list[paho.MQTTMessage]:
        """Everything that the broker had taken before this was asked."""
        self._mark += 1
        mark = str(self._mark).encode()
        self.client.publish("mark", mark, qos=1)
        await until(lambda: mark in self._marks)
        return list(self.messages)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


@contextmanager
def subscribed(broker: Broker, topic: str = "#") -> Iterator[Subscriber]:
    subscriber = Subscriber(broker, topic)
    try:
        yield subscriber
    finally:
        subscriber.stop()
