"""The MQTT sink publishes each record as a message of QoS 1 and waits for its PUBACK.

Delivery is at least once: a batch that a connection did not survive is published again as a whole,
and each message says the record's id. An acknowledgement means that the broker has taken the
message, which is not that it is on its disk: docs/upstreams.md has what was measured.

The connection is open while the lane is, so that birth, will and Home Assistant's coming back mean
something; a password that ends (azure's) is renewed by a new connection before it does.

What a broker refuses: a record that is too large, whose topic it does not take or whose topic it
does not allow while it allows others goes to quarantine; where it allows none, everything is kept
and a person told. Whatever else goes wrong on the way ends in `SinkUnavailable`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.credentials import CredentialFiles, Credentials, read_secret
from edge_agent.forward.keyed_sink import KeyedSink
from edge_agent.forward.lanes.failures import innermost
from edge_agent.forward.link.handshake import handshake
from edge_agent.forward.link.proxy import tunnelled
from edge_agent.forward.link.tls_clock import waits_for_clock
from edge_agent.forward.probing import ProbeStep, probe_by_sending, probed_log
from edge_agent.forward.run_columns import RunColumns, columns_in, gathered
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Part, Resumed, SinkParts
from edge_agent.forward.sinks.mqtt.connection import CONNECTION_ERRORS, Delivery, MqttConnection
from edge_agent.forward.sinks.mqtt.incoming import Delivered
from edge_agent.forward.sinks.mqtt.rendering import Packets, Renderer
from edge_agent.forward.sinks.mqtt.settings import ONLINE, settings_of, trial_of
from edge_agent.forward.sinks.mqtt.shared_access import signature
from edge_agent.net.dial import Dial
from edge_agent.net.mqtt_reasons import NOT_AUTHORISED, OF_CONTENT
from edge_agent.store import Identity
from edge_agent.values.record import NANOSECONDS, Record

logger = logging.getLogger(__name__)

#: Of a computed password's time, when it is renewed.
_RENEWED_AFTER = 0.9
#: Records that are rendered together, while those before are under way; at first few, as nothing is
#: under way before.
_FIRST_RECORDS: Final = 500
_PART_RECORDS: Final = 2000


class MqttSink(KeyedSink):
    """One log's way to a broker; see the module's docstring."""

    #: Which does not break what it has.
    _broken_by = ()

    def __init__(self, parts: SinkParts) -> None:
        super().__init__(parts)
        self._files = CredentialFiles(parts.upstream)
        self._begin_as(parts.identity)
        self._nursery: trio.Nursery | None = None
        self._connection: MqttConnection | None = None
        # One at a time: a batch, or what is sent between two of them.
        self._turn = trio.Lock()
        self._renew_at = float("inf")
        self._called, self._announces = trio.Event(), False
        self._has_warned = False

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Connect, and go on behind the floor."""
        identity = resume.identity or self._identity
        if (identity, resume.part) != (self._identity, self._part):
            self._begin_as(identity, resume.part)
        self._nursery = nursery
        async with self._turn:
            await self._connected()
        return Resumed(resume.floor + 1)

    def _begin_as(self, identity: Identity, part: Part = "live") -> None:
        self._identity, self._part = identity, part
        self._settings = settings_of(self._upstream, self._log, identity.agent_id, part)
        self._renderer = Renderer(self._settings, identity.agent_id, identity.epoch)

    async def _send(self, batch: Batch) -> Acknowledged:
        async with self._turn:
            made = await self._deliver(partial(self._parts, batch))
        return Acknowledged(batch.last, sum(map(len, made.seqs)), made.size)

    async def try_out(self, record: Record) -> str:
        """Publish one record that is in no log; the broker's or the record's own words.

        Raises:
            SinkUnavailable, SinkRefused: as `send`.
        """
        settings = self._settings = trial_of(self._settings)
        told = "logged in"
        async with trio.open_nursery() as nursery:
            try:
                await self.open(nursery, LaneResume(0, 1, 0, None))
                if settings.retain or settings.is_grouped or self._renderer.discovery is not None:
                    return f"{told}; nothing was published, as it would stay there"
                one = [RunColumns.of(record)]
                await self._deliver(lambda most: iter([self._renderer.render(one, most)]))
                told += f"; the broker took a record of its own in the stream {record.stream}"
                if settings.version != "5":
                    told += " (in 3.1.1 it cannot say where it allows none)"
                return told
            finally:
                await self.aclose()
                nursery.cancel_scope.cancel()

    async def _deliver(self, rendered: Callable[[int], Iterator[Packets]]) -> Packets:
        """Publish what is ``rendered`` part by part, for packets of at most so many bytes, and
        hear what became of it.
        """
        connection = await self._connected()
        parts, made, delivery = rendered(connection.packet_bytes_max), Packets(), Delivery()

        async def following() -> list[bytes] | None:
            part: Packets | None = await self._run_blocking(next, parts, None)
            if part is None:
                return None
            made.add(part)
            return part.packets

        try:
            await connection.deliver((), delivery, following)
        except SinkUnavailable as error:
            await self.aclose()
            if delivery.refused:
                # Some hang up behind a message that they do not allow, such as Mosquitto 2.0.11.
                error = _hung_up_after(delivery, error)
            error.sent_bytes = made.size
            raise error from error.__cause__
        if not made.packets and not made.refused:
            return made
        size = made.size
        if delivery.unheard and not self._has_warned:
            self._has_warned = True
            text = "upstream %s: nobody subscribes to the topic of %d of %d messages"
            logger.warning(text, self._upstream.name, delivery.unheard, len(made.packets))
        self._judge(made, delivery, size)
        return made

    def _parts(self, batch: Batch, packet_bytes_max: int) -> Iterator[Packets]:
        """Rendered one by one as they are asked for, each in a thread: that blocks."""
        before = 0
        slices = columns_in(batch, self._matches)
        for some in gathered(slices, _FIRST_RECORDS, _PART_RECORDS):
            made = self._renderer.render(some, packet_bytes_max, before)
            before += len(made.packets)
            yield made

    def _judge(self, made: Packets, delivery: Delivery, size: int) -> None:
        """Raise what the broker has said of some records, or of all."""
        refused, is_too_large = dict(made.refused), made.is_too_large
        codes: dict[int, str] = {}
        for place, (code, said) in delivery.refused.items():
            codes[code] = said
            refused |= dict.fromkeys(made.seqs[place], f"the broker refuses it: {said}")
        error: SinkError
        others = codes.keys() - OF_CONTENT - {NOT_AUTHORISED}
        if others:
            # Busy, a quota, or nothing that it names: these are as good as any later.
            error = SinkUnavailable(f"the broker refuses: {codes[min(others)]}")
            error.about_batch = 0x80 in others or 0x83 in others
        elif NOT_AUTHORISED in codes and len(delivery.refused) == len(made.packets):
            error = SinkUnavailable(f"the broker refuses: {codes[NOT_AUTHORISED]}", slow=True)
            error.about_batch = True
        elif refused:
            reason = refused[min(refused)]
            is_too_large = is_too_large and bool(made.refused) and not delivery.refused
            error = SinkRefused(reason, "too_big" if is_too_large else "refused", refused)
        else:
            return
        error.sent_bytes, error.obstacle = size, "there"
        raise error

    async def _connected(self) -> MqttConnection:
        """The connection that is open, or a new one."""
        connection = self._connection
        if connection is not None and connection.is_good and trio.current_time() < self._renew_at:
            return connection
        await self.aclose()
        assert self._nursery is not None
        credentials, user, password = await self._run_blocking(self._credentials)
        failure: Exception | None = None
        dial = tunnelled(self._upstream, credentials.proxy_authorization, self._dial)
        try:
            with trio.fail_after(self._upstream.timeout):
                connection = await self._logged_in(dial, credentials, user, password)
        except (trio.TooSlowError, *CONNECTION_ERRORS) as error:
            failure = error
        if failure is not None or connection is None:
            waits = await waits_for_clock(failure, self._upstream, self._clock, dial)
            raise waits or self._no_connection(failure) from failure
        self._connection, self._renew_at = connection, float("inf")
        if self._settings.sas is not None:
            lifetime = self._settings.sas_lifetime_s
            self._renew_at = trio.current_time() + lifetime * _RENEWED_AFTER
        self._nursery.start_soon(connection.run)
        if self._renderer.discovery is not None:
            await connection.subscribe(self._renderer.discovery.status_topic)
            await connection.deliver(self._renderer.announcements(), Delivery())
        if self._renderer.discovery is not None or self._settings.sas is not None:
            self._nursery.start_soon(self._attend, connection)
        return connection

    async def _logged_in(
        self, dial: Dial, credentials: Credentials, user: str | None, password: str | None
    ) -> MqttConnection:
        settings, tls = self._settings, credentials.tls
        if tls is not None and settings.alpn is not None:
            tls.set_alpn_protocols([settings.alpn])
        stream = await dial(settings.host, settings.port, tls)
        connection = MqttConnection(stream, settings, self._upstream.timeout, self._heard)
        try:
            with handshake(self._upstream.timeout):
                await connection.log_in(user, password)
        except BaseException:
            # Also on Cancelled: nobody else holds this stream yet.
            await trio.aclose_forcefully(stream)
            raise
        return connection

    def _credentials(self) -> tuple[Credentials, str | None, str | None]:
        """Files, user and password. Blocks for as long as files take."""
        found, settings = self._files.read(), self._settings
        user, password = settings.user or self._upstream.user, found.password
        if settings.profile == "thingsboard" and found.token is not None:
            user = found.token
        if settings.sas is not None:
            key = read_secret("sas_key_file", settings.sas) or ""
            until_s = self._clock.read().wall_ns // NANOSECONDS + int(settings.sas_lifetime_s)
            try:
                password = signature(settings.host, settings.client_id, key, until_s)
            except ValueError as error:
                text = f"sas_key_file {settings.sas}: {error}"
                raise SinkUnavailable(text, slow=True, obstacle="here") from None
        return found, user, password

    def _no_connection(self, failure: Exception | None) -> SinkUnavailable:
        if failure is None or isinstance(failure, trio.TooSlowError):
            return SinkUnavailable(f"no connection within {self._upstream.timeout:g} s")
        return SinkUnavailable(innermost(failure))

    def _heard(self, message: Delivered) -> None:
        discovery = self._renderer.discovery
        is_status = discovery is not None and message.topic.encode() == discovery.status_topic
        if is_status and message.payload == ONLINE:
            self._announces = True
            self._called.set()

    async def _attend(self, connection: MqttConnection) -> None:
        """Between batches: a new password, and what Home Assistant wants to hear again."""
        while True:
            with trio.move_on_at(self._renew_at):
                await self._called.wait()
            self._called = trio.Event()
            async with self._turn:
                if connection is not self._connection:
                    return
                if trio.current_time() >= self._renew_at:
                    await self._connected()
                    return
                if self._announces and connection.is_good:
                    self._announces = False
                    await connection.deliver(self._renderer.announcements(), Delivery())


def _hung_up_after(delivery: Delivery, error: SinkUnavailable) -> SinkUnavailable:
    _, said = delivery.refused[min(delivery.refused)]
    text = f"the broker refuses: {said}, and then {error}"
    told = SinkUnavailable(text, slow=True, obstacle="there")
    told.about_batch = True
    return told


def make(parts: SinkParts) -> MqttSink:
    """The sink of an ``mqtt`` or ``mqtts`` upstream."""
    return MqttSink(parts)


async def probe(parts: SinkParts, size: int) -> list[ProbeStep]:
    """Log in and publish a message of about ``size`` bytes, made for this, where none stays."""
    tried = make(replace(parts, log=probed_log(parts.upstream)))
    return await probe_by_sending("message", parts.clock, size, tried.try_out)
