"""Checks of an MQTT upstream: topics, templates, and the keys that profiles need."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from edge_agent.config.mqtt_table import MqttTable
from edge_agent.config.upstreams import Upstream

#: What may be put in, by key.
CLIENT_NAMES: Final = ("log",)
STATUS_NAMES: Final = ("agent", "log")
TOPIC_NAMES: Final = ("agent", "log", "stream", "source")
PAYLOAD_NAMES: Final = (*TOPIC_NAMES, "fields", "id", "time", "time_s", "time_ms", "seq")
#: A name in braces; other braces, such as JSON's, are just that.
_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")
#: A stream's name has so many bytes at most, and a source's: a topic has room for both.
_TOPIC_BYTES_MAX: Final = 1000
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_LOG: Final = "{log}"

Mistake = tuple[str, str, str]
"""The key, what was expected, what was found."""


def mqtt_mistakes(upstream: Upstream) -> Iterator[Mistake]:
    """All that does not fit of an upstream of this kind."""
    table = upstream.mqtt or MqttTable()
    for key, template, names in (
        ("topic", table.topic, TOPIC_NAMES),
        ("status_topic", table.status_topic, STATUS_NAMES),
        ("payload", table.payload, PAYLOAD_NAMES),
        ("client_id", table.client_id, CLIENT_NAMES),
        ("sas_key_file", table.sas_key_file, CLIENT_NAMES),
    ):
        if template is not None:
            yield from _template_mistakes(key, template, names)
    if table.client_id is not None and not _CLIENT_ID.fullmatch(table.client_id):
        expected = "1 to 128 printable characters of ASCII without spaces"
        yield "mqtt.client_id", expected, f'"{table.client_id}"'
    if problem := _topic_problem(table.discovery_prefix):
        yield "mqtt.discovery_prefix", problem, f'"{table.discovery_prefix}"'
    if table.alpn is not None and not (table.alpn.isascii() and 1 <= len(table.alpn) <= 255):
        yield "mqtt.alpn", "1 to 255 characters of ASCII", f'"{table.alpn}"'
    if table.alpn is not None and upstream.scheme == "mqtt":
        yield "mqtt.alpn", "a URL with mqtts://, as it is said within TLS", "mqtt://"
    for key in ("headers", "token_file"):
        if getattr(upstream, key) and not (key == "token_file" and table.profile == "thingsboard"):
            yield key, "user and password_file, as MQTT has nothing else", "this key"
    yield from _profile_mistakes(upstream, table)


def lacks_devices(upstream: Upstream, logs: int) -> tuple[str, str] | None:
    """What was expected and found where an upstream has fewer devices at azure than there are logs:
    each log has a connection, and azure ends a device's first one for its second.
    """
    table = upstream.mqtt
    if table is None or table.profile != "azure" or logs == 1 or _LOG in (table.client_id or ""):
        return None
    return "a name with {log}, as a device has one connection there", f"{logs} logs"


def _profile_mistakes(upstream: Upstream, table: MqttTable) -> Iterator[Mistake]:
    profile = table.profile
    is_azure = profile == "azure"
    if table.sas_key_file is not None and not is_azure:
        yield "mqtt.sas_key_file", 'profile = "azure"', f'"{profile or ""}"'
    if profile in ("azure", "aws") and upstream.scheme == "mqtt":
        yield "url", f"mqtts://, as {profile} takes nothing without TLS", "mqtt://"
    if is_azure:
        if table.client_id is None:
            yield "mqtt.client_id", "this key: the name of the device in the hub", "nothing"
        ways = (table.sas_key_file, upstream.tls_certificate)
        if sum(way is not None for way in ways) != 1:
            found = "both" if all(ways) else "neither"
            yield "mqtt.sas_key_file", "this key or tls_certificate of the upstream", found
        for key in ("topic", "version", "retain", "status_topic"):
            if getattr(table, key) is not None:
                yield f"mqtt.{key}", "to be left out, as azure says what it is", "this key"
        if upstream.user is not None:
            yield "user", "to be left out, as azure's is made of host and device", "this key"
        if table.keep_alive > 1177:
            yield "mqtt.keep_alive", "at most 1177s, which is azure's longest", "more"
    if profile == "home-assistant" and table.payload not in (None, "fields", "record"):
        # Each entity is told where in the payload its value is.
        yield "mqtt.payload", '"fields" or "record" with home-assistant', "another one"
    if profile == "thingsboard" and upstream.token_file is None and upstream.user is None:
        yield "token_file", "this key: a file with the device's access token", "nothing"


def _template_mistakes(key: str, template: str, names: Collection[str]) -> Iterator[Mistake]:
    for name in _PLACE.findall(template):
        if name not in names:
            known = ", ".join(f"{{{one}}}" for one in names)
            yield f"mqtt.{key}", f"names out of {known}", f"{{{name}}}"
    if key == "payload":
        if not template:
            yield "mqtt.payload", '"fields", "record" or a text', "nothing"
        elif _PLACE.search(template) is None and template not in ("fields", "record"):
            # Every message would be the same.
            expected = '"fields", "record" or text with a name in braces, such as {fields}'
            yield "mqtt.payload", expected, f'"{template}"'
    if key not in ("topic", "status_topic"):
        return
    problem = _topic_problem(_PLACE.sub("x", template))
    if problem is not None:
        yield f"mqtt.{key}", problem, f'"{template}"'


def _topic_problem(topic: str) -> str | None:
    if not topic or len(topic.encode()) > _TOPIC_BYTES_MAX or not topic.isprintable():
        return f"1 to {_TOPIC_BYTES_MAX} printable characters"
    if "+" in topic or "#" in topic:
        return "a topic without + and #, which stand for several topics"
    return None
