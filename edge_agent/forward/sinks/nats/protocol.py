"""This module speaks the client's side of the NATS protocol, without any I/O. Pure.

`NatsParser` takes bytes as they come and gives what the server said; what cannot be NATS, or is
larger than anything that we asked for, raises ProtocolError, and nothing else is ever raised. The
functions give the bytes of what a client says.

https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from edge_agent.errors import ProtocolError

#: A control line is some hundred bytes; an INFO of a large cluster names all its servers.
LINE_BYTES_MAX: Final = 64 * 1024
#: What we are sent are answers: at most a stored message, in base64.
MESSAGE_BYTES_MAX: Final = 96 * 1024 * 1024
PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
_VERSION: Final = b"NATS/1.0"


class NatsInfo(msgspec.Struct, frozen=True):
    """What a server says of itself, as far as we care."""

    version: str = ""
    max_payload: int = 1024 * 1024
    headers: bool = False
    tls_required: bool = False


class NatsMessage(NamedTuple):
    """A message to one of our subjects. ``status`` stands in its headers, 0 without one: 503 says
    that nobody listens where we published.
    """

    subject: bytes
    payload: bytes
    status: int = 0


class NatsRefusal(NamedTuple):
    """``-ERR``: why, in the server's words. Most end the connection."""

    reason: str


class NatsPing(NamedTuple):
    """It wants to know whether we are there."""


class NatsPong(NamedTuple):
    """It is there."""


Said = NatsInfo | NatsMessage | NatsRefusal | NatsPing | NatsPong


class NatsParser:
    """Bytes in, what the server said out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: Of the message whose payload is awaited: subject, bytes of headers, bytes in all.
        self._awaited: tuple[bytes, int, int] | None = None

    def feed(self, data: bytes) -> list[Said]:
        """What is complete with ``data``.

        Raises:
            ProtocolError: this is not NATS; nothing more may be fed.
        """
        self._buffer += data
        said: list[Said] = []
        at, end = 0, len(self._buffer)
        while True:
            if self._awaited is not None:
                subject, headers, size = self._awaited
                if end - at < size + 2:
                    break
                message = bytes(self._buffer[at : at + size])
                if self._buffer[at + size : at + size + 2] != b"\r\n":
                    raise _strange("a message is longer than it says", message)
                at, self._awaited = at + size + 2, None
                said.append(NatsMessage(subject, message[headers:], _status(message[:headers])))
                continue
            line_end = self._buffer.find(b"\r\n", at)
            if line_end < 0:
                if end - at > LINE_BYTES_MAX:
                    raise _strange("a line has no end", bytes(self._buffer[at : at + 40]))
                break
            line = bytes(self._buffer[at:line_end])
            at = line_end + 2
            if (one := self._line(line)) is not None:
                said.append(one)
        del self._buffer[:at]
        return said

    def _line(self, line: bytes) -> Said | None:
        if len(line) > LINE_BYTES_MAX:
            raise _strange("a line is too long", line)
        word, _, rest = line.partition(b" ")
        match word.upper():
            case b"MSG" | b"HMSG" as kind:
                self._awaited = _awaited(kind, line)
            case b"PING":
                return NatsPing()
            case b"PONG":
                return NatsPong()
            case b"INFO":
                return _info(rest)
            case b"-ERR":
                return NatsRefusal(rest.decode("utf-8", "replace").strip().strip("'"))
            case b"+OK":
                pass
            case _:
                raise _strange("that is no word of NATS", line)
        return None


def connect(facts: dict[str, object]) -> bytes:
    """The first thing that a client says, with who it is."""
    return b"CONNECT " + msgspec.json.encode(facts) + b"\r\n"


def subscribe(subject: bytes, sid: int) -> bytes:
    """Messages to ``subject`` are wanted."""
    return b"SUB %s %d\r\n" % (subject, sid)


def publish(
    subject: bytes, payload: bytes, headers: Iterable[tuple[str, str]] = (), reply: bytes = b""
) -> bytes:
    """A message; who gets it answers to ``reply``. Values of headers have no line breaks."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode()
    to = b"%s %s" % (subject, reply) if reply else subject
    if not fields:
        return b"PUB %s %d\r\n%s\r\n" % (to, len(payload), payload)
    head = b"%s\r\n%s\r\n" % (_VERSION, fields)
    size = len(head) + len(payload)
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (to, len(head), size, head, payload)


def _awaited(kind: bytes, line: bytes) -> tuple[bytes, int, int]:
    """``MSG subject sid [reply] size`` or ``HMSG subject sid [reply] headers size``."""
    parts = line.split()
    numbers = 2 if kind == b"HMSG" else 1
    sizes = parts[-numbers:]
    plain = all(size.isdigit() and len(size) < 12 for size in sizes)
    if not (3 + numbers <= len(parts) <= 4 + numbers and plain):
        raise _strange("the line of a message says something else", line)
    size, headers = int(sizes[-1]), int(sizes[0]) if numbers == 2 else 0
    if headers > size or size > MESSAGE_BYTES_MAX:
        raise _strange("a message is larger than anything asked for", line)
    return parts[1], headers, size


def _info(text: bytes) -> NatsInfo:
    try:
        return msgspec.json.decode(text, type=NatsInfo)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _strange("its INFO cannot be read", text) from None


def _status(headers: bytes) -> int:
    """The number behind ``NATS/1.0`` in the first line."""
    word = headers[len(_VERSION) :].split(b"\r\n", 1)[0].strip()[:3]
    return int(word) if len(word) == 3 and word.isdigit() else 0


def _strange(what: str, line: bytes) -> ProtocolError:
    return ProtocolError("bad_nats", f"not NATS: {what}: {line[:40]!r}")
