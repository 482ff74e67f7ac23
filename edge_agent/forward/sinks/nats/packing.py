"""This module packs the records of a batch into messages: several in each, in order. Pure.

A message has consecutive records, at most ``message_records`` and about ``message_bytes`` of them,
as the body of an HTTP upstream has them (lines of JSON, or an array). Where the subject names the
stream, a message ends where the stream changes. Any cut is as good as another: what the stream has
of a log is a number of the log (``jetstream.py``), not of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import NamedTuple

from edge_agent.config import Format, NatsTable, Upstream
from edge_agent.errors import SinkRefused
from edge_agent.forward.sinks.http.body import RenderedRecord, encode_body


class PackedMessage(NamedTuple):
    """Records ``first`` to ``last`` of the log. ``upto``: with it the stream has everything up to
    there; that is ``last``, but where records of a thinned block share a number over two messages.
    """

    subject: str
    payload: bytes
    first: int
    last: int
    upto: int


@dataclass(slots=True)
class PackedBatch:
    """The messages, and by its seq each record that is too large for any, with a sentence."""

    messages: list[PackedMessage] = field(default_factory=list)
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
    records: Sequence[RenderedRecord],
    subjects: Subjects,
    upstream: Upstream,
    table: NatsTable,
    most_bytes: int,
) -> PackedBatch:
    """The messages of ``records``; none is larger than ``most_bytes``.

    Raises:
        SinkRefused: one of them cannot be written so; which one is not known.
    """
    packed = PackedBatch()
    wanted = min(int(table.message_bytes), most_bytes)
    runs: Iterator[tuple[str, Sequence[RenderedRecord]]]
    if subjects.by_stream:
        runs = ((s, list(some)) for s, some in groupby(records, lambda one: one.stream))
    else:
        runs = iter([("", records)])
    for stream, run in runs:
        subject = subjects.of(stream)
        for start in range(0, len(run), table.message_records):
            part = run[start : start + table.message_records]
            _pack_part(packed, part, subject, upstream.format, wanted, most_bytes)
    for n, (one, following) in enumerate(pairwise(packed.messages)):
        if following.first <= one.last:
            packed.messages[n] = one._replace(upto=one.last - 1)
    return packed


def _pack_part(
    packed: PackedBatch,
    part: Sequence[RenderedRecord],
    subject: str,
    how: Format,
    wanted: int,
    most: int,
) -> None:
    try:
        payload = encode_body(part, how, "none")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SinkRefused(f"cannot be written as {how}: {error}") from error
    if len(payload) <= wanted or (len(part) == 1 and len(payload) <= most):
        first, last = part[0].seq, part[-1].seq
        packed.messages.append(PackedMessage(subject, payload, first, last, last))
    elif len(part) == 1:
        packed.refused[part[0].seq] = (
            f"too large for a message: {len(payload)} bytes, and {most} fit"
        )
    else:
        middle = len(part) // 2
        for half in (part[:middle], part[middle:]):
            _pack_part(packed, half, subject, how, wanted, most)
