"""A `BrokerSession` subscribes at an MQTT broker and acknowledges messages when it is told to.

paho-mqtt runs in a thread of its own, comes back by itself, and waits there while ``messages_max``
are not done: so a broker that says more than an agent takes is held up by TCP, and memory is
bounded. The session is persistent: what was not acknowledged comes again, to this process or to the
next one with the same client id.

A packet id means something within one connection only: behind a broker that lost its sessions the
same one may be another message. So acknowledgements for an earlier connection are not sent; the
broker sends such messages again, and they are stored once more.
"""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import click

from edge_agent.errors import ConfigError
from edge_agent.extras import library_needed
from edge_agent.files import trusting
from edge_agent.printable import why

#: How long a broker keeps what is for us while we are away, in seconds.
_EXPIRY_S = 30 * 86_400
_KEEP_ALIVE_S = 60
_LOOK_S = 0.5
_PLACE_BYTES = 64 * 1024
_DELAY_MAX_S = 60
#: Of subscribing: retained messages come with a new subscription, not with each connection.
_RETAINED_IF_NEW = 1


@dataclass(frozen=True, slots=True)
class BrokerMessage:
    """What a broker said; ``connection`` is a number of that connection's own."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    connection: int


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to connect, and what to subscribe to."""

    url: str
    topics: Sequence[str]
    client_id: str
    version: Literal["5", "3.1.1"] = "5"
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None


class BrokerSession:
    """See the module's docstring.

    Args:
        options: as a person gave them.
        messages_max: taken and not done, of 64 KiB each; larger ones count as several.
        on_message: called in paho's thread.
        tell: what a person should know, called in paho's thread.

    Raises:
        ConfigError: paho-mqtt is not installed, or a certificate cannot be used.
    """

    def __init__(
        self,
        options: BrokerOptions,
        messages_max: int,
        on_message: Callable[[BrokerMessage], None],
        tell: Callable[[str], None],
    ) -> None:
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "paho":
                raise
            raise ConfigError("sensor mqtt", library_needed("mqtt"), "none") from None
        self._options, self._on_message, self._tell = options, on_message, tell
        self._slots = threading.Semaphore(messages_max)
        self._messages_max = messages_max
        # Held while a connection begins or ends, so that no acknowledgement gets into another one.
        self._lock = threading.Lock()
        self._connection, self._closing = 0, False
        self._is_5 = options.version == "5"
        protocol = MQTTProtocolVersion.MQTTv5 if self._is_5 else MQTTProtocolVersion.MQTTv311
        more: dict[str, Any] = {} if self._is_5 else {"clean_session": False}
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            options.client_id,
            protocol=protocol,
            manual_ack=True,
            **more,
        )
        client.on_connect = self._connected
        client.on_connect_fail = self._no_connection
        client.on_disconnect = self._disconnected
        client.on_message = self._take
        client.reconnect_delay_set(1, _DELAY_MAX_S)
        if options.user is not None:
            client.username_pw_set(options.user, options.password)
        if urlsplit(options.url).scheme == "mqtts":
            client.tls_set_context(_context(options))
        self._client: Any = client

    def start(self) -> None:
        """Connect, in the thread, and come back until `stop`."""
        parts = urlsplit(self._options.url)
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        more: dict[str, Any] = {}
        if self._is_5:
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties

            properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
            properties.SessionExpiryInterval = _EXPIRY_S
            properties.ReceiveMaximum = min(self._messages_max, 65_535)
            more = {"clean_start": False, "properties": properties}
        self._client.connect_async(parts.hostname or "", port, _KEEP_ALIVE_S, **more)
        self._client.loop_start()

    def done(self, message: BrokerMessage) -> None:
        """It is durable, or will never be: the broker may forget it."""
        self._slots.release(self._places(message.payload))
        with self._lock:
            if message.qos and message.connection == self._connection:
                self._client.ack(message.packet_id, message.qos)

    def stop(self) -> None:
        """Say goodbye; the session stays. Blocks for a moment."""
        self._closing = True
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self, client: Any, _data: Any, flags: Any, reason: Any, _properties: Any
    ) -> None:
        with self._lock:
            self._connection += 1
        if reason.is_failure:
            self._tell(f"the broker refuses the connection: {reason}; trying again")
            return
        self._tell("connected to the broker")
        if self._is_5:
            from paho.mqtt.subscribeoptions import SubscribeOptions

            wanted: Any = [
                (topic, SubscribeOptions(qos=1, retainHandling=_RETAINED_IF_NEW))
                for topic in self._options.topics
            ]
        else:
            wanted = [(topic, 1) for topic in self._options.topics]
        client.subscribe(wanted)

    def _no_connection(self, _client: Any, _data: Any) -> None:
        # paho calls this while it handles the error, which it does not hand over.
        error = sys.exception()
        reason = f": {why(error)}" if error is not None else ""
        place = urlsplit(self._options.url).netloc
        self._tell(f"no connection to the broker {place}{reason}; trying again")

    def _disconnected(
        self, _c: Any, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        with self._lock:
            self._connection += 1
        if not self._closing:
            self._tell(f"the connection to the broker ended: {reason}; trying again")

    def _places(self, payload: bytes) -> int:
        """How many places a message takes: a large one several, as memory is what is bounded."""
        return min(1 + len(payload) // _PLACE_BYTES, self._messages_max)

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        for _ in range(self._places(message.payload)):
            while not self._slots.acquire(timeout=_LOOK_S):
                if self._closing:
                    return  # Not acknowledged, so it comes again.
        self._on_message(
            BrokerMessage(
                message.topic, bytes(message.payload), message.qos, message.mid, self._connection
            )
        )


def broker_url_problem(url: str) -> str | None:
    """What was expected instead of a broker's ``url``; None where it is good."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        return "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
    if parts.username is not None or parts.password is not None:
        return "a URL without user and password (--user and --password-file)"
    return None if parts.path in ("", "/") else "a URL without a path (--topic)"


def _context(options: BrokerOptions) -> ssl.SSLContext:
    try:
        context = trusting(options.ca_file)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (options.ca_file, options.certificate, options.key)))
        raise click.UsageError(f"{files}: {error}") from error
    return context
