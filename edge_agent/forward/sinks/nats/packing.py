"""This module packs the records of a batch into messages: several in each, in order. Pure.

A message has consecutive records, at most ``message_records`` and about ``message_bytes`` of them,
as the body of an HTTP upstream has them (lines of JSON, or an array). Where the subject names the
stream, a message ends where the stream changes. Any cut is as good as another: what the stream has
of a log is a number of the log (``jetstream.py``), not of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple

from edge_agent.config import Format, NatsTable, Upstream
from edge_agent.forward.sinks.http.body import joined
from edge_agent.forward.sinks.http.encoded_runs import EncodedRun

#: So many are packed at a time: some milliseconds, after which the first can go.
PART_MESSAGES: Final = 20


class PackedMessage(NamedTuple):
    """Records ``first`` to ``last`` of the log; with it the stream has everything up to there."""

    subject: str
    payload: bytes
    first: int
    last: int


@dataclass(slots=True)
class PackedPart:
    """Some messages, how many records there are, and by its seq each of them that is too large for
    any, with a sentence.
    """

    messages: list[PackedMessage] = field(default_factory=list)
    records: int = 0
    refused: dict[int, str] = field(default_factory=dict)


class Subjects:
    """What the subject template says for one agent and one log."""

    def __init__(self, template: str, agent: str, log: str) -> None:
        self._template = template.replace("{agent}", agent).replace("{log}", token(log))
        #: Whether records of different streams have different ones.
        self.by_stream = "{stream}" in template
        #: The one under which the log's last message is found.
        self.filter = self._template.replace("{stream}", ">")
        self._known: dict[str, str] = {}

    def of(self, stream: str) -> str:
        """Of a record in ``stream``."""
        if not self.by_stream:
            return self._template
        subject = self._known.get(stream)
        if subject is None:
            name = ".".join(token(part) for part in stream.split("/"))
            subject = self._known[stream] = self._template.replace("{stream}", name)
        return subject


def stream_subjects(template: str) -> list[str]:
    """What a stream has to take for every agent and log."""
    any_one = template.replace("{agent}", "*").replace("{log}", "*")
    return [any_one.replace("{stream}", ">")]


def takes(subjects: Iterable[str], wanted: str) -> bool:
    """Whether a stream of ``subjects`` takes all that ``wanted`` stands for, which may end with
    ``>``.
    """
    return any(_covers(one.split("."), wanted.split(".")) for one in subjects)


def _covers(pattern: Sequence[str], wanted: Sequence[str]) -> bool:
    for at, part in enumerate(pattern):
        if part == ">":
            return at < len(wanted)
        if at >= len(wanted) or wanted[at] == ">" or part not in ("*", wanted[at]):
            return False
    return len(pattern) == len(wanted)


def token(text: str) -> str:
    """``text`` as one part of a subject: what has a meaning there becomes ``_``."""
    return "".join("_" if one in ".*> " or not one.isprintable() else one for one in text)


def pack(
    runs: Iterable[EncodedRun],
    subjects: Subjects,
    upstream: Upstream,
    table: NatsTable,
    most_bytes: int,
    has: int = 0,
) -> Iterator[PackedPart]:
    """The messages of the records of ``runs``, some at a time; none is larger than ``most_bytes``.

    The stream ``has`` all up to that number, but for records that are too large: those are refused
    each time, as what was said of them may not have been heard.

    Raises:
        SinkRefused: as ``runs`` do.
    """
    packed = PackedPart()
    wanted, most = min(int(table.message_bytes), most_bytes), table.message_records
    for stream, some in groupby(runs, lambda run: run.stream if subjects.by_stream else ""):
        subject = subjects.of(stream)
        seqs: list[int] = []
        texts: list[bytes] = []
        for run in some:
            known = min(max(has + 1 - run.first, 0), len(run.texts))
            for seq, text in zip(run.seqs, run.texts[:known], strict=False):
                if (size := len(joined([text], upstream.format))) > most_bytes:
                    _refuse(packed, seq, size, most_bytes)
            seqs += run.seqs[known:]
            texts += run.texts[known:]
            while len(texts) >= most:
                first = seqs[:most], texts[:most]
                _pack_message(packed, *first, subject, upstream.format, wanted, most_bytes)
                del seqs[:most], texts[:most]
                if len(packed.messages) >= PART_MESSAGES:
                    yield packed
                    packed = PackedPart()
        if texts:
            _pack_message(packed, seqs, texts, subject, upstream.format, wanted, most_bytes)
        if len(packed.messages) >= PART_MESSAGES:
            yield packed
            packed = PackedPart()
    yield packed


def _refuse(packed: PackedPart, seq: int, size: int, most: int) -> None:
    packed.records += 1
    packed.refused[seq] = f"too large for a message: {size} bytes, and {most} fit"


def _pack_message(
    packed: PackedPart,
    seqs: Sequence[int],
    texts: Sequence[bytes],
    subject: str,
    how: Format,
    wanted: int,
    most: int,
) -> None:
    """One message, or several where one would be too large."""
    payload = joined(texts, how)
    if len(payload) <= wanted or (len(texts) == 1 and len(payload) <= most):
        packed.records += len(texts)
        packed.messages.append(PackedMessage(subject, payload, seqs[0], seqs[-1]))
    elif len(texts) == 1:
        _refuse(packed, seqs[0], len(payload), most)
    else:
        middle = len(texts) // 2
        for half in (slice(middle), slice(middle, None)):
            _pack_message(packed, seqs[half], texts[half], subject, how, wanted, most)
