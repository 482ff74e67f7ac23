"""A `BrokerSession` subscribes at an MQTT broker and acknowledges messages when it is told to.

paho-mqtt runs in a thread of its own, comes back by itself, and waits there while ``messages_max``
are not done: so a broker that says more than an agent takes is held up by TCP, and memory is
bounded. The session is persistent: what was not acknowledged comes again, to this process or to the
next one with the same client id.

A packet id means something within one connection only: behind a broker that lost its sessions the
same one may be another message. So acknowledgements for an earlier connection are not sent; the
broker sends such messages again, and they are stored once more.

What only a person can change (a password, a client id, rights) is told as such and tried again once
a minute; whoever is told may end it instead. A topic that the broker refuses leaves the connection
as it is, and is asked for again by `BrokerSession.subscribe`.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import click

from edge_agent.errors import ConfigError
from edge_agent.extras import library_needed
from edge_agent.net.dial import may_be_no_tls
from edge_agent.net.mqtt_reasons import FAILURES, LASTING_OF_TOPIC, refused_connect, words
from edge_agent.output.printable import why
from edge_agent.system.files import trusting

#: How long a broker keeps what is for us while we are away, in seconds.
_EXPIRY_S = 30 * 86_400
_KEEP_ALIVE_S = 60
_LOOK_S = 0.5
_PLACE_BYTES = 64 * 1024
_TOPIC_BYTES_MAX = 65_535
_DELAY_MIN_S, _DELAY_MAX_S = 1.0, 60.0
_LOGIN: Final = "--user, --password-file, --client-id and --certificate"
_OLDER: Final = "--version 3.1.1"
#: paho's MQTT_ERR_PROTOCOL: what came cannot be read.
_UNREADABLE: Final = 2
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
        tell: what a person should know, and whether only a person can change it; called in paho's
            thread. "" is the good news: it is connected, and subscribed to something.

    Raises:
        ConfigError: paho-mqtt is not installed, or a certificate cannot be used.
    """

    def __init__(
        self,
        options: BrokerOptions,
        messages_max: int,
        on_message: Callable[[BrokerMessage], None],
        tell: Callable[[str, bool], None],
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
        self._connection, self._closing = 0, threading.Event()
        # Of the connection that there is, or was.
        self._is_silent, self._is_welcome = True, False
        # Topics by the number of the request for them; held while that is not known yet.
        self._asking, self._asked = threading.Lock(), dict[int, Sequence[str]]()
        self._thread = threading.Thread(target=self._work, name="broker", daemon=True)
        self._delay_s = _DELAY_MIN_S
        #: Those that are not subscribed to, as far as is known.
        self.missing: Sequence[str] = ()
        self._is_5 = options.version == "5"
        more: dict[str, Any] = {} if self._is_5 else {"clean_session": False}
        protocol = MQTTProtocolVersion.MQTTv5 if self._is_5 else MQTTProtocolVersion.MQTTv311
        api = CallbackAPIVersion.VERSION2
        self._client: Any = paho.Client(
            api, options.client_id, protocol=protocol, manual_ack=True, **more
        )
        self._set_up(self._client)

    def _set_up(self, client: Any) -> None:
        options = self._options
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._take
        # Without it paho would write from whichever thread has something to say; so the one that
        # reads does.
        client.on_socket_register_write = lambda *_: None
        if options.user is not None:
            client.username_pw_set(options.user, options.password)
        self._is_tls = urlsplit(options.url).scheme == "mqtts"
        if self._is_tls:
            client.tls_set_context(_context(options))

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
        self._thread.start()

    def _work(self) -> None:
        """Not paho's own loop: that ends without a word where it cannot read what a broker says."""
        from paho.mqtt.client import error_string

        while not self._closing.is_set():
            self._is_silent, self._is_welcome = True, False
            try:
                self._client.reconnect()
                while not (ended := self._client.loop(_LOOK_S)):
                    pass
                # A refusal has been told, and the end of a connection that was one.
                if self._is_silent and not self._closing.is_set():
                    self._no_welcome(error_string(ended), lasting=ended == _UNREADABLE)
            except OSError as error:
                self._no_connection(error)
            except Exception as error:  # noqa: BLE001  # paho's, of many kinds, for a broker's bytes
                self._no_welcome(f"{type(error).__name__}: {why(error)}", lasting=True)
            self._closing.wait(self._delay_s)
            self._delay_s = min(2 * self._delay_s, _DELAY_MAX_S)

    def done(self, message: BrokerMessage) -> None:
        """It is durable, or will never be: the broker may forget it."""
        self._slots.release(self._places(message.payload))
        with self._lock:
            if message.qos and message.connection == self._connection:
                self._client.ack(message.packet_id, message.qos)

    def stop(self) -> None:
        """Say goodbye; the session stays. Blocks for a moment."""
        self._closing.set()
        # More than once: the thread may be about to connect.
        while self._thread.is_alive():
            self._client.disconnect()
            self._thread.join(_LOOK_S)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for ``topics``; the answer comes by way of ``tell``."""
        if self._is_5:
            from paho.mqtt.subscribeoptions import SubscribeOptions

            wanted: Any = [
                (topic, SubscribeOptions(qos=1, retainHandling=_RETAINED_IF_NEW))
                for topic in topics
            ]
        else:
            wanted = [(topic, 1) for topic in topics]
        with self._asking:
            _, number = self._client.subscribe(wanted)
            self._asked[number] = topics

    def _connected(
        self, _client: Any, _data: Any, _flags: Any, reason: Any, properties: Any
    ) -> None:
        with self._lock:
            self._connection += 1
        self._is_silent, self._is_welcome = False, not reason.is_failure
        if self._is_welcome:
            self._delay_s = _DELAY_MIN_S
            self.subscribe(self._options.topics)
            return
        said = getattr(properties, "ReasonString", "")
        version = self._options.version
        refusal = refused_connect(version, reason.value, said, older=_OLDER, login=_LOGIN)
        self._failed(str(refusal), lasting=refusal.slow)

    def _subscribed(
        self, _client: Any, _data: Any, number: Any, reasons: Any, _properties: Any
    ) -> None:
        with self._asking:
            topics = self._asked.pop(number, ())
        answers = list(zip(topics, (reason.value for reason in reasons), strict=False))
        refused = [(topic, code) for topic, code in answers if code >= FAILURES]
        self.missing = [topic for topic, _ in refused]
        if len(refused) < len(answers):
            self._tell("", False)
        for topic, code in refused:
            # 3.1.1 has one code, whatever the reason, which is a missing right as good as always.
            lasting = len(refused) == len(answers) and (code in LASTING_OF_TOPIC or not self._is_5)
            text = f"the broker refuses the topic {topic}: {words(code)}"
            self._tell(text, lasting)

    def _no_connection(self, error: OSError) -> None:
        place = urlsplit(self._options.url).netloc
        untrusted = isinstance(error, ssl.SSLCertVerificationError)
        advice = ""
        if untrusted:
            advice = " (--broker-ca-file names the authority that made it)"
        elif self._is_tls and may_be_no_tls(error):
            advice = " (without TLS the URL begins with mqtt://)"
        text = f"no connection to the broker {place}: {why(error)}{advice}"
        self._failed(text, lasting=untrusted)

    def _no_welcome(self, reason: str, *, lasting: bool) -> None:
        hint = f"; {_OLDER} may be what it speaks" if self._is_5 and lasting else ""
        if not (lasting or self._is_tls):
            hint = " (with TLS the URL begins with mqtts://)"
        self._failed(f"the broker answers with no welcome: {reason}{hint}", lasting=lasting)

    def _failed(self, text: str, *, lasting: bool) -> None:
        """An attempt to connect did; the next one comes late where trying helps nobody."""
        if lasting:
            self._delay_s = _DELAY_MAX_S
        self._tell(text, lasting)

    def _disconnected(
        self, _c: Any, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        with self._lock:
            self._connection += 1
        self._asked.clear()
        if self._is_welcome and not self._closing.is_set():
            self._tell(f"the connection to the broker ended: {reason}", False)

    def _places(self, payload: bytes) -> int:
        """How many places a message takes: a large one several, as memory is what is bounded."""
        return min(1 + len(payload) // _PLACE_BYTES, self._messages_max)

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        for _ in range(self._places(message.payload)):
            while not self._slots.acquire(timeout=_LOOK_S):
                if self._closing.is_set():
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


def topic_problem(topic: str) -> str | None:
    """What was expected instead of a ``topic`` to subscribe to; None where it is good."""
    parts = topic.split("/")
    plain = all(part in ("+", "#") or not {"+", "#"} & set(part) for part in parts)
    if not topic or len(topic.encode()) > _TOPIC_BYTES_MAX or "\0" in topic:
        return f"1 to {_TOPIC_BYTES_MAX} bytes"
    return None if plain and "#" not in parts[:-1] else "+ for a part, # for all that follow"


def _context(options: BrokerOptions) -> ssl.SSLContext:
    try:
        context = trusting(options.ca_file)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (options.ca_file, options.certificate, options.key)))
        raise click.UsageError(f"{files}: {error}") from error
    return context
