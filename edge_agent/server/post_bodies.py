"""The messages in the body of a POST: by its type, or else by what it looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge_agent.config import Profile
from edge_agent.errors import ProtocolError

MSGPACK: Final = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
_LINES: Final = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
#: Types that say what the fields mean; rules have the same by these names.
PROFILES: Final[dict[str, Profile]] = {
    "application/senml+json": "senml",
    "application/cloudevents+json": "cloudevents",
    "application/cloudevents-batch+json": "cloudevents",
}


def one_message(content_type: str, body: bytes) -> str | bytes | None:
    """The message, where it is a single one and means itself; None otherwise."""
    if content_type in MSGPACK:
        return body
    if content_type in PROFILES or b"\n" in body.rstrip():
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def messages_of(content_type: str, body: bytes) -> list[str | bytes]:
    """The messages in a body, by its type; where that says nothing, by what it looks like."""
    if content_type in MSGPACK:
        return [body]
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        at = f"byte {error.start} is no UTF-8"
        text = f"expected JSON, or msgpack with Content-Type: {MSGPACK[0]}; {at}"
        raise ProtocolError("undecodable", text) from None
    lines = text.splitlines() if "\n" in text.strip() else [text]
    is_lines = content_type in _LINES or (len(lines) > 1 and _are_whole(lines))
    return [line for line in lines if line.strip()] or [text] if is_lines else [text]


def _are_whole(lines: Sequence[str]) -> bool:
    """Whether the first line is a value by itself, and not the beginning of a longer one."""
    try:
        msgspec.json.decode(lines[0])
    except (ValueError, RecursionError):
        return False
    return True
