"""What the two sides say about the data: hello, welcome, ack, nack, stop.

Each is a map with a ``type``, as JSON in a text message or as msgpack in a binary one, in the
encoding that the subprotocol names. Keys that a peer does not know are ignored, so that later
versions can say more; a key that is missing or of the wrong type is a ProtocolError
(``bad_hello``, ``bad_control``; close 1002). In plain mode the agent says less, and only if asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from edge_agent.errors import ProtocolError
from edge_agent.stream_names import SOURCE_BYTES_MAX, source_problem
from edge_agent.wire.reading_types import CLOSE_PROTOCOL, REASON_CHARACTERS_MAX

Mode = Literal["json", "msgpack"]

#: Numbers fit a signed 64-bit integer; the first one is 1.
NUMBER_MAX = 2**63 - 1
#: Where a source may begin: beyond, its own records would take its numbers past the largest one,
#: and no client could read the welcome that says so.
FIRST_MAX = 2**62
#: No control message of ours comes near; one of a peer's is not even decoded beyond it.
CONTROL_BYTES_MAX = 16 * 1024

Number = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
Count = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=1000)]


class Window(Struct, frozen=True):
    """How much may be sent and not yet acked."""

    records: Count
    bytes: Count


class ToldLimits(Struct, frozen=True):
    """Limits that the sender has to keep, as `Welcome` tells them. 0: not told."""

    message_bytes: Count = 0
    record_bytes: Count = 0
    batch_records: Count = 0


class History(Struct, frozen=True, omit_defaults=True):
    """What a sender whose store outlives the connection says of it, so that a copy is noticed.

    Attributes:
        opening: random id of this opening of its store: who opens a copy draws another one.
        done: everything before this number has been acknowledged to this very store.
        before: earlier openings, oldest first, each with the number that followed its last one.
        copied: the store has turned out to be a copy, and begins anew under this source; that is
            the one under which what is before ``done`` was acknowledged. "" otherwise.
    """

    opening: Word
    done: Number = 1
    before: Annotated[tuple[tuple[Word, Number], ...], Meta(max_length=64)] = ()
    copied: Annotated[str, Meta(max_length=SOURCE_BYTES_MAX)] = ""


class Hello(Struct, frozen=True, tag="hello", omit_defaults=True):
    """The sensor's first message.

    Attributes:
        source: who it is; a name like a stream's.
        epoch: the store's epoch, as an earlier welcome told it, for senders whose buffer
            outlives the connection.
        first: number of the oldest record it still has (or of the next one, if it has none).
        history: which history its numbers are of.
    """

    source: Annotated[str, Meta(min_length=1, max_length=SOURCE_BYTES_MAX)]
    epoch: Word | None = None
    first: Annotated[int, Meta(ge=1, le=FIRST_MAX)] | None = None
    history: History | None = None


class Welcome(Struct, frozen=True, tag="welcome"):
    """The answer to hello: go on at ``next``.

    ``next`` counts within ``epoch``; ``time`` is the agent's wall clock, RFC 3339, "" where it is
    not set. ``forked``: what is before ``next`` is not of the sender's history.
    """

    epoch: Word
    next: Number
    window: Window
    time: Annotated[str, Meta(max_length=64)] = ""
    limits: ToldLimits = ToldLimits()
    forked: bool | UnsetType = UNSET


class Ack(Struct, frozen=True, tag="ack", omit_defaults=True):
    """Everything before ``next`` is durable. ``window`` replaces the one granted before."""

    next: Number
    window: Window | None = None


class Nack(Struct, frozen=True, tag="nack"):
    """The record numbered ``at`` was refused for its content, for good; it is in quarantine."""

    at: Number
    code: Word
    message: Text = ""


class Stop(Struct, frozen=True, tag="stop"):
    """Not now. Nothing more is accepted; come back after ``retry_after`` seconds."""

    code: Word
    retry_after: Seconds = 0.0
    message: Text = ""


class Unknown(Struct, frozen=True):
    """Something that a later version says; ignored."""

    type: str = ""


FromAgent = Welcome | Ack | Nack | Stop
Control = Hello | FromAgent

# The union, not Hello alone: msgspec insists on the tag only where there is a choice, and a
# record with a field "source" must not pass for a hello.
_any_from_json: Callable[[str], Control] = msgspec.json.Decoder(Control).decode
_any_from_msgpack: Callable[[bytes], Control] = msgspec.msgpack.Decoder(Control).decode
_control_from_json: Callable[[str], FromAgent] = msgspec.json.Decoder(FromAgent).decode
_control_from_msgpack: Callable[[bytes], FromAgent] = msgspec.msgpack.Decoder(FromAgent).decode
_type_from_json = msgspec.json.Decoder(Unknown).decode
_type_from_msgpack = msgspec.msgpack.Decoder(Unknown).decode
_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode


def encode_control(message: Control, mode: Mode) -> str | bytes:
    """One control message, ready to send: text in JSON mode, bytes in msgpack mode."""
    return _to_json(message).decode() if mode == "json" else _to_msgpack(message)


def decode_hello(data: str | bytes) -> Hello:
    """The first message of a session. Either encoding is taken, whatever the mode.

    Raises:
        ProtocolError: ``bad_hello`` or ``bad_source``, close 1002.
    """
    _check_size(data, "bad_hello")
    try:
        hello = _any_from_json(data) if isinstance(data, str) else _any_from_msgpack(data)
    except (ValueError, RecursionError) as error:
        raise _bad_hello(str(error)[:200]) from error
    if not isinstance(hello, Hello):
        raise _bad_hello("this is something that the agent says")
    problem = source_problem(hello.source)
    if problem is not None:
        raise ProtocolError("bad_source", f"source: {problem}", CLOSE_PROTOCOL)
    return hello


def _bad_hello(shown: str) -> ProtocolError:
    text = f'a session begins with {{"type": "hello", "source": …}}: {shown}'
    return ProtocolError("bad_hello", text, CLOSE_PROTOCOL)


def decode_from_agent(data: str | bytes) -> FromAgent | Unknown:
    """What the agent said in a session. A ``type`` that is not known here gives `Unknown`.

    Raises:
        ProtocolError: ``bad_control``, close 1002.
    """
    _check_size(data, "bad_control")
    try:
        try:
            return _from_agent(data)
        except msgspec.ValidationError:
            unknown = _type_from_json(data) if isinstance(data, str) else _type_from_msgpack(data)
            if unknown.type in ("", "welcome", "ack", "nack", "stop"):
                raise
            return unknown
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            "bad_control", f"not a message of the agent: {str(error)[:200]}", CLOSE_PROTOCOL
        ) from error


def _from_agent(data: str | bytes) -> FromAgent:
    return _control_from_json(data) if isinstance(data, str) else _control_from_msgpack(data)


def encode_plain_ack(messages: int) -> str:
    """Plain mode with ``?ack=1``: the first ``messages`` messages have been dealt with durably."""
    return json.dumps({"ack": messages})


def encode_plain_error(error: ProtocolError, at: int) -> str:
    """Plain mode with ``?ack=1``: what was wrong with the message numbered ``at``, from 1."""
    return json.dumps(
        {"error": error.code, "at": at, "message": error.message[:REASON_CHARACTERS_MAX]}
    )


def _check_size(data: str | bytes, code: str) -> None:
    if len(data) > CONTROL_BYTES_MAX:
        raise ProtocolError(
            code, f"a control message has at most {CONTROL_BYTES_MAX} bytes", CLOSE_PROTOCOL
        )
