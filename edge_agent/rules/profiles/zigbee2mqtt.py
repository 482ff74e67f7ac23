"""Zigbee2MQTT: the state of a device, one JSON object of what it exposes.

``{"temperature": 21.4, "linkquality": 120, "state": "ON", "color": {"x": 0.4}, "update": {…}}``.
``ON`` and ``OFF`` become true and false, maps fields (``color_x``). ``last_seen`` is the time,
where the bridge writes it: RFC 3339, or milliseconds since 1970. What is null (not known yet) and
what is about the firmware (``update``) and the bridge's own (``device``) gives no field.
"""

from __future__ import annotations

from edge_agent.rules.nested import flattened
from edge_agent.rules.profiles.words import switched
from edge_agent.rules.steps import Fields, Outcome, Spot

_NOT_MEASURED = ("last_seen", "time", "stream", "update", "update_available", "device")


def zigbee2mqtt(fields: Fields, spot: Spot) -> Outcome:
    """What a device has measured or is switched to."""
    values = {name: value for name, value in fields.items() if name not in _NOT_MEASURED}
    told = {name: switched(value) for name, value in flattened(values, "_", spot.size_max).items()}
    told = {name: value for name, value in told.items() if value is not None}
    return [(spot.stream, {**told, **_time(fields)})] if told else None


def _time(fields: Fields) -> Fields:
    seen = fields.get("last_seen")
    if isinstance(seen, str) and "T" in seen:
        return {"time": seen}
    if isinstance(seen, (int, float)) and not isinstance(seen, bool) and seen > 0:
        return {"time": seen / 1000}
    return {"time": fields["time"]} if "time" in fields else {}
