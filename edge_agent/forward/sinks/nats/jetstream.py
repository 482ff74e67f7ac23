"""What is asked of JetStream and what it answers: streams, acknowledgements, positions. Pure.

Each message of ours says where its log stands with it, in a header::

    Edge-Agent-Position: EPOCH LOG MOVES UPTO [RESENT UPTO]

so that the last message under a log's subject tells what the stream has of it, whatever else was
lost: `position_of` reads that. ``MOVES`` counts how often a person moved the floor, as what is sent
again by order must not be taken for what is there. ``RESENT`` is the newest order that something
was sent once more for (`edge_agent.forward.resend`), and how far that one has come.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from edge_agent.config import NatsTable
from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.nats.protocol import NatsMessage
from edge_agent.printable import printable

_T = TypeVar("_T")
POSITION: Final = "Edge-Agent-Position"
NO_MESSAGE: Final = 10037
NO_STREAM: Final = 10059
#: Somebody, perhaps we over an earlier connection, has published under the subject meanwhile.
WRONG_LAST: Final = 10071
#: The stream, or the server, takes no atomic batches, or not this one.
NOT_ATOMIC: Final = frozenset((10174, 10175, 10176, 10177, 10179, 10199, 10200, 10201))
_TOO_BIG: Final = 10054
_BUSY: Final = frozenset((10210, 10211))
#: Of a person's making: no JetStream for this account, a stream that is none of ours to change.
_FOR_A_PERSON: Final = frozenset((10035, 10039, 10052, 10058, 10065, 10076, 10109))


class ApiError(msgspec.Struct, frozen=True):
    """What JetStream refuses for."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct, frozen=True):
    """Whether a message, or with it all of its batch, is stored, and under which number."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class StreamConfig(msgspec.Struct, frozen=True):
    """Of a stream, as far as we care."""

    subjects: list[str] = []
    max_msg_size: int = -1
    allow_atomic: bool = False


class StreamAnswer(msgspec.Struct, frozen=True):
    """To a question about a stream."""

    config: StreamConfig = StreamConfig()
    error: ApiError | None = None


class _Stored(msgspec.Struct, frozen=True):
    seq: int = 0
    hdrs: str = ""


class _MessageAnswer(msgspec.Struct, frozen=True):
    message: _Stored = _Stored()
    error: ApiError | None = None


class InStream(NamedTuple):
    """What a stream has of a log: the number of the last message under its subject, 0 for none, and
    what that one says of the log.
    """

    seq: int = 0
    epoch: str = ""
    log: str = ""
    moves: int = 0
    upto: int = 0
    resent: int = 0
    resent_upto: int = 0

    def header(self) -> str:
        """As the next message says it."""
        resent = f" {self.resent} {self.resent_upto}" if self.resent else ""
        return f"{self.epoch} {self.log} {self.moves} {self.upto}{resent}"


def stream_to_make(table: NatsTable, subjects: list[str]) -> bytes:
    """The question that makes a stream."""
    wanted: dict[str, Any] = {
        "name": table.stream,
        "subjects": subjects,
        "storage": table.storage,
        "num_replicas": table.replicas,
        "allow_atomic": True,
        "allow_direct": True,
    }
    if table.max_bytes is not None:
        wanted["max_bytes"] = int(table.max_bytes)
    if table.max_age is not None:
        wanted["max_age"] = int(table.max_age * 1_000_000_000)
    return msgspec.json.encode(wanted)


def stream_of(message: NatsMessage) -> StreamAnswer:
    """The answer to a question about a stream.

    Raises:
        SinkUnavailable: it is none.
    """
    return _read(message, StreamAnswer)


def ack_of(message: NatsMessage, subject: str) -> PubAck:
    """The answer to what was published.

    Raises:
        SinkUnavailable: no stream takes ``subject``, or it is no answer of JetStream's.
    """
    if message.status == 503:
        # Also while a cluster chooses who leads the stream, which is over in seconds.
        raise SinkUnavailable(f"no stream takes {subject} at this moment", obstacle="there")
    return _read(message, PubAck)


def position_of(message: NatsMessage) -> InStream:
    """What the stream has, from the answer to ``last_by_subj``.

    Raises:
        SinkUnavailable: it is none.
    """
    answer = _read(message, _MessageAnswer)
    if answer.error is not None:
        if answer.error.err_code == NO_MESSAGE:
            return InStream()
        raise refusal_of(answer.error)
    try:
        headers = b64decode(answer.message.hdrs, validate=True).decode("utf-8", "replace")
    except ValueError:
        headers = ""
    for line in headers.split("\r\n"):
        name, _, value = line.partition(":")
        parts = value.split()
        if name == POSITION and len(parts) in (4, 6) and all(map(_is_number, parts[2:])):
            return InStream(answer.message.seq, parts[0], parts[1], *map(int, parts[2:]))
    return InStream(answer.message.seq)


def refusal_of(error: ApiError) -> SinkError:
    """What to raise for it."""
    said = f"JetStream says: {printable(error.description[:300])} ({error.err_code})"
    if error.err_code == _TOO_BIG:
        return SinkRefused(said, "too_big")
    slow = error.err_code in _FOR_A_PERSON
    wait = 1.0 if error.err_code in _BUSY else None
    return SinkUnavailable(said, slow=slow, retry_after=wait, obstacle="there")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _read(message: NatsMessage, kind: type[_T]) -> _T:
    if message.status == 503:
        text = "this server has no JetStream, or not for us (or no leader at this moment)"
        raise SinkUnavailable(text, obstacle="there")
    try:
        return msgspec.json.decode(message.payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        shown = printable(message.payload[:80].decode("utf-8", "replace"))
        raise SinkUnavailable(f"no answer of JetStream's: {shown}", obstacle="there") from None
