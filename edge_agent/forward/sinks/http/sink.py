"""The HTTP sink sends one POST for each batch, which is known by its ``Idempotency-Key``.

::

    POST PATH HTTP/1.1                        (or PUT)
    Content-Type: application/x-ndjson        (or application/json, application/msgpack, or another)
    Content-Encoding: gzip                    (or zstd, or none)
    Idempotency-Key: EPOCH/LOG/FIRST-LAST     (and /thinned-N where N of them gave way,
                                              /moved-N where a person moved the floor N times)
    Authorization: Bearer TOKEN

Delivery is at least once. The key's range is durable before the first send (``batches/plan.py``)
and the bytes depend on nothing but the records, so a batch whose answer was lost comes again with
the same key and the same bytes; an upstream that knows keys drops it, and one that does not knows
each record by its ``id``. What counts as an answer is decided in ``answer.py``, how a record reads
in ``body.py``. A range without any record of the upstream's patterns is not sent at all.

Whatever an answer contains, and whatever else goes wrong on the way, ends in `SinkUnavailable` or
`SinkRefused`: no upstream can bring the agent down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import trio

from edge_agent import __version__
from edge_agent.config import HttpTable
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.credentials import CredentialFiles, Credentials
from edge_agent.forward.keyed_sink import KeyedSink
from edge_agent.forward.link.proxy import proxy_of, tunnelled
from edge_agent.forward.link.tls_clock import waits_for_clock
from edge_agent.forward.probing import PROBE_STREAM, ProbeStep, probe_by_sending
from edge_agent.forward.run_columns import UNSAYABLE
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Part, Resumed, SinkParts
from edge_agent.forward.sinks.http.answer import HttpAnswer, Sent, answer_bytes_max, judge
from edge_agent.forward.sinks.http.body import (
    CONTENT_TYPES,
    RenderedRecord,
    compressed,
    encode_each,
    joined,
    rendered,
)
from edge_agent.forward.sinks.http.connection import (
    CONNECTION_ERRORS,
    HttpClientConnection,
    open_connection,
    reason_of,
)
from edge_agent.forward.sinks.http.encoded_runs import encoded_runs
from edge_agent.forward.sinks.http.templates import Templates
from edge_agent.values.record import Record

#: A longer answer is judged in a thread: a result for each of 10,000 records takes a quarter of a
#: second.
_INLINE_BYTES = 16 * 1024
_NOTHING: Final = ((), b"", Credentials((), None, None, ()))


class HttpSink(KeyedSink):
    """One log's POSTs to one URL; see the module's docstring."""

    def __init__(self, parts: SinkParts) -> None:
        super().__init__(parts)
        upstream = parts.upstream
        self._files = CredentialFiles(upstream)
        self._form = upstream.http or HttpTable()
        self._templates = Templates.of(upstream.http, upstream.format)
        self._connection: HttpClientConnection | None = None
        self._part: Part = "live"

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """As most; which part of the log it is stands in a header."""
        self._part = resume.part
        return await super().open(nursery, resume)

    def _reason(self, error: Exception) -> str:
        return reason_of(error)

    async def try_out(self, record: Record) -> HttpAnswer:
        """POST one record that is in no log, under a key of its own; what was answered.

        Raises:
            SinkUnavailable, SinkRefused: as `send`.
        """
        key = f"{self._identity.epoch}/probe/{record.time_ns}"
        try:
            return await self._ask(*await self._run_blocking(self._made, [record]), key)
        finally:
            await self.aclose()

    async def _send(self, batch: Batch) -> Acknowledged:
        sent, body, credentials = await self._run_blocking(self._prepare, batch)
        if not sent:
            return Acknowledged(batch.last)
        key = f"{self._identity.epoch}/{batch.log}/{batch.first}-{batch.last}"
        key += batch.variant
        answer = await self._ask(sent, body, credentials, key, plain=batch.plain)
        return Acknowledged(batch.last, len(sent), len(body), status=answer.status)

    async def _ask(
        self,
        sent: Sequence[Sent],
        body: bytes,
        credentials: Credentials,
        key: str,
        *,
        plain: bool = False,
    ) -> HttpAnswer:
        """The answer to a body, where it is one that takes all of it."""
        headers = self._headers(key, credentials, plain=plain)
        answer = await self._post(body, headers, credentials, len(sent))
        answer = without(answer, credentials.secrets)
        wall_ns, accept = self._clock.read().wall_ns, self._upstream.accept
        if len(answer.body) > _INLINE_BYTES or "content-encoding" in answer.headers:
            problem = await self._run_blocking(judge, answer, key, wall_ns, accept, sent)
        else:
            problem = judge(answer, key, wall_ns, accept, sent)
        if problem is not None:
            problem.status, problem.sent_bytes = answer.status, len(body)
            problem.obstacle = "there"
            try:
                raise problem
            finally:
                # Its traceback holds this frame, which would hold it: a circle, and megabytes of an
                # answer in it, until somebody looks for circles.
                del answer, problem
        return answer

    def _prepare(self, batch: Batch) -> tuple[Sequence[Sent], bytes, Credentials]:
        """All that blocks, in one go to a thread."""
        if self._templates is not None:
            stored = list(batch.records(self._matches))
            return self._made(stored, plain=batch.plain) if stored else _NOTHING
        agent, epoch, how = self._identity.agent_id, self._identity.epoch, self._upstream.format
        sent: list[Sent] = []
        texts: list[bytes] = []
        for run in encoded_runs(batch, self._matches, agent, epoch, how):
            sent += map(Sent, run.seqs, run.ids)
            texts += run.texts
        if not sent:
            return _NOTHING
        body = self._compressed(joined(texts, how), plain=batch.plain)
        return sent, body, self._files.read()

    def _made(
        self, stored: Sequence[Record], plain: bool = False
    ) -> tuple[Sequence[Sent], bytes, Credentials]:
        credentials = self._files.read()
        agent, epoch = self._identity.agent_id, self._identity.epoch
        records = [rendered(record, agent, epoch) for record in stored]
        try:
            body = self._body(records, stored, plain=plain)
        except UNSAYABLE as error:
            # One of them cannot be said in this format; halving finds out which.
            raise SinkRefused(f"cannot be written as {self._upstream.format}: {error}") from error
        return [Sent(record.seq, record.id) for record in records], body, credentials

    def _body(
        self, records: Sequence[RenderedRecord], stored: Sequence[Record], *, plain: bool
    ) -> bytes:
        if self._templates is None:
            body = joined(encode_each(records, self._upstream.format), self._upstream.format)
        else:
            body = self._templates.body(records, [record.time_ns for record in stored])
        return self._compressed(body, plain=plain)

    def _compressed(self, body: bytes, *, plain: bool) -> bytes:
        compression = "none" if plain else self._upstream.compression
        return compressed(body, compression, saves=self._upstream.saves_bytes)

    @property
    def _content_type(self) -> str:
        own = None if self._templates is None else self._templates.content_type
        return self._form.content_type or own or CONTENT_TYPES[self._upstream.format]

    async def _post(
        self,
        body: bytes,
        headers: Sequence[tuple[str, str]],
        credentials: Credentials,
        records: int,
    ) -> HttpAnswer:
        answer: HttpAnswer | None = None
        failure: Exception | None = None
        connection: HttpClientConnection | None = None
        try:
            connection = await self._connected(credentials)
            timeout, most = self._upstream.timeout, answer_bytes_max(records, len(body))
            answer = await connection.post(headers, body, timeout, self._form.method, most)
        except (trio.TooSlowError, *CONNECTION_ERRORS) as error:
            failure = error
        if answer is not None:
            return answer
        dial = tunnelled(self._upstream, credentials.proxy_authorization, self._dial)
        try:
            waits = await waits_for_clock(failure, self._upstream, self._clock, dial)
            raise waits or self._cut(connection, failure, len(body)) from failure
        finally:
            del failure  # As in `_ask`.

    def _cut(
        self, connection: HttpClientConnection | None, failure: Exception | None, size: int
    ) -> SinkUnavailable:
        """What there is to tell of a request without an answer."""
        if failure is None or isinstance(failure, trio.TooSlowError):
            message = f"no answer within {self._upstream.timeout:g} s"
        else:
            message = reason_of(failure)
        has_begun = connection is not None and connection.has_begun
        if connection is not None and has_begun:
            message += f", with {connection.gone_bytes} of {size} bytes gone"
        said = SinkUnavailable(message, cut=has_begun)
        said.sent_bytes = size
        return said

    async def _connected(self, credentials: Credentials) -> HttpClientConnection:
        """The connection that is open, or a new one; also where trust has changed."""
        connection = self._connection
        if connection is not None and connection.is_good and connection.tls is credentials.tls:
            return connection
        await self.aclose()
        proxy = proxy_of(self._upstream, credentials.proxy_authorization)
        with trio.fail_after(self._upstream.timeout):
            self._connection = await open_connection(
                self._dial, self._upstream.url, credentials.tls, proxy
            )
        return self._connection

    def _headers(self, key: str, credentials: Credentials, *, plain: bool) -> list[tuple[str, str]]:
        headers = {
            "content-type": ("Content-Type", self._content_type),
            "idempotency-key": ("Idempotency-Key", key),
            "user-agent": ("User-Agent", f"edge-agent/{__version__}"),
            "accept": ("Accept", "*/*"),
            # A compressed answer could be a bomb.
            "accept-encoding": ("Accept-Encoding", "identity"),
        }
        if self._upstream.compression != "none" and not plain:
            headers["content-encoding"] = ("Content-Encoding", self._upstream.compression)
        if self._part != "live":
            headers["edge-agent-part"] = ("Edge-Agent-Part", self._part)
        headers |= {name.lower(): (name, value) for name, value in credentials.headers}
        return list(headers.values())


def make(parts: SinkParts) -> HttpSink:
    """The sink of an ``http`` or ``https`` upstream."""
    return HttpSink(parts)


async def probe(parts: SinkParts, size: int) -> list[ProbeStep]:
    """Send a record of about ``size`` bytes, made for this, and say what came back."""
    return await probe_with(make(parts), parts, size)


async def probe_with(sink: HttpSink, parts: SinkParts, size: int) -> list[ProbeStep]:
    """The same by a sink of a kind that is made of this one."""

    async def send(record: Record) -> str:
        answer = await sink.try_out(record)
        return f"HTTP {answer.status} for a record of its own in the stream {PROBE_STREAM}"

    return await probe_by_sending("answer", parts.clock, size, send)


def without(answer: HttpAnswer, secrets: Sequence[str]) -> HttpAnswer:
    """The answer without our own secrets: what it says is shown to people and written down."""
    body = answer.body
    for secret in secrets:
        body = body.replace(secret.encode(), b"...")
    return answer if body is answer.body else replace(answer, body=body)
