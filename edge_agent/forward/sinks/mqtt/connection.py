"""An `MqttConnection` is one connection to a broker: login, messages out, acknowledgements in.

Messages come as whole packets with their ids and are sent as the window has room: at the first free
place, since a broker may grant as few as 20, and waiting for several free ones ran into delayed
acknowledgements of TCP.

Deadlines: ``timeout`` without progress while something is owed to us. Progress is an
acknowledgement, or bytes of ours that leave this machine; whatever else a broker sends proves
nothing.

Whatever goes wrong, in the network, in TLS or because of what the broker says, ends the connection
with a `SinkUnavailable` as its ``failure``: `deliver` raises it, or `run` where nothing was being
delivered.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.link.progress_stream import ProgressStream
from edge_agent.forward.sink import CLOSE_S
from edge_agent.forward.sinks.mqtt import incoming, outgoing
from edge_agent.forward.sinks.mqtt.incoming import (
    Connack,
    Delivered,
    Disconnect,
    MqttViolation,
    Pingresp,
    Puback,
    Suback,
)
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage
from edge_agent.forward.sinks.mqtt.pace import MessagePace
from edge_agent.forward.sinks.mqtt.rendering import PACKET_IDS
from edge_agent.forward.sinks.mqtt.settings import OFFLINE, ONLINE, MqttSettings
from edge_agent.net.mqtt_reasons import (
    FAILURES,
    NOBODY_SUBSCRIBES,
    refused_connect,
    words,
)
from edge_agent.output.printable import why

#: What a broker may send us in one packet, told to it in version 5.
PACKET_BYTES_MAX = 64 * 1024
_RECEIVE_BYTES = 16 * 1024
#: Sent at once, as far as messages are whole.
_CHUNK_BYTES = 64 * 1024
_SUBSCRIPTION_ID = PACKET_IDS + 1
_LOOK_S = 1.0

#: What the network may do to a connection.
CONNECTION_ERRORS = (
    OSError,
    ssl.SSLError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


@dataclass(slots=True)
class Delivery:
    """What became of packets: by their place, code and words of those that were refused.

    ``unheard`` went to topics that nobody subscribes to.
    """

    refused: dict[int, tuple[int, str]] = field(default_factory=dict)
    unheard: int = 0


class MqttConnection:
    """See the module's docstring.

    Args:
        stream: connected.
        settings: what is said.
        timeout: seconds without progress.
        on_message: what is called for a message that we subscribed to.

    Attributes:
        failure: what ended it; None while it lasts.
        packet_bytes_max: the broker's limit; 0 for none.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        settings: MqttSettings,
        timeout: float,
        on_message: Callable[[Delivered], None],
    ) -> None:
        self._stream = ProgressStream(stream)
        self._stream.is_opening = False
        self._settings, self._timeout, self._on_message = settings, timeout, on_message
        self._reader = incoming.PacketReader(settings.version, PACKET_BYTES_MAX)
        self._early: list[incoming.Packet] = []  # what came right behind the welcome
        self._scope = trio.CancelScope()
        self._sending = trio.Lock()
        self._is_torn = False  # a packet may have gone in part, or nobody reads any more
        self._closing = False
        self._news, self._owing = trio.Event(), trio.Event()
        self._pace = MessagePace(
            settings.per_second, settings.bytes_per_second, trio.current_time()
        )
        self._in_flight: dict[int, int] = {}
        self._delivery: Delivery | None = None
        self._packets: list[bytes] = []
        self._sent = 0
        self._broken: Exception | None = None  # nothing more can be sent
        self._pinged = False
        self._heard_at = 0.0
        self._window, self._keep_alive = settings.in_flight, float(settings.keep_alive_s)
        self.packet_bytes_max = 0
        self.failure: SinkUnavailable | None = None

    @property
    def is_good(self) -> bool:
        """Whether something may be sent over it, as far as is known."""
        return not (self.failure or self._broken or self._closing or self._is_torn)

    async def log_in(self, user: str | None, password: str | None) -> None:
        """CONNECT, and the birth behind the welcome. The caller sets the deadline.

        Raises:
            SinkUnavailable: it is not let in, or what answers speaks no MQTT.
            CONNECTION_ERRORS: the network's.
        """
        settings = self._settings
        packet = outgoing.connect(
            settings.version,
            settings.client_id,
            keep_alive_s=settings.keep_alive_s,
            user=user,
            password=password,
            will=settings.will,
            packet_bytes_max=PACKET_BYTES_MAX,
        )
        await self._stream.send_all(packet)
        while not self._early:
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the broker hung up during the login")
            try:
                self._early = self._reader.feed(bytes(data))
            except MqttViolation as error:
                text = f"what answers there speaks no MQTT: {error}"
                raise SinkUnavailable(text, slow=True, obstacle="there") from error
        first = self._early.pop(0)
        if not isinstance(first, Connack):
            raise SinkUnavailable("what answers there speaks no MQTT", slow=True, obstacle="there")
        self._welcome(first)
        if settings.speaks:
            birth = MqttMessage(settings.status, ONLINE, 0, retain=True)
            await self._stream.send_all(outgoing.publish(settings.version, birth))

    async def subscribe(self, topic: bytes) -> None:
        """Be told what is published there from now on."""
        await self._transmit(outgoing.subscribe(self._settings.version, _SUBSCRIPTION_ID, topic))

    async def run(self) -> None:
        """Read until it ends.

        Raises:
            SinkUnavailable: it ended while nothing was being delivered, and not by `aclose`.
        """
        cause: Exception | None = None
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._ping)
                    nursery.start_soon(self._watch)
                    await self._receive()
            except* Exception as group:  # noqa: BLE001 - the border: no broker may bring the agent down
                cause = group.exceptions[0]
            finally:
                self._is_torn = True
                await trio.aclose_forcefully(self._stream)
        self._fail(cause or self._broken)
        if not self._closing and self._delivery is None and self.failure is not None:
            raise self.failure

    async def deliver(
        self,
        packets: Sequence[bytes],
        delivery: Delivery,
        following: Callable[[], Awaitable[Sequence[bytes] | None]] | None = None,
    ) -> None:
        """Send packets, whose ids are their places from 1 on, and wait until each is acknowledged.

        What is said of them is put into ``delivery``, also where it fails. ``following`` makes
        more of them while these are under way, and None when there are no more.

        Raises:
            SinkUnavailable: the connection has ended; what was not acknowledged is not delivered.
        """
        assert self._delivery is None, "one at a time"
        self._raise_failure()
        self._delivery = delivery
        # After a cancellation nobody could tell whose the acknowledgements are that still come.
        self._is_torn = True
        try:
            self._packets, self._sent = [*packets], 0
            await self._refill()
            while following and not self.failure and (more := await following()) is not None:
                self._packets += more
                await self._refill()
            if following and not self._pace.is_free:
                # What was told while the last part was asked for, nobody waited for.
                await self._refill()
            while not self.failure and (self._sent < len(self._packets) or self._in_flight):
                await self._news.wait()
                if not self._pace.is_free:
                    await self._refill()
            self._raise_failure()
            self._is_torn = False
        finally:
            self._delivery, self._packets = None, []

    async def aclose(self) -> None:
        """Say goodbye within `CLOSE_S`, and end it."""
        was_good = self.is_good
        self._closing = True
        settings = self._settings
        if was_good:
            goodbye = outgoing.disconnect(settings.version)
            if settings.speaks:
                away = MqttMessage(settings.status, OFFLINE, 0, retain=True)
                goodbye = outgoing.publish(settings.version, away) + goodbye
            with trio.move_on_after(CLOSE_S / 2):
                try:
                    async with self._sending:
                        await self._stream.send_all(goodbye)
                except CONNECTION_ERRORS:
                    pass  # Then it is gone already.
        self._scope.cancel()
        await trio.aclose_forcefully(self._stream)

    def _welcome(self, first: Connack) -> None:
        settings, told = self._settings, first.properties
        if first.reason:
            raise refused_connect(settings.version, first.reason, incoming.told_in(told))
        self._window = min(self._window, int(told.get(incoming.RECEIVE_MAXIMUM, 65_535)))
        self.packet_bytes_max = int(told.get(incoming.MAXIMUM_PACKET_SIZE, 0))
        self._keep_alive = float(told.get(incoming.SERVER_KEEP_ALIVE, settings.keep_alive_s))
        lacking = ""
        if told.get(incoming.MAXIMUM_QOS, 2) == 0:
            lacking = "QoS 1, so nothing could be acknowledged"
        elif settings.retain and told.get(incoming.RETAIN_AVAILABLE, 1) == 0:
            lacking = "retained messages (retain = false does without)"
        if lacking:
            raise SinkUnavailable(f"the broker has no {lacking}", slow=True, obstacle="there")

    async def _refill(self) -> None:
        """Send as many as there is room for. Who delivers is in here and, unless there is a pace to
        keep to, who reads: each takes the next ones, and the lock has them sent in that order.
        """
        packets, in_flight = self._packets, self._in_flight
        while self._sent < len(packets) and len(in_flight) < self._window and not self._broken:
            most = min(len(packets), self._sent + self._window - len(in_flight))
            if not self._pace.is_free:
                if (seconds := self._pace.wait(trio.current_time())) > 0:
                    await trio.sleep(seconds)
                self._pace.sent(len(packets[self._sent]))
                most = self._sent + 1
            if not in_flight:
                self._heard_at = trio.current_time()
                self._owing.set()
            size, first, place = 0, self._sent, self._sent
            while place < most and size < _CHUNK_BYTES:
                number = place % PACKET_IDS + 1
                if number in in_flight:
                    break
                in_flight[number] = place
                size += len(packets[place])
                place += 1
            if place == first:
                return
            self._sent = place
            await self._transmit(b"".join(packets[first:place]))

    async def _transmit(self, data: bytes) -> None:
        try:
            try:
                self._sending.acquire_nowait()  # without the turn of the loop that `acquire` takes
            except trio.WouldBlock:
                await self._sending.acquire()
            try:
                await self._stream.send_all(data)
            finally:
                self._sending.release()
        except CONNECTION_ERRORS as error:
            # `run` may read what the broker said before it hung up.
            self._broken = error
            self._scope.deadline = trio.current_time() + CLOSE_S

    async def _receive(self) -> None:
        packets, self._early = self._early, []
        while True:
            before = len(self._in_flight)
            for packet in packets:
                if isinstance(packet, int):
                    if self._in_flight.pop(packet, None) is None:
                        raise MqttViolation(f"a PUBACK for packet {packet}, which is not in flight")
                else:
                    self._take(packet)
            if len(self._in_flight) < before:
                self._heard_at = trio.current_time()
                if self._pace.is_free:
                    await self._refill()
                if not self._in_flight or not self._pace.is_free:
                    self._tell()
            if self._in_flight and self._sent == len(self._packets):
                self._stream.confirm()  # Nothing of ours follows that would.
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the broker hung up")
            packets = self._reader.feed(bytes(data))

    def _take(self, packet: incoming.Packet) -> None:
        if isinstance(packet, Puback):
            place = self._in_flight.pop(packet.packet_id, None)
            if place is None or self._delivery is None:
                text = f"a PUBACK for packet {packet.packet_id}, which is not in flight"
                raise MqttViolation(text)
            if packet.reason >= FAILURES:
                self._delivery.refused[place] = packet.reason, words(packet.reason, packet.text)
            self._delivery.unheard += packet.reason == NOBODY_SUBSCRIBES
        elif isinstance(packet, Delivered):
            self._on_message(packet)
        elif isinstance(packet, Pingresp):
            self._pinged = False
        elif isinstance(packet, Disconnect):
            # Too large as a whole, or too much at a time: it may be this very batch.
            text = f"the broker hung up: {words(packet.reason, packet.text)}"
            raise SinkUnavailable(text, obstacle="there", cut=self._delivery is not None)
        elif isinstance(packet, Suback):
            if packet.reason >= FAILURES:
                text = f"the broker refuses the subscription: {words(packet.reason)}"
                raise SinkUnavailable(text, slow=True, obstacle="there")
        else:
            raise MqttViolation("a second CONNACK")

    async def _ping(self) -> None:
        while self._keep_alive:
            await trio.sleep(self._keep_alive / 2)
            if not self._in_flight:
                self._heard_at = trio.current_time()
            self._pinged = True
            self._owing.set()
            await self._transmit(outgoing.PINGREQ)
        await trio.sleep_forever()

    async def _watch(self) -> None:
        """Fail once nothing has moved for ``timeout`` seconds while something is owed to us."""
        while True:
            while not (self._in_flight or self._pinged):
                self._owing = trio.Event()
                await self._owing.wait()
            await trio.sleep(min(_LOOK_S, self._timeout / 4))
            self._stream.look()
            moved_at = max(self._heard_at, self._stream.gone_at)
            if (
                self._in_flight or self._pinged
            ) and trio.current_time() >= moved_at + self._timeout:
                what = "nothing was acknowledged" if self._in_flight else "the broker was not heard"
                raise SinkUnavailable(f"{what} for {self._timeout:g} s", cut=bool(self._in_flight))

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _fail(self, cause: Exception | None) -> None:
        if self.failure is None:
            if isinstance(cause, SinkUnavailable):
                self.failure = cause
            elif isinstance(cause, MqttViolation):
                text = f"the broker breaks the protocol: {cause}"
                self.failure = SinkUnavailable(text, obstacle="there")
            else:
                said = "the connection is closed" if cause is None else _reason(cause)
                self.failure = SinkUnavailable(said, cut=self._delivery is not None)
            if self.failure is not cause:
                self.failure.__cause__ = cause
        self._scope.cancel()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _reason(error: Exception) -> str:
    if isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
        return f"the connection broke: {why(error.__cause__)}"
    return why(error) or "the connection broke"
