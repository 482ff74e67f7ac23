"""The table ``[upstream.mqtt]``: the keys that only an MQTT upstream has."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from edge_agent.config.quantities import Duration, Size

MqttProfile = Literal["azure", "aws", "thingsboard", "home-assistant"]


class MqttTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How records become messages of an ``mqtt`` or ``mqtts`` upstream, each of QoS 1.

    In ``topic`` and ``status_topic`` ``{agent}`` and ``{log}`` are put in, in ``topic`` also
    ``{stream}`` and ``{source}``. ``payload`` is ``"fields"`` (JSON of the fields), ``"record"``
    (JSON with stream, time, source and the record's id) or text in which these are put in, and
    ``{fields}``, ``{id}``, ``{time}``, ``{time_s}``, ``{time_ms}`` and ``{seq}``. What is not set
    is the profile's, or what its comment says. docs/upstreams.md has an example of each profile.
    """

    profile: MqttProfile | None = None  # how a service wants it
    version: Literal["5", "3.1.1"] | None = None  # not set: 5
    topic: str | None = None  # not set: edge-agent/{agent}/{stream}
    payload: str | None = None  # not set: record; home-assistant: fields
    retain: bool | None = None  # the broker keeps each topic's last message; not set: false
    client_id: str | None = None  # not set: made of agent, upstream and log; {log} is put in
    keep_alive: Duration = Duration(60)  # a ping is sent at half of it
    in_flight: int = 1000  # messages sent and not acknowledged; less where the broker says so
    message_bytes: Size | None = None  # a larger one goes to quarantine; less where the broker says
    messages_per_second: float | None = None  # not set: as many as the broker takes
    status_topic: str | None = None  # retained: online at birth, offline as the will
    alpn: str | None = None  # name of the protocol within TLS, where the port has several
    sas_key_file: str | None = None  # azure: the device's key, in one line; {log} is put in
    sas_lifetime: Duration = Duration(3600)  # azure: how long a password is good
    discovery_prefix: str = "homeassistant"  # home-assistant: where it looks for devices


#: For docs/configuration.md, whose examples together are one configuration.
MQTT_EXAMPLE: Final = """\
[[upstream]]
name = "broker"
url = "mqtts://broker.example"
user = "edge"
password_file = "/etc/edge-agent/broker-password"
[upstream.mqtt]
topic = "plant/7/{stream}"
payload = '{"at": {time_ms}, "values": {fields}}'
status_topic = "plant/7/status"
message_bytes = "64KiB"
messages_per_second = 1000

[[upstream]]
name = "iothub"
url = "mqtts://contoso.azure-devices.net"
[upstream.mqtt]
profile = "azure"
client_id = "greenhouse-7-{log}"
sas_key_file = "/etc/edge-agent/greenhouse-7-{log}.key"

[[upstream]]
name = "core"
url = "mqtts://abc-ats.iot.eu-west-1.amazonaws.com:443"
tls_certificate = "/etc/edge-agent/aws.pem"
tls_key = "/etc/edge-agent/aws.key"
[upstream.mqtt]
profile = "aws"
version = "3.1.1"
alpn = "x-amzn-mqtt-ca"
retain = true"""
