"""The MQTT settings of one log of an upstream: those configured, and those of a profile.

A profile fills in what is not configured, and holds its service's limits. Pure.

=============== ===========================================================================
azure           3.1.1 · topic and client id of the device · user of host and device · a password
                computed from the key in a file · 256 kB
aws             ALPN ``x-amzn-mqtt-ca`` on port 443 · 128 kB · 7 slashes · 100 messages and 512 kB
                a second
thingsboard     ``v1/gateway/telemetry``, grouped by device · the token is the user · 64 kB
home-assistant  retained, with messages that announce each field of each stream as an entity
=============== ===========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from edge_agent.config import MqttProfile, MqttTable, Upstream
from edge_agent.forward.sink import Part
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage, Version

_AWS_ALPN: Final = "x-amzn-mqtt-ca"
_AWS_PORT: Final = 443
_TELEMETRY: Final = "v1/gateway/telemetry"
#: Content type and encoding, without which azure's routing cannot look into a message.
_AZURE_TOPIC: Final = "devices/{client}/messages/events/$.ct=application%2Fjson&$.ce=utf-8"
_AZURE_VERSION: Final = "2021-04-12"
_TOPIC: Final = "edge-agent/{agent}/{stream}"
_STATUS: Final = "edge-agent/{agent}/status"
_LOG: Final = "{log}"
_ANY: Final = 2**32
ONLINE, OFFLINE = b"online", b"offline"


class _Limits(NamedTuple):
    """A service's; -1 slashes and 0 of the others a second are any number of them."""

    message_bytes: int = _ANY
    slashes: int = -1
    per_second: float = 0.0
    bytes_per_second: float = 0.0
    in_flight: int = 65_535


_NO_LIMITS: Final = _Limits()
_LIMITS: Final = {
    "azure": _Limits(256 * 1024),
    "aws": _Limits(128 * 1000, 7, 100.0, 512_000.0, 100),
    "thingsboard": _Limits(64 * 1024),
}


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Everything about one log's connection that does not change.

    Attributes:
        version, client_id, host, port, keep_alive_s, alpn: for connecting.
        topic, payload: templates; see `edge_agent.config.MqttTable`.
        retain: with each message.
        in_flight: messages not acknowledged, at most.
        message_bytes: of a payload, at most.
        slashes: in a topic, -1 for any.
        per_second, bytes_per_second: 0 for any.
        status: topic of birth and will, b"" for none.
        speaks: whether birth and will are this log's.
        user: what the profile makes of it, None for the upstream's.
        sas: the file with the key of a computed password.
        is_grouped: whether messages hold several records, as ThingsBoard's gateways send them.
        discovery: prefix of the messages that announce entities, "" for none.
    """

    version: Version
    client_id: str
    host: str
    port: int
    keep_alive_s: int
    alpn: str | None
    topic: str
    payload: str
    retain: bool
    in_flight: int
    message_bytes: int
    slashes: int
    per_second: float
    bytes_per_second: float
    status: bytes
    speaks: bool
    user: str | None
    sas: str | None
    sas_lifetime_s: float
    is_grouped: bool
    discovery: str
    profile: MqttProfile | None

    @property
    def will(self) -> MqttMessage | None:
        """What the broker says of us once we are gone."""
        return MqttMessage(self.status, OFFLINE, 1, retain=True) if self.speaks else None


def settings_of(upstream: Upstream, log: str, agent: str, part: Part = "live") -> MqttSettings:
    """What ``upstream`` says for ``log``; ``agent`` is this agent's id.

    A connection for what is sent once more is another client, and says nothing of whether we are
    there.
    """
    table = upstream.mqtt or MqttTable()
    profile, host, port = table.profile, urlsplit(upstream.url).hostname or "", upstream.port
    client = _client_id(table, upstream.name, log, agent) + ("-resend" if part == "resend" else "")
    topic, payload, status = table.topic, table.payload, table.status_topic
    retain, version, alpn = table.retain, table.version or "5", table.alpn
    limits, is_grouped = _LIMITS.get(profile or "", _NO_LIMITS), False
    user: str | None = None
    if profile == "azure":
        version, topic = "3.1.1", _AZURE_TOPIC.replace("{client}", client)
        user = f"{host}/{client}/?api-version={_AZURE_VERSION}"
    elif profile == "aws" and port == _AWS_PORT:
        alpn = alpn or _AWS_ALPN
    elif profile == "thingsboard" and topic is None and payload is None:
        topic, is_grouped = _TELEMETRY, True
    elif profile == "home-assistant":
        status, payload = status or _STATUS, payload or "fields"
        retain = True if retain is None else retain
    return MqttSettings(
        version=version,
        client_id=client,
        host=host,
        port=port,
        keep_alive_s=int(table.keep_alive),
        alpn=alpn,
        topic=topic or _TOPIC,
        payload=payload or "record",
        retain=bool(retain),
        in_flight=min(table.in_flight, limits.in_flight),
        message_bytes=min(table.message_bytes or _ANY, limits.message_bytes),
        slashes=limits.slashes,
        per_second=min(filter(None, (table.messages_per_second, limits.per_second)), default=0.0),
        bytes_per_second=limits.bytes_per_second,
        status=_filled(status or "", agent, log).encode(),
        speaks=status is not None and (log == "main" or _LOG in status) and part == "live",
        user=user,
        sas=None if table.sas_key_file is None else table.sas_key_file.replace(_LOG, log),
        sas_lifetime_s=float(table.sas_lifetime),
        is_grouped=is_grouped,
        discovery=table.discovery_prefix if profile == "home-assistant" and part == "live" else "",
        profile=profile,
    )


def trial_of(settings: MqttSettings) -> MqttSettings:
    """For a connection that tries out whether the broker lets us in: it leaves no word of whether
    we are there, and is a client of its own where a device may have several.
    """
    one_client = settings.profile in ("azure", "aws")
    client = settings.client_id if one_client else f"{settings.client_id}-probe"
    return replace(settings, client_id=client, speaks=False)


def _client_id(table: MqttTable, name: str, log: str, agent: str) -> str:
    """One for each connection: a broker ends the first of two with the same id."""
    given = table.client_id or f"edge-agent-{agent[:12]}-{name}-{{log}}"
    if _LOG in given or log == "main":
        return given.replace(_LOG, log)
    return f"{given}-{log}"


def _filled(status: str, agent: str, log: str) -> str:
    """The topic of birth and will. With one for all logs they are ``main``'s, as the end of another
    log's connection is not the agent's.
    """
    return status.replace("{agent}", agent).replace(_LOG, log)
