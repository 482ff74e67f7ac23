"""ESPHome: what its MQTT state topics and its web server say.

- The state of a sensor is its number as a text, ``nan`` where it has none; of a switch or a binary
  sensor ``ON`` or ``OFF``. As a bare text it comes as the field ``value``.
- A light, a fan or a climate is JSON: ``{"state": "ON", "brightness": 255, "color": {"r": 255}}``.
  Maps become fields: ``color_r``.
- An event of the web server names its entity:
  ``{"id": "sensor-t", "value": 21.5, "state": "21.5 °C"}``. It goes to a stream below, named by
  ``id``.
"""

from __future__ import annotations

from typing import Any

from edge_agent.rules.nested import flattened
from edge_agent.rules.profiles.words import number_or, part_of_stream, switched
from edge_agent.rules.steps import Fields, Outcome, Spot

_OWN = ("time", "stream")


def esphome(fields: Fields, spot: Spot) -> Outcome:
    """A state in numbers, true and false."""
    time = {name: fields[name] for name in _OWN if name in fields}
    values = {name: value for name, value in fields.items() if name not in _OWN}
    entity = values.get("id")
    stream = spot.stream
    if isinstance(entity, str) and ("value" in values or "state" in values):
        part = part_of_stream(entity)
        stream += f"/{part}" if part else ""
        del values["id"]
    told = {name: _plain(value) for name, value in flattened(values, "_", spot.size_max).items()}
    if "value" in told and isinstance(told.get("state"), (str, bool)) and stream != spot.stream:
        # The same once more, with its unit, for people.
        del told["state"]
    told = {name: value for name, value in told.items() if value is not None}
    return [(stream, {**told, **time})] if told else None


def _plain(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return None if value.lower() == "nan" else switched(number_or(value.strip()))
