"""The messages in the body of a POST: by its type, or else by what it looks like."""

from __future__ import annotations

import base64
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from edge_agent.config import Profile
from edge_agent.errors import ProtocolError
from edge_agent.wire import LongText, TooBigMessage, json_fault, text_of

MSGPACK: Final = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
#: Of lines that are read together, unless it is one.
_PIECE_BYTES: Final = 32 * 1024
_LINES: Final = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
#: What says that it is in a form which is not read here, such as ``application/senml+cbor``. Where
#: the type says nothing of a form, as curl's own does not, the body is taken for JSON.
_OTHERS: Final = re.compile(
    r".*[/+.-](?:cbor|cbor-seq|xml|exi|avro|protobuf|csv)|multipart/.*|application/x-protobuf"
)
#: A CloudEvent as one JSON object.
STRUCTURED: Final = "application/cloudevents+json"
#: Types that say what the fields mean; rules have the same by these names.
PROFILES: Final[dict[str, Profile]] = {
    "application/senml+json": "senml",
    STRUCTURED: "cloudevents",
    "application/cloudevents-batch+json": "cloudevents",
}


def type_fault(content_type: str) -> str | None:
    """Why a body of that type is not looked at, as a sentence; None where it may be."""
    if _OTHERS.fullmatch(content_type) is None:
        return None
    return (
        f"{content_type:.60} is not read here: JSON is, {_LINES[0]}, {MSGPACK[0]} and"
        f" {', '.join(PROFILES)}."
    )


class BodyMessages(NamedTuple):
    """Messages in their order, some at a time: a mebibyte of lines, each a text of its own, would
    take as much again as the body.
    """

    some: Iterable[Sequence[str | bytes]]
    is_single: bool


def one_message(content_type: str, body: bytes) -> str | bytes | None:
    """The message, where it is a single one and means itself; None otherwise."""
    if content_type in MSGPACK:
        return body
    if content_type in PROFILES or b"\n" in body.rstrip():
        return None
    try:
        return text_of(body)
    except UnicodeDecodeError:
        return None


def messages_of(content_type: str, body: bytes, lines_max: int) -> BodyMessages:
    """The messages in a body, by its type; where that says nothing, by what it looks like.

    Raises:
        ProtocolError: no UTF-8, or more lines than a message may have records: each is read by
            itself, and a mebibyte of the shortest would take half a minute.
    """
    if content_type in MSGPACK:
        return BodyMessages([[body]], is_single=True)
    # Windows' shells write one, and JSON allows to pass over it (RFC 8259, 8.1).
    body = body.removeprefix(BOM_UTF8)
    bare = body.strip()
    first_end = bare.find(b"\n")
    if first_end < 0 or not (content_type in _LINES or json_fault(bare[:first_end]) is None):
        try:
            return BodyMessages([[text_of(body)]], is_single=True)
        except UnicodeDecodeError as error:
            at = f"byte {error.start} is no UTF-8"
            told = f"expected JSON, or msgpack with Content-Type: {MSGPACK[0]}; {at}"
            raise ProtocolError("undecodable", told) from None
    if body.count(b"\n") > lines_max:
        told = f"a body has at most {lines_max} lines (limits.batch_records)"
        raise TooBigMessage(told)
    return BodyMessages(_lines(body), is_single=False)


def _lines(body: bytes) -> Iterator[list[str | bytes]]:
    """The lines of a text, those of a piece of it together."""
    begin, length = 0, len(body)
    while begin < length:
        end = length
        if end - begin > _PIECE_BYTES:
            end = body.rfind(b"\n", begin, begin + _PIECE_BYTES) + 1 or body.find(b"\n", begin) + 1
        if some := [line for line in _split(body[begin : end or length]) if line.strip()]:
            yield some
        begin = end or length


def _split(piece: bytes) -> Sequence[str | bytes]:
    """Its lines. What is no UTF-8 is the fault of its line alone, which stays the bytes that it is:
    no decoder takes them for text.
    """
    try:
        text = text_of(piece)
    except UnicodeDecodeError:
        return list(map(_text_of_line, piece.split(b"\n")))
    # Nothing else ends a line: JSON may have U+2028 in its text as it is. What is too long to be a
    # piece is a single one.
    return text.split("\n") if isinstance(text, str) else [text]


def _text_of_line(line: bytes) -> str | bytes:
    try:
        return text_of(line)
    except UnicodeDecodeError:
        return LongText(line)


def structured(event: Mapping[str, str], content_type: str, body: bytes) -> tuple[str, bytes]:
    """Type and body. Those of a CloudEvent in binary mode, whose attributes are headers (``event``)
    and whose data is the body, are those that it has in structured mode, as one JSON object
    (CloudEvents' HTTP binding, 3.1); all others stay.

    Raises:
        ProtocolError: it says that it is JSON, and is not.
    """
    if not event or content_type in PROFILES:
        return content_type, body
    told: dict[str, object] = {
        name: value for name, value in event.items() if name not in ("data", "data_base64")
    }
    if content_type in ("", "application/json") or content_type.endswith("+json"):
        body = body.removeprefix(BOM_UTF8)
        if body and (fault := json_fault(body)) is not None:
            reason = f"the event's data is not JSON, as Content-Type says: {fault}"
            raise ProtocolError("undecodable", reason)
        if body:
            told["data"] = msgspec.Raw(body)
    elif content_type.startswith("text/") and (text := _as_text(body)) is not None:
        told["data"] = text
    else:
        told["data_base64"] = base64.b64encode(body).decode()
    return STRUCTURED, msgspec.json.encode(told)


def _as_text(body: bytes) -> str | None:
    """None: it is in another encoding than UTF-8, and kept as it is."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
