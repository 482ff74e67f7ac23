"""The answer to a POST, and its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

import msgspec

from edge_agent import __version__
from edge_agent.server.handshake import HandshakeRefusal


@dataclass(slots=True)
class PostAnswer:
    """An answer: status, JSON, and seconds to wait where it is no yes."""

    status: int
    body: dict[str, object]
    retry_after: float | None = None


def error(status: int, code: str, message: str, retry_after: float | None = None) -> PostAnswer:
    """A no, with a word for programs and a sentence for people."""
    return PostAnswer(status, {"error": {"code": code, "message": message}}, retry_after)


def refused(refusal: HandshakeRefusal) -> PostAnswer:
    """The answer to one that is not let in, whether it is the first of its connection or not."""
    return error(refusal.status, refusal.reason, refusal.sentence, refusal.retry_after)


def response(told: PostAnswer, *, is_last: bool) -> bytes:
    """The whole HTTP response; ``is_last``: the connection is closed behind it."""
    body = msgspec.json.encode(told.body) + b"\n"
    lines = [
        f"HTTP/1.1 {told.status} {HTTPStatus(told.status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Server: edge-agent/{__version__}",
    ]
    if told.retry_after is not None:
        lines.append(f"Retry-After: {max(1, ceil(told.retry_after))}")
    if told.status == HTTPStatus.UNAUTHORIZED:
        lines.append('WWW-Authenticate: Bearer realm="edge-agent"')
    if is_last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body
