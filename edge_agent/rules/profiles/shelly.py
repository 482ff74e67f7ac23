"""Shelly devices of the second generation and later: notifications, as JSON-RPC frames.

A device sends them over its outbound WebSocket, and to MQTT under ``<device>/events/rpc``.
``NotifyStatus`` has in ``params`` what has changed of each component, ``NotifyFullStatus`` all of
it, ``NotifyEvent`` what has happened, a button that was pushed. Each component becomes a record in
a stream below: ``switch:0`` is ``…/switch0``, with fields such as ``apower`` and ``aenergy_total``.

``params.ts`` is the time, seconds since 1970; a device that does not know it yet sends null. Null
as a value says that an attribute is gone, and gives no field; lists (energy by minute) give none.
"""

from __future__ import annotations

from typing import Any

from edge_agent.rules.nested import flattened
from edge_agent.rules.profiles.words import part_of_stream
from edge_agent.rules.steps import Fields, Outcome, Spot

_NO_FIELDS = ("id", "component", "ts")
_STATUS = ("NotifyStatus", "NotifyFullStatus")


def shelly_notification(fields: Fields, spot: Spot) -> Outcome:
    """A frame by its components; what is no notification stays as it is."""
    params, method = fields.get("params"), fields.get("method")
    if not isinstance(params, dict):
        return fields
    time = _time(params, fields)
    if method in _STATUS:
        found = [(name, part) for name, part in params.items() if isinstance(part, dict)]
    elif method == "NotifyEvent":
        events = params.get("events")
        found = [
            (f"{event.get('component', 'event')}", event)
            for event in (events if isinstance(events, list) else ())
            if isinstance(event, dict)
        ]
    else:
        return fields
    told = []
    for name, part in found:
        values, component = _values(part, spot.size_max), part_of_stream(f"{name}".replace(":", ""))
        if values and component:
            stream = f"{spot.stream}/{component}"
            told.append((stream, {**values, **_time(part, time)}))
    return told or None


def _values(part: dict[Any, Any], size_max: int) -> Fields:
    return {
        name: value
        for name, value in flattened(part, "_", size_max).items()
        if value is not None and not isinstance(value, list) and name not in _NO_FIELDS
    }


def _time(part: dict[Any, Any], otherwise: Fields) -> Fields:
    """The time that a part tells, as the one key of a map; else that of what it came with."""
    told = part.get("ts")
    if isinstance(told, (int, float)) and not isinstance(told, bool) and told > 0:
        return {"time": told}
    return {"time": otherwise["time"]} if "time" in otherwise else {}
