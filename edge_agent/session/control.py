"""Messages about the data: hello, welcome, ack, nack, stop; and the close codes.

Each is a map with a ``type``, as JSON in a text message or as msgpack in a binary one, in the
encoding that the subprotocol names. Keys that a peer does not know are ignored, so that later
versions can say more; a key that is missing or of the wrong type is a ProtocolError
(``bad_hello``, ``bad_control``; close 1002).

Both sides read and write them here. Sensors do not have msgspec, so each key is looked at by hand;
a connection says few of these messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgpack

from edge_agent.errors import ProtocolError
from edge_agent.session.checked import or_null, read_bool, read_map, seconds, take, text, whole
from edge_agent.values.stream_names import SOURCE_BYTES_MAX, source_problem

Mode = Literal["json", "msgpack"]

#: Subprotocols, each with how a connection then speaks.
PLAIN = "edge-agent.v1.plain"
JSON_SESSION = "edge-agent.v1+json"
MSGPACK_SESSION = "edge-agent.v1+msgpack"

# WebSocket close codes (RFC 6455 section 7.4.1 and the IANA registry; 4000 and up are ours).
CLOSE_PROTOCOL = 1002
CLOSE_UNDECODABLE = 1007
CLOSE_FORBIDDEN = 1008
CLOSE_TOO_BIG = 1009
CLOSE_RESTART = 1012
CLOSE_TRY_LATER = 1013
CLOSE_TAKEN_OVER = 4409
#: What a stop says that only a person can change: the name belongs to somebody else.
FORBIDDEN = frozenset({"forbidden_source", "forbidden_origin"})

#: Numbers fit a signed 64-bit integer; the first one is 1.
NUMBER_MAX = 2**63 - 1
#: Where a source may begin: beyond, its own records would take its numbers past the largest one,
#: and no client could read the welcome that says so.
FIRST_MAX = 2**62
#: No control message of ours comes near; one of a peer's is not even decoded beyond it.
CONTROL_BYTES_MAX = 16 * 1024
WORD_CHARACTERS_MAX = 64
TEXT_CHARACTERS_MAX = 1000
OPENINGS_MAX = 64
RETRY_AFTER_MAX_S = 86_400


@dataclass(frozen=True, slots=True)
class Window:
    """How much may be sent and not yet acked."""

    records: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ToldLimits:
    """Limits that the sender has to keep, as `Welcome` tells them. 0: not told."""

    message_bytes: int = 0
    record_bytes: int = 0
    batch_records: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """What a sender whose store outlives the connection says of it, so that a copy is noticed.

    Attributes:
        opening: random id of this opening of its store: who opens a copy draws another one.
        done: everything before this number has been acknowledged to this very store.
        before: earlier openings, oldest first, each with the number that followed its last one.
        copied: the store has turned out to be a copy, and begins anew under this source; that is
            the one under which what is before ``done`` was acknowledged. "" otherwise.
    """

    opening: str
    done: int = 1
    before: tuple[tuple[str, int], ...] = ()
    copied: str = ""


@dataclass(frozen=True, slots=True)
class Hello:
    """The sensor's first message.

    Attributes:
        source: who it is; a name like a stream's.
        epoch: the store's epoch, as an earlier welcome told it, for senders whose buffer
            outlives the connection.
        first: number of the oldest record it still has (or of the next one, if it has none).
        history: which history its numbers are of.
        resends: some of what it sends may be here already, under another source; that is to be
            left out. Said by agents only, as is the next one.
        moved: ``first`` was chosen on purpose: what is before it is another source's, or was left
            out by order, and is not missing.
        bridged: what was acknowledged to it is with its hub's upstream, as that hub's welcome said.
    """

    source: str
    epoch: str | None = None
    first: int | None = None
    history: History | None = None
    resends: bool = False
    moved: bool = False
    bridged: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to hello: go on at ``next``.

    ``next`` counts within ``epoch``; ``time`` is the agent's wall clock, RFC 3339, "" where it is
    not set. ``forked``: what is before ``next`` is not of the sender's history. ``resends``: what
    is here already will be left out, as the sender asked. ``bridged``: what is before ``next``, and
    all that is acknowledged from here on, is with an upstream, too, and outlives this store.
    """

    epoch: str
    next: int
    window: Window
    time: str = ""
    limits: ToldLimits = ToldLimits()
    forked: bool = False
    resends: bool = False
    bridged: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything before ``next`` is durable. ``window`` replaces the one granted before."""

    next: int
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Nack:
    """The record numbered ``at`` was refused for its content, for good; it is in quarantine."""

    at: int
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Not now. Nothing more is accepted; come back after ``retry_after`` seconds."""

    code: str
    retry_after: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that a later version says; ignored."""

    type: str = ""


FromAgent = Welcome | Ack | Nack | Stop
Control = Hello | FromAgent

_NUMBER, _COUNT = whole(1, NUMBER_MAX), whole(0, NUMBER_MAX)
_WORD, _TEXT = text(1, WORD_CHARACTERS_MAX), text(0, TEXT_CHARACTERS_MAX)
_SOURCE, _COPIED = text(1, SOURCE_BYTES_MAX), text(0, SOURCE_BYTES_MAX)
_RETRY_AFTER = seconds(0, RETRY_AFTER_MAX_S)
_TIME, _TYPE = text(0, WORD_CHARACTERS_MAX), text(1, CONTROL_BYTES_MAX)


def encode_control(message: Control, mode: Mode) -> str | bytes:
    """One control message, ready to send: text in JSON mode, bytes in msgpack mode."""
    if isinstance(message, Ack):
        return encode_ack(message.next, message.window, mode)
    return _encode(_as_map(message), mode)


def encode_ack(next_number: int, window: Window | None, mode: Mode) -> str | bytes:
    """`Ack`, encoded. The usual one is written out: a busy agent says thousands a second."""
    if window is not None:
        return _encode({"type": "ack", "next": next_number, "window": _pair(window)}, mode)
    if mode == "json":
        return f'{{"type":"ack","next":{next_number}}}'
    return b"\x82\xa4type\xa3ack\xa4next" + _packed(next_number)


def decode_hello(data: str | bytes) -> Hello:
    """The first message of a session. Either encoding is taken, whatever the mode.

    Raises:
        ProtocolError: ``bad_hello`` or ``bad_source``, close 1002.
    """
    try:
        told = _decode(data)
        kind = take(told, "type", _WORD)
        if kind != "hello":
            raise ValueError(f"type: expected hello, got {kind!r}")
        hello = Hello(
            take(told, "source", _SOURCE),
            take(told, "epoch", _EPOCH, None),
            take(told, "first", _FIRST, None),
            take(told, "history", _HISTORY, None),
            take(told, "resends", read_bool, False),
            take(told, "moved", read_bool, False),
            take(told, "bridged", read_bool, False),
        )
    except _UNREADABLE as error:
        wrong = f'a session begins with {{"type": "hello", "source": …}}: {str(error)[:200]}'
        raise ProtocolError("bad_hello", wrong, CLOSE_PROTOCOL) from error
    problem = source_problem(hello.source)
    if problem is not None:
        raise ProtocolError("bad_source", f"source: {problem}", CLOSE_PROTOCOL)
    return hello


def decode_from_agent(data: str | bytes) -> FromAgent | Unknown:
    """What the agent said in a session. A ``type`` that is not known here gives `Unknown`.

    Raises:
        ProtocolError: ``bad_control``, close 1002.
    """
    try:
        told = _decode(data)
        kind = take(told, "type", _TYPE)
        read = _FROM_AGENT.get(kind)
        return Unknown(kind) if read is None else read(told)
    except _UNREADABLE as error:
        raise ProtocolError(
            "bad_control", f"not a message of the agent: {str(error)[:200]}", CLOSE_PROTOCOL
        ) from error


# Whatever can come of bytes that a peer chose. TypeError: in msgpack a map may be a map's key.
_UNREADABLE = (ValueError, TypeError, RecursionError)
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_packed = msgpack.Packer().pack


def _encode(told: dict[str, object], mode: Mode) -> str | bytes:
    return _to_json(told) if mode == "json" else msgpack.packb(told)


def _decode(data: str | bytes) -> dict[str, Any]:
    if len(data) > CONTROL_BYTES_MAX:
        raise ValueError(f"a control message has at most {CONTROL_BYTES_MAX} bytes")
    if isinstance(data, str):
        return read_map(json.loads(data))
    # Keys that are no text, and text that is not UTF-8, are ignored where nobody asks for them.
    return read_map(msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogateescape"))


def _as_map(message: Hello | Welcome | Nack | Stop) -> dict[str, object]:
    told: dict[str, object]
    if isinstance(message, Hello):
        told = {"type": "hello", "source": message.source}
        if message.epoch is not None:
            told["epoch"] = message.epoch
        if message.first is not None:
            told["first"] = message.first
        if message.history is not None:
            told["history"] = _history_map(message.history)
        told |= {name: True for name in ("resends", "moved", "bridged") if getattr(message, name)}
    elif isinstance(message, Welcome):
        limits = message.limits
        told = {
            "type": "welcome",
            "epoch": message.epoch,
            "next": message.next,
            "window": _pair(message.window),
            "time": message.time,
            "limits": {
                "message_bytes": limits.message_bytes,
                "record_bytes": limits.record_bytes,
                "batch_records": limits.batch_records,
            },
        }
        told |= {name: True for name in ("forked", "resends", "bridged") if getattr(message, name)}
    elif isinstance(message, Nack):
        told = {"type": "nack", "at": message.at, "code": message.code, "message": message.message}
    else:
        told = {"type": "stop", "code": message.code, "retry_after": message.retry_after}
        told["message"] = message.message
    return told


def _pair(window: Window) -> dict[str, object]:
    return {"records": window.records, "bytes": window.bytes}


def _history_map(history: History) -> dict[str, object]:
    told: dict[str, object] = {"opening": history.opening, "done": history.done}
    if history.before:
        told["before"] = history.before
    if history.copied:
        told["copied"] = history.copied
    return told


def _window(value: object) -> Window:
    told = read_map(value)
    return Window(take(told, "records", _COUNT), take(told, "bytes", _COUNT))


def _limits(value: object) -> ToldLimits:
    told = read_map(value)
    return ToldLimits(
        take(told, "message_bytes", _COUNT, 0),
        take(told, "record_bytes", _COUNT, 0),
        take(told, "batch_records", _COUNT, 0),
    )


def _history(value: object) -> History:
    told = read_map(value)
    return History(
        take(told, "opening", _WORD),
        take(told, "done", _NUMBER, 1),
        take(told, "before", _openings, ()),
        take(told, "copied", _COPIED, ""),
    )


def _openings(value: object) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list) or len(value) > OPENINGS_MAX:
        raise ValueError(f"expected at most {OPENINGS_MAX} openings, got {value!r:.60}")
    found = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"expected an opening and a number, got {pair!r:.60}")
        found.append((_WORD(pair[0]), _NUMBER(pair[1])))
    return tuple(found)


def _welcome(told: dict[str, Any]) -> Welcome:
    return Welcome(
        take(told, "epoch", _WORD),
        take(told, "next", _NUMBER),
        take(told, "window", _window),
        take(told, "time", _TIME, ""),
        take(told, "limits", _limits, ToldLimits()),
        take(told, "forked", read_bool, False),
        take(told, "resends", read_bool, False),
        take(told, "bridged", read_bool, False),
    )


def _ack(told: dict[str, Any]) -> Ack:
    return Ack(take(told, "next", _NUMBER), take(told, "window", _NEW_WINDOW, None))


def _nack(told: dict[str, Any]) -> Nack:
    return Nack(
        take(told, "at", _NUMBER), take(told, "code", _WORD), take(told, "message", _TEXT, "")
    )


def _stop(told: dict[str, Any]) -> Stop:
    return Stop(
        take(told, "code", _WORD),
        take(told, "retry_after", _RETRY_AFTER, 0.0),
        take(told, "message", _TEXT, ""),
    )


_EPOCH, _FIRST = or_null(_WORD), or_null(whole(1, FIRST_MAX))
_HISTORY, _NEW_WINDOW = or_null(_history), or_null(_window)
_FROM_AGENT: dict[str, Callable[[dict[str, Any]], FromAgent]] = {
    "welcome": _welcome, "ack": _ack, "nack": _nack, "stop": _stop,
}  # fmt: skip
