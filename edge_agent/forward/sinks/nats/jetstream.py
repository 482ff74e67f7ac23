"""Requests to JetStream and its answers: streams, acknowledgements, positions. Pure.

Each message of ours says where its log stands with it, in a header::

    Edge-Agent-Position: EPOCH LOG MOVES UPTO [RESENT UPTO]

so that the last message under a log's subject tells what the stream has of it, whatever else was
lost: `position_of` reads that. ``MOVES`` counts how often a person moved the floor, as what is sent
again by order must not be taken for what is there. ``RESENT`` is the newest order that something
was sent once more for (`edge_agent.forward.lanes.resend`), and how far that one has come.

A message that came in a fast batch has the name of that in a header, too (`BATCH`). What is asked
of a fast batch stands where the answer is to go (NATS' ADR-50, "fast ingest")::

    INBOX.NAME.FLOW.fail.NUMBER.OPERATION.$FI

Its messages are stored as they come. ``fail`` ends it where one is missing or refused, so that what
is stored of it has no hole.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from edge_agent.config import NatsTable
from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.nats.protocol import NatsMessage
from edge_agent.output.printable import printable
from edge_agent.session import History, has_forked
from edge_agent.store import OPENINGS_MAX, Identity

_T = TypeVar("_T")
#: How messages that belong together are published; see `ways_of`.
Way = Literal["fast", "atomic", "chained"]
POSITION: Final = "Edge-Agent-Position"
OPENING: Final = "Edge-Agent-Opening"
BATCH: Final = "Edge-Agent-Batch"
NO_MESSAGE: Final = 10037
NO_STREAM: Final = 10059
#: Somebody, perhaps we over an earlier connection, has published under the subject meanwhile.
WRONG_LAST: Final = 10071
#: Something else came into the stream behind the message that was to be the last one.
WRONG_LAST_ID: Final = 10070
#: The server knows nothing of the fast batch, or no more: it was started anew, or waited too long.
UNKNOWN_BATCH: Final = 10208
#: The stream, or the server, takes no batches of this kind, or not this one.
NO_BATCH: Final = frozenset(
    (10174, 10175, 10176, 10177, 10179, 10199, 10200, 10201, 10205, 10206, 10207, 10211)
)
_FAST_SINCE: Final = [2, 14]
#: Above the number of any message of ours.
_BEYOND: Final = 1_000_000
_TOO_BIG: Final = 10054
_BUSY: Final = frozenset((10167, 10210))
#: Of a person's making: no JetStream for this account, a stream that is none of ours to change.
_FOR_A_PERSON: Final = frozenset((10035, 10039, 10052, 10058, 10065, 10076, 10109))


class ApiError(msgspec.Struct, frozen=True):
    """What JetStream refuses for."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct, frozen=True):
    """Whether a message, or with it its batch, is stored, and under which number; ``count``
    messages of a batch.
    """

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    batch: str = ""
    count: int = 0
    error: ApiError | None = None


class PublishOutcome(NamedTuple):
    """How many of the messages that were published together are in the stream, from the first; the
    number of the last of them, 0 where that is not known; and why the next one is not.
    """

    stored: int
    seq: int = 0
    stream: str = ""
    error: ApiError | None = None


class StreamConfig(msgspec.Struct, frozen=True):
    """Of a stream, as far as we care."""

    subjects: list[str] = []
    max_msg_size: int = -1
    num_replicas: int = 1
    allow_atomic: bool = False
    allow_batched: bool = False


class StreamAnswer(msgspec.Struct, frozen=True):
    """To a question about a stream."""

    config: StreamConfig = StreamConfig()
    error: ApiError | None = None


class _Stored(msgspec.Struct, frozen=True):
    subject: str = ""
    seq: int = 0
    hdrs: str = ""


class _MessageAnswer(msgspec.Struct, frozen=True):
    message: _Stored = _Stored()
    error: ApiError | None = None


class InStream(NamedTuple):
    """What a stream has of a log: the number of the last message under its subject, 0 for none, and
    what that one says of the log; ``batch`` is the fast one that it came with, and ``opening`` that
    of the store which ``upto`` is of, "" where it was not told.
    """

    seq: int = 0
    epoch: str = ""
    log: str = ""
    moves: int = 0
    upto: int = 0
    resent: int = 0
    resent_upto: int = 0
    subject: str = ""
    batch: str = ""
    opening: str = ""

    def headers(self) -> list[tuple[str, str]]:
        """As the next message says it."""
        resent = f" {self.resent} {self.resent_upto}" if self.resent else ""
        position = (POSITION, f"{self.epoch} {self.log} {self.moves} {self.upto}{resent}")
        return [position, (OPENING, self.opening)] if self.opening else [position]


def stream_to_make(table: NatsTable, subjects: list[str], version: str) -> bytes:
    """The question that makes a stream; a server of another ``version`` refuses what it does not
    know.
    """
    wanted: dict[str, Any] = {
        "name": table.stream,
        "subjects": subjects,
        "storage": table.storage,
        "num_replicas": table.replicas,
        "allow_atomic": True,
        "allow_direct": True,
    }
    if _numbers(version) >= _FAST_SINCE:
        wanted["allow_batched"] = True
    if table.max_bytes is not None:
        wanted["max_bytes"] = int(table.max_bytes)
    if table.max_age is not None:
        wanted["max_age"] = int(table.max_age * 1_000_000_000)
    return msgspec.json.encode(wanted)


