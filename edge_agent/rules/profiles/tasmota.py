"""Tasmota's telemetry: ``tele/<device>/SENSOR`` and ``tele/<device>/STATE``.

``SENSOR`` has a map for each sensor, named after its chip (``AM2301``, ``DS18B20-1``), or
``ENERGY``: each becomes a record in a stream below, with ``TempUnit`` and its like where they
belong.
``STATE`` has the device's own values; its maps become fields (``Wifi_RSSI``), ``POWER`` true or
false.

``Time`` is local and names no zone unless the device was told to write one. With a zone it is the
time; without, the time of arrival is, which is right for telemetry. A rule
``time = { key = "Time", zone = "Europe/Berlin" }`` says which zone is meant.
"""

from __future__ import annotations

import re
from typing import Any

from edge_agent.rules.nested import flattened
from edge_agent.rules.profiles.words import part_of_stream, switched
from edge_agent.rules.steps import Fields, Outcome, Spot

_ZONED = re.compile(r"\d{4}-\d\d-\d\dT.*(?:Z|[+-]\d\d:\d\d)")
_UNITS = {"TempUnit": "Temperature", "PressureUnit": "Pressure", "SpeedUnit": "Speed"}
_POWER = re.compile(r"POWER\d*")


def tasmota(fields: Fields, spot: Spot) -> Outcome:
    """A message by its sensors, or the device's state."""
    if not ("Time" in fields or "UptimeSec" in fields or "time" in fields):
        return fields
    time = _time(fields)
    if "Uptime" in fields or "UptimeSec" in fields:
        return [(spot.stream, {**_state(fields, spot.size_max), **time})]
    units = {name: value for name, value in fields.items() if name in _UNITS}
    told: list[tuple[str, Fields]] = []
    others: Fields = {}
    for name, value in fields.items():
        if name in ("Time", "time", "stream") or name in units:
            continue
        part = part_of_stream(f"{name}")
        if isinstance(value, dict) and part:
            values = flattened(value, "_", spot.size_max)
            about = {unit: told for unit, told in units.items() if _UNITS[unit] in values}
            told.append((f"{spot.stream}/{part}", {**values, **about, **time}))
        else:
            others[name] = _power(f"{name}", value)
    if others:
        told.append((spot.stream, {**others, **time}))
    return told or None


def _state(fields: Fields, size_max: int) -> dict[str, Any]:
    flat = flattened(fields, "_", size_max)
    return {
        name: _power(name, value)
        for name, value in flat.items()
        if name not in ("Time", "time", "stream")
    }


def _power(name: str, value: Any) -> Any:
    return switched(value) if _POWER.fullmatch(name) else value


def _time(fields: Fields) -> Fields:
    told = fields.get("Time")
    if "time" in fields:
        return {"time": fields["time"]}
    return {"time": told} if isinstance(told, str) and _ZONED.fullmatch(told) else {}
