r"""This module announces fields of streams to Home Assistant, one entity each.

::

    homeassistant/sensor/edge-agent_9b1d5f0c_greenhouse_1_t/config   (retained)
    {"name": "t", "unique_id": …, "state_topic": "edge-agent/9b1d…/greenhouse/1",
     "value_template": "{{ value_json[\"t\"] }}", "device": {"name": "greenhouse/1", …}, …}

Announced is a field that is a number, a text or a bool at the top of a record, when it is first
met, and everything again when Home Assistant says on ``homeassistant/status`` that it is back.
What is retained would be there anyway; the broker may have lost it.

Home Assistant takes letters, digits, ``_`` and ``-`` in ids, so that ``greenhouse/1`` and
``greenhouse_1`` would be one device, and a field ``b_c`` of ``a`` one entity with a field ``c`` of
``a/b``. The first one by name has the plain id, others a checksum of their own behind it:
``edge-agent_9b1d5f0c_greenhouse_1_5e0c7f3a``. Where the first one is met last it takes the plain
id over, and who had it until then is announced anew: ids depend on what there is, and not on the
order in which it came since the start. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.forward.run_columns import RunColumns
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage
from edge_agent.forward.sinks.mqtt.settings import MqttSettings

#: More entities than that are nobody's to look at; what is beyond is not announced.
ENTITIES_MAX: Final = 2000
_OTHERS: Final = re.compile(r"[^A-Za-z0-9_-]")
_FIELD_MAX: Final = 100


class _Entity(NamedTuple):
    """Where one field of a stream was met, and as what kind of value."""

    log: str
    source: str
    kind: type[object]


class Discovery:
    """The entities of one log; ``agent`` is our id."""

    def __init__(self, settings: MqttSettings, agent: str) -> None:
        self._settings, self._agent = settings, agent
        #: By stream and field.
        self._met: dict[tuple[str, str], _Entity] = {}
        self._known: dict[tuple[str, str], MqttMessage] = {}
        self._owners: dict[tuple[int, str], tuple[str, ...]] = {}
        self._is_in_order = True

    @property
    def status_topic(self) -> bytes:
        """Where Home Assistant says that it is back."""
        return f"{self._settings.discovery}/status".encode()

    def news(self, slices: Iterable[RunColumns]) -> list[MqttMessage]:
        """What is to be announced before these are sent."""
        met: dict[tuple[str, str], _Entity] = {}
        values = ((one, field) for one in slices for each in one.fields for field in each.items())
        for one, (name, value) in values:
            key = (one.stream, name)
            if key in self._known or len(self._known) + len(met) >= ENTITIES_MAX:
                continue
            if isinstance(value, (bool, int, float, str)) and 0 < len(name) <= _FIELD_MAX:
                met.setdefault(key, _Entity(one.log, one.source, type(value)))
        self._met |= met
        found = {key: self._message(key) for key in sorted(met)}
        if self._is_in_order:
            self._known |= found
            return [*found.values()]
        # An id belongs to somebody who is behind one of these: all anew, in order.
        self._owners.clear()
        before, self._known = self._known, {key: self._message(key) for key in sorted(self._met)}
        self._is_in_order = True
        topics = {message.topic for message in self._known.values()}
        # What is empty and retained takes back what was retained there.
        left = (one.topic for one in before.values() if one.topic not in topics)
        changed = (one for key, one in self._known.items() if before.get(key) != one)
        return [*(MqttMessage(topic, b"", 1, retain=True) for topic in left), *changed]

    def everything(self) -> Iterator[MqttMessage]:
        """All that was announced so far."""
        return iter(self._known.values())

    def _own_id(self, name: str, *owner: str) -> str:
        """As Home Assistant takes it, and nobody else's: devices have one owner, entities two."""
        wanted = _OTHERS.sub("_", name)
        while (holder := self._owners.setdefault((len(owner), wanted), owner)) != owner:
            if owner < holder:
                self._is_in_order = False
            wanted += f"_{blake2b(repr(owner).encode(), digest_size=4).hexdigest()}"
        return wanted

    def _message(self, key: tuple[str, str]) -> MqttMessage:
        (stream, name), one, settings = key, self._met[key], self._settings
        values = {"agent": self._agent, "log": one.log, "stream": stream}
        state = settings.topic
        for place, text in (values | {"source": one.source}).items():
            state = state.replace(f"{{{place}}}", text)
        device = self._own_id(f"edge-agent_{self._agent[:8]}_{stream}", stream)
        entity = self._own_id(f"{device}_{name}", stream, name)
        quoted = msgspec.json.encode(name).decode()
        path = f"value_json[{quoted}]"
        if settings.payload == "record":
            path = f'value_json["fields"][{quoted}]'
        told: dict[str, Any] = {
            "name": name,
            "unique_id": entity,
            "object_id": entity,
            "state_topic": state,
            "value_template": f"{{{{ {path} }}}}",
            "availability_topic": settings.status.decode(),
            "device": {"identifiers": [device], "name": stream},
            "origin": {"name": "edge-agent"},
        }
        kind = "sensor"
        if issubclass(one.kind, bool):
            kind = "binary_sensor"
            told["value_template"] = f"{{{{ 'ON' if {path} else 'OFF' }}}}"
        elif not issubclass(one.kind, str):
            told["state_class"] = "measurement"
        topic = f"{settings.discovery}/{kind}/{entity}/config"
        return MqttMessage(topic.encode(), msgspec.json.encode(told), 1, retain=True)
