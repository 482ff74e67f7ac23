"""The InfluxDB sink is the HTTP sink with lines for a body and a judge that knows such servers.

Delivery: InfluxDB knows a point by its series and time, and with ``unique_times`` no two records
share them, so what comes again is there once. VictoriaMetrics keeps what comes again twice, unless
it runs with ``-dedup.minScrapeInterval``.

A batch goes out in parts, one POST each: while the server works on one, the next is rendered. It is
acknowledged when all of them are; those that arrived before one failed come again and change
nothing.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

import trio
from msgspec import structs

from edge_agent.config import PRECISIONS, InfluxTable
from edge_agent.errors import SinkError, SinkRefused
from edge_agent.forward.credentials import Credentials
from edge_agent.forward.probing import ProbeStep
from edge_agent.forward.run_columns import RunColumns, columns_in, gathered
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, SinkParts
from edge_agent.forward.sinks.http.answer import HttpAnswer
from edge_agent.forward.sinks.http.sink import HttpSink, probe_with, without
from edge_agent.forward.sinks.influx.answer import judge_lines, named_by
from edge_agent.forward.sinks.influx.lines import LineRenderer, Lines
from edge_agent.values.record import Record

logger = logging.getLogger(__name__)

#: Records of a part. Nothing is being sent while the first one is rendered, so it is small.
_FIRST_RECORDS: Final = 1000
_PART_RECORDS: Final = 3000
#: A quarter of the time of 6 (0.6 µs a record), and a quarter more bytes: for a link with a cap it
#: is 6.
_GZIP_LEVEL: Final = 1
_SAVING_GZIP_LEVEL: Final = 6


class LinesPart(NamedTuple):
    """Some records of a batch, rendered."""

    slices: Sequence[RunColumns]
    lines: Lines
    body: bytes


@dataclass(slots=True)
class _SoFar:
    """What became of the parts of a batch; ``refused`` are seqs with their reasons, by an answer
    of ``refused_by``.
    """

    taken: int = 0
    size: int = 0
    dropped: int = 0
    reason: str = ""
    status: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    refused_by: int = 0


class InfluxSink(HttpSink):
    """One log's lines to one database; the arguments are those of `HttpSink`."""

    def __init__(self, parts: SinkParts) -> None:
        super().__init__(parts)
        self._table = self._upstream.influx or InfluxTable()
        self._unit_ns = unit_ns(self._upstream.url)
        self._lines = LineRenderer(self._table, self._identity.agent_id, self._unit_ns)
        self._warned = False

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """As for every HTTP upstream; our id may be another one from now on."""
        resumed = await super().open(nursery, resume)
        if self._table.victoria and resume.part == "live" and not self._warned:
            self._warn(
                "VictoriaMetrics keeps twice what is sent twice after a cut, unless it runs with"
                " -dedup.minScrapeInterval=1ms"
            )
        self._lines = LineRenderer(self._table, self._identity.agent_id, self._unit_ns)
        return resumed

    async def try_out(self, record: Record) -> HttpAnswer:
        """As for every HTTP upstream; the line has a number, which is what every database takes."""
        numbered = structs.replace(record, fields=record.fields | {"probe": 1.0})
        try:
            part = await self._run_blocking(self._rendered, [RunColumns.of(numbered)], False)
            credentials = await self._run_blocking(self._files.read)
            key = f"{self._identity.epoch}/probe/{record.time_ns}"
            headers = self._headers(key, credentials, plain=False)
            answer = await self._post(part.body, headers, credentials, 1)
            answer = without(answer, credentials.secrets)
            wall_ns, accept = self._clock.read().wall_ns, self._upstream.accept
            verdict = judge_lines(answer, key, wall_ns, accept)
        finally:
            await self.aclose()
        if verdict.problem is not None:
            raise verdict.problem
        if verdict.dropped:
            raise SinkRefused(verdict.reason)
        return answer

    async def _send(self, batch: Batch) -> Acknowledged:
        parts, so_far = self._parts(batch), _SoFar()
        credentials = await self._run_blocking(self._files.read)
        part = await self._run_blocking(next, parts, None)
        while part is not None:
            following: list[LinesPart | None] = []
            failure: SinkError | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._render_next, parts, following)
                failure = await self._tried(batch, part, credentials, so_far)
            try:
                if failure is not None:
                    raise failure
            finally:
                del failure  # Its traceback holds this frame, which must not hold it.
            part = following[0]
        if so_far.refused:
            reason = next(iter(so_far.refused.values()))
            status = so_far.refused_by
            refusal = SinkRefused(reason, records=so_far.refused)
            raise self._placed(refusal, status, so_far.size)
        return Acknowledged(
            batch.last,
            so_far.taken,
            so_far.size,
            so_far.dropped,
            so_far.reason,
            status=so_far.status,
        )

    def _parts(self, batch: Batch) -> Iterator[LinesPart]:
        """Rendered one by one as they are asked for, each in a thread: that blocks."""
        for some in gathered(columns_in(batch, self._matches), _FIRST_RECORDS, _PART_RECORDS):
            yield self._rendered(some, batch.plain)

    def _rendered(self, slices: Sequence[RunColumns], plain: bool) -> LinesPart:
        lines = self._lines.render(slices)
        body = "\n".join(lines.lines).encode()
        if self._upstream.compression == "gzip" and not plain:
            level = _SAVING_GZIP_LEVEL if self._upstream.saves_bytes else _GZIP_LEVEL
            body = gzip.compress(body, level, mtime=0)
        return LinesPart(slices, lines, body)

    def _without(self, part: LinesPart, named: Container[int], plain: bool) -> LinesPart:
        records = (record for one in part.slices for record in one.records())
        others = [RunColumns.of(record) for record in records if record.seq not in named]
        return self._rendered(others, plain)

    async def _render_next(self, parts: Iterator[LinesPart], into: list[LinesPart | None]) -> None:
        into.append(await self._run_blocking(next, parts, None))

    async def _tried(
        self, batch: Batch, part: LinesPart, credentials: Credentials, so_far: _SoFar
    ) -> SinkError | None:
        """Post the part, and add to ``so_far`` what came of it; or why nothing goes on."""
        try:
            return await self._post_part(batch, part, credentials, so_far)
        except SinkError as error:
            return error

    async def _post_part(
        self, batch: Batch, part: LinesPart, credentials: Credentials, so_far: _SoFar
    ) -> SinkError | None:
        if unsaid := part.lines.unsaid:
            what = "number" if self._table.victoria else "number, text, true or false"
            so_far.reason = (
                f"record {unsaid[0]} has no field that is a {what}, or joined names that are too"
                " long: left out"
            )
            so_far.dropped += len(unsaid)
        while part.lines.lines:
            first, last = part.slices[0].seq, part.slices[-1].last
            key = f"{self._identity.epoch}/{batch.log}/{first}-{last}{batch.variant}"
            headers = self._headers(key, credentials, plain=batch.plain)
            records = sum(len(one.fields) for one in part.slices)
            answer = await self._post(part.body, headers, credentials, records)
            answer = without(answer, credentials.secrets)
            wall_ns, accept = self._clock.read().wall_ns, self._upstream.accept
            verdict = judge_lines(answer, key, wall_ns, accept)
            so_far.status, so_far.size = answer.status, so_far.size + len(part.body)
            if verdict.problem is None:
                so_far.taken += max(len(part.lines.lines) - verdict.dropped, 0)
                so_far.dropped += verdict.dropped
                so_far.reason = verdict.reason or so_far.reason
                self._look_for_victoria(answer)
                return None
            named = await self._run_blocking(named_by, answer, part.slices, self._lines)
            if not named:
                return self._placed(verdict.problem, answer.status, len(part.body))
            so_far.refused |= named
            so_far.refused_by = answer.status
            # Once more without them: it names one field of several, and one shard's.
            part = await self._run_blocking(self._without, part, named, batch.plain)
        return None

    def _placed(self, problem: SinkError, status: int, size: int) -> SinkError:
        problem.status, problem.sent_bytes, problem.obstacle = status, size, "there"
        return problem

    def _look_for_victoria(self, answer: HttpAnswer) -> None:
        if "x-server-hostname" in answer.headers and not (self._table.victoria or self._warned):
            self._warn("this is VictoriaMetrics, where text becomes 0: set influx.victoria = true")

    def _warn(self, text: str) -> None:
        self._warned = True
        logger.warning("upstream %s: %s", self._upstream.name, text)


def unit_ns(url: str) -> int:
    """What times are written in, as the URL's ``precision`` says; nanoseconds without one."""
    given = parse_qs(urlsplit(url).query).get("precision", ["ns"])[-1]
    return PRECISIONS.get(given, 1)


def make(parts: SinkParts) -> InfluxSink:
    """The sink of an ``http`` or ``https`` upstream with ``format = "line"``."""
    return InfluxSink(parts)


async def probe(parts: SinkParts, size: int) -> list[ProbeStep]:
    """Write a point of about ``size`` bytes, made for this, and say what came back."""
    return await probe_with(make(parts), parts, size)