def ways_of(config: StreamConfig) -> list[Way]:
    """How messages may be published into a stream, the best first.

    A fast batch costs a server half of what an atomic one does, where it keeps the only copy: that
    it stages on its disk first. With replicas there is little between them, and what is known of a
    fast batch may differ from one leader to the next; an atomic one is stored, or is not.
    """
    fast = config.allow_batched and config.num_replicas == 1
    offered: dict[Way, bool] = {"fast": fast, "atomic": config.allow_atomic, "chained": True}
    return [way for way, is_offered in offered.items() if is_offered]


def fast_reply(inbox: bytes, number: int, *, is_last: bool) -> bytes:
    """Where answers to a message of a fast batch go; ``inbox`` ends with the batch's name.

    The most seldom acknowledgements are asked for, and not waited for: what we have under way is no
    more than one of our batches.
    """
    operation = 2 if is_last else int(number > 1)
    return b"%s.500.fail.%d.%d.$FI" % (inbox, number, operation)


def in_batch(
    way: Way, reply: bytes, number: int, *, is_last: bool
) -> tuple[list[tuple[str, str]], bytes]:
    """What a message of a batch has more, and where its answer goes."""
    name = reply.rpartition(b".")[2].decode()
    if way == "fast":
        return [(BATCH, name)], fast_reply(reply, number, is_last=is_last)
    headers = [("Nats-Batch-Id", name), ("Nats-Batch-Sequence", f"{number}")]
    return headers + [("Nats-Batch-Commit", "1")] * is_last, reply * is_last


def fast_end(inbox: bytes, batch: bytes) -> bytes:
    """The same for a word that is not stored and ends a batch as it is, or learns that there is no
    such: it asks for messages that are still to come, so that some are missing.
    """
    return b"%s.%s.500.fail.%d.4.$FI" % (inbox, batch, _BEYOND)


def is_final(message: NatsMessage) -> bool:
    """Whether an answer is more than a word of a fast batch's flow."""
    return not message.payload.startswith(b'{"type":')


def outcome_of(acks: Sequence[PubAck], count: int) -> PublishOutcome:
    """What the answers to ``count`` messages say: one for each, or one for a batch."""
    known, seq, stream = 0, 0, ""
    for ack in acks:
        if ack.error is not None:
            # Behind a message that is refused each other one is, for that reason alone.
            return PublishOutcome(known, seq, stream, ack.error)
        # A fast batch may have ended before its end: why, the next one is told.
        known += min(ack.count, count) if ack.batch else count // len(acks)
        # A duplicate's number is not the last one's: whoever took that away was quicker.
        seq, stream = seq if ack.duplicate else ack.seq, ack.stream
    return PublishOutcome(known, seq, stream)


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
        text = f"no stream takes {subject} at this moment: see nats.subject, and its subjects there"
        raise SinkUnavailable(text, obstacle="there")
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
    fields = dict(line.partition(":")[::2] for line in headers.split("\r\n"))
    parts = fields.get(POSITION, "").split()
    # They become part of a subject and of our headers, and may be anybody's.
    told = (fields.get(name, "").strip() for name in (BATCH, OPENING))
    batch, opening = (text if text.isascii() and text.isalnum() else "" for text in told)
    there = InStream(answer.message.seq, subject=answer.message.subject, batch=batch)
    if len(parts) not in (4, 6) or not all(map(_is_number, parts[2:])):
        return there
    moves, upto, resent, resent_upto = [*map(int, parts[2:]), 0, 0][:4]
    there = there._replace(resent=resent, resent_upto=resent_upto, opening=opening)
    return there._replace(epoch=parts[0], log=parts[1], moves=moves, upto=upto)


def is_of_another(there: InStream, ours: Identity, log: str, floor: int) -> bool:
    """Whether what the stream has was sent by another history of this store, of which we have been
    acknowledged everything up to ``floor``: it is a copy, or was set back.

    A hub that does not find an opening among ours may take it for another's. A stream is asked
    after years, too, and by upstreams that are made anew: an opening that came no further than the
    oldest one that we remember may be one that we have forgotten.
    """
    ends = ours.ends.get(log, ())
    if len(ends) + 1 >= OPENINGS_MAX and there.upto <= ends[0][1]:
        return False
    before = tuple((opening, last + 1) for opening, last in ends)
    history = History(ours.opening, floor + 1, before)
    return has_forked(history, there.upto + 1, there.opening)


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


def _numbers(version: str) -> list[int]:
    """Of its beginning."""
    return [int(part) if _is_number(part) else 0 for part in version.split(".")[:2]]


def _read(message: NatsMessage, kind: type[_T]) -> _T:
    if message.status == 503:
        text = "this server has no JetStream, or not for us (or no leader at this moment)"
        raise SinkUnavailable(text, obstacle="there")
    try:
        return msgspec.json.decode(message.payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        shown = printable(message.payload[:80].decode("utf-8", "replace"))
        raise SinkUnavailable(f"no answer of JetStream's: {shown}", obstacle="there") from None
