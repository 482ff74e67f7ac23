"""An MQTT message as a record: the name of its stream, and its fields. Pure.

A topic becomes a stream part by part: letters that a stream's name cannot have become ``_``, an
empty part, ``.`` and ``..`` too. A name that is too long is cut, with a checksum of the whole topic
at its end. So two topics may become one stream only where they differ in such letters alone.

A payload that is a JSON object is fields. Its keys ``stream`` and ``time`` are called ``stream_``
and ``time_``: in a record they would say where it belongs and when it was measured, which is for
rules to say. Any other JSON is ``{"value": …}``, text that is no JSON likewise, and bytes that are
no text stay bytes.
"""

from __future__ import annotations

import re
import zlib
from codecs import BOM_UTF8
from contextlib import suppress
from typing import Any, Final

import msgspec

from edge_agent.values.stream_names import STREAM_BYTES_MAX
from edge_agent.wire import nulls_for_nan

_OTHERS: Final = re.compile(r"[^A-Za-z0-9._-]")
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
#: Keys that mean something in a record.
_TAKEN: Final = ("stream", "time")
_NO_JSON: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_json = msgspec.json.Decoder()


def template_problem(template: str) -> str | None:
    """What was expected instead of a stream's template; None where it is good."""
    for name in _PLACE.findall(template):
        if name != "topic" and not (name.isascii() and name.isdigit() and 1 <= int(name) <= 99):
            return "{topic} or the number of one of its parts, such as {1}"
    if not template or _PLACE.sub("", template).strip("/").startswith("$"):
        return "a name such as zigbee/{topic}"
    return None


def stream_of(template: str, topic: str) -> str:
    """The stream of a message; ``{1}`` is the first part of its topic, ``_`` if it has none.

    >>> stream_of("home/{topic}", "tele/Living room/SENSOR")
    'home/tele/Living_room/SENSOR'
    """
    parts = topic.split("/")

    def filled(found: re.Match[str]) -> str:
        if found[1] == "topic":
            return topic
        place = int(found[1])
        return parts[place - 1] if place <= len(parts) else "_"

    name = "/".join(map(_part, _PLACE.sub(filled, template).split("/")))
    if len(name) > STREAM_BYTES_MAX:
        checksum = f"-{zlib.crc32(topic.encode()):08x}"
        name = name[: STREAM_BYTES_MAX - len(checksum)].rstrip("/") + checksum
    return name


def fields_of(payload: bytes) -> dict[str, Any]:
    """A record's fields."""
    try:
        value = _value_of(payload)
    except UnicodeDecodeError:
        value = payload
    if not isinstance(value, dict):
        return {"value": value}
    for key in _TAKEN:
        if key in value:
            value[f"{key}_"] = value.pop(key)
    return value


def _value_of(payload: bytes) -> Any:
    """JSON, or text. NaN and Infinity within JSON are null, as an agent reads them."""
    payload = payload.removeprefix(BOM_UTF8)
    with suppress(*_NO_JSON):
        return _json.decode(payload)
    text = payload.decode()
    if text.lstrip()[:1] in ("{", "["):
        with suppress(*_NO_JSON):
            return _json.decode("".join(nulls_for_nan(text)))
    return text


def as_text(payload: bytes) -> dict[str, Any]:
    """The fields of a message whose JSON no record can hold, such as a number of 100 digits."""
    return {"value": payload.decode("utf-8", "replace")}


def _part(part: str) -> str:
    part = _OTHERS.sub("_", part)
    return "_" if part in ("", ".", "..") else part
