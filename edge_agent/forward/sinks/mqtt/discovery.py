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
``a/b``. The first one has the id that it always had, others a checksum of their own behind it:
``edge-agent_9b1d5f0c_greenhouse_1_5e0c7f3a``. Of those that are met together the first is the first
by name, so that a restart seldom changes who it is. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

import msgspec

from edge_agent.forward.run_columns import RunColumns
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage
from edge_agent.forward.sinks.mqtt.settings import MqttSettings

#: More entities than that are nobody's to look at; what is beyond is not announced.
ENTITIES_MAX: Final = 2000
_OTHERS: Final = re.compile(r"[^A-Za-z0-9_-]")
_FIELD_MAX: Final = 100


class Discovery:
    """The entities of one log; ``agent`` is our id."""

    def __init__(self, settings: MqttSettings, agent: str) -> None:
        self._settings, self._agent = settings, agent
        self._known: dict[tuple[str, str], MqttMessage] = {}
        self._owners: dict[tuple[int, str], tuple[str, ...]] = {}

    @property
    def status_topic(self) -> bytes:
        """Where Home Assistant says that it is back."""
        return f"{self._settings.discovery}/status".encode()

    def news(self, slices: Iterable[RunColumns]) -> list[MqttMessage]:
        """What is to be announced before these are sent."""
        met: dict[tuple[str, str], tuple[RunColumns, object]] = {}
        values = ((one, field) for one in slices for each in one.fields for field in each.items())
        for one, (name, value) in values:
            key = (one.stream, name)
            if key in self._known or len(self._known) + len(met) >= ENTITIES_MAX:
                continue
            if isinstance(value, (bool, int, float, str)) and 0 < len(name) <= _FIELD_MAX:
                met.setdefault(key, (one, value))
        found = {
            key: self._message(one, key[1], value) for key, (one, value) in sorted(met.items())
        }
        self._known |= found
        return [*found.values()]

    def everything(self) -> Iterator[MqttMessage]:
        """All that was announced so far."""
        return iter(self._known.values())

    def _own_id(self, name: str, *owner: str) -> str:
        """As Home Assistant takes it, and nobody else's: devices have one owner, entities two."""
        wanted = _OTHERS.sub("_", name)
        if self._owners.setdefault((len(owner), wanted), owner) == owner:
            return wanted
        return f"{wanted}_{blake2b(repr(owner).encode(), digest_size=4).hexdigest()}"

    def _message(self, one: RunColumns, name: str, value: object) -> MqttMessage:
        settings = self._settings
        values = {"agent": self._agent, "log": one.log, "stream": one.stream}
        state = settings.topic
        for place, text in (values | {"source": one.source}).items():
            state = state.replace(f"{{{place}}}", text)
        device = self._own_id(f"edge-agent_{self._agent[:8]}_{one.stream}", one.stream)
        entity = self._own_id(f"{device}_{name}", one.stream, name)
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
            "device": {"identifiers": [device], "name": one.stream},
            "origin": {"name": "edge-agent"},
        }
        kind = "sensor"
        if isinstance(value, bool):
            kind = "binary_sensor"
            told["value_template"] = f"{{{{ 'ON' if {path} else 'OFF' }}}}"
        elif not isinstance(value, str):
            told["state_class"] = "measurement"
        topic = f"{settings.discovery}/{kind}/{entity}/config"
        return MqttMessage(topic.encode(), msgspec.json.encode(told), 1, retain=True)
