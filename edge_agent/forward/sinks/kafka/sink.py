"""The Kafka sink produces one message for each record, and counts the delivery reports.

Delivery is at least once: librdkafka's producer keeps its own retries from being stored twice, but
only for as long as it lives. After a restart, or where we gave up waiting, what had no report is
sent again; every message has the record's stable id in the header ``id``, by which a consumer
knows a repeat. The key is the record's stream or source, so that those stay in order in their
partition.

librdkafka has threads of its own, one for each broker and two more. They are allowed here because
they touch nothing of ours: what they have to tell waits in a queue until `poll` is called, and
reports run in Trio's thread, within `poll`. They end with the producer, in `aclose`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

import confluent_kafka
import trio

from edge_agent.config import KafkaTable
from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.credentials import CredentialFiles
from edge_agent.forward.keyed_sink import KeyedSink
from edge_agent.forward.probing import PROBE_STREAM, ProbeStep, probe_by_sending
from edge_agent.forward.sink import CLOSE_S, Acknowledged, Batch, LaneResume, Resumed, SinkParts
from edge_agent.forward.sinks.http.body import encode_each, rendered
from edge_agent.forward.sinks.http.encoded_runs import encoded_runs
from edge_agent.forward.sinks.kafka.reports import Reports, refusal_of, said
from edge_agent.forward.sinks.kafka.settings import settings_of
from edge_agent.values.record import Record

#: Messages that are handed over between two looks at what else there is to do: some milliseconds.
_AT_ONCE: Final = 250
#: Between two looks for reports.
_PACE_S: Final = 0.002
#: While no broker is reached, librdkafka tries the next; an attempt that fails after so long is
#: enough. (That a broker is reached again it does not tell.)
_ALL_DOWN_S: Final = 1.0


class _Ready(NamedTuple):
    seq: int
    key: str
    value: bytes
    headers: dict[str, str | bytes | None]


class KafkaSink(KeyedSink):
    """One log's messages to one topic; see the module's docstring."""

    #: Else the producer goes on, which knows what it has sent.
    _broken_by = (SinkUnavailable,)

    def __init__(self, parts: SinkParts) -> None:
        super().__init__(parts)
        self._table = parts.upstream.kafka or KafkaTable()
        self._files = CredentialFiles(parts.upstream)
        self._producer: confluent_kafka.Producer | None = None
        self._reports = Reports()

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Nothing to agree on: go on behind the floor.

        Raises:
            SinkUnavailable: a file cannot be read, or the settings do not fit.
        """
        await self.aclose()
        self._producer = await self._run_blocking(self._made)
        return await super().open(nursery, resume)

    async def aclose(self) -> None:
        """Drop what has no report, and end librdkafka's threads; two seconds at most."""
        producer, self._producer = self._producer, None
        if producer is None:
            await trio.lowlevel.checkpoint()
            return
        # Also where the lane is being cancelled: its threads end now or never.
        with trio.move_on_after(CLOSE_S, shield=True):
            await trio.to_thread.run_sync(_end, producer, abandon_on_cancel=True)

    def _made(self) -> confluent_kafka.Producer:
        credentials = self._files.read()
        settings = settings_of(self._upstream, self._table, credentials.password)
        try:
            return confluent_kafka.Producer(settings | {"error_cb": self._trouble})
        except confluent_kafka.KafkaException as error:
            # Its settings are about files, too: a certificate that is none.
            raise SinkUnavailable(said(error.args[0]), slow=True, obstacle="here") from error

    def _trouble(self, problem: confluent_kafka.KafkaError) -> None:
        self._reports.trouble(problem)

    async def _send(self, batch: Batch) -> Acknowledged:
        ready = await self._run_blocking(self._prepare, batch)
        if not ready:
            return Acknowledged(batch.last)
        return Acknowledged(batch.last, len(ready), await self._deliver(ready))

    async def try_out(self, record: Record) -> str:
        """Produce one record that is in no log, and wait for its report: what a person is told.

        Raises:
            SinkUnavailable, SinkRefused: as `send`.
        """
        agent, epoch = self._identity.agent_id, self._identity.epoch
        self._producer = await self._run_blocking(self._made)
        try:
            one = rendered(record, agent, epoch)
            (text,) = encode_each([one], self._upstream.format)
            key = one.source if self._table.key == "source" else one.stream
            await self._deliver([_Ready(one.seq, key, text, {"id": one.id})])
        finally:
            await self.aclose()
        topic = self._table.topic
        return f"the topic {topic} has a record of its own in the stream {PROBE_STREAM}"

    async def _deliver(self, ready: list[_Ready]) -> int:
        """Produce all of them, and wait for their reports; their bytes."""
        self._reports = reports = Reports(self._reports.troubles)
        refused: dict[int, str] = {}
        at = moved = 0
        since = trio.current_time()
        while at < len(ready) or reports.known < at - len(refused):
            producer = self._producer
            if producer is None:
                raise SinkUnavailable("there is no producer")
            handed = self._produce(producer, ready[at : at + _AT_ONCE], refused)
            at += handed
            troubles = reports.heard
            producer.poll(0)
            if reports.known + at != moved:
                moved, since = reports.known + at, trio.current_time()
            self._look(trio.current_time() - since, is_news=reports.heard > troubles)
            await trio.sleep(0 if handed else _PACE_S)
        size = sum(len(one.value) for one in ready)
        self._judge(refused, size)
        return size

    def _prepare(self, batch: Batch) -> list[_Ready]:
        agent, epoch = self._identity.agent_id, self._identity.epoch
        by_source, how = self._table.key == "source", self._upstream.format
        return [
            _Ready(seq, run.source if by_source else run.stream, text, {"id": identity})
            for run in encoded_runs(batch, self._matches, agent, epoch, how)
            for seq, text, identity in zip(run.seqs, run.texts, run.ids, strict=True)
        ]

    def _produce(
        self, producer: confluent_kafka.Producer, ready: list[_Ready], refused: dict[int, str]
    ) -> int:
        """Hand over as many as there is room for; how many that were."""
        topic, report = self._table.topic, self._reports.count
        for n, one in enumerate(ready):
            try:
                producer.produce(topic, one.value, one.key, headers=one.headers, on_delivery=report)
            except BufferError:
                return n
            except confluent_kafka.KafkaException as error:
                refusal = refusal_of(error.args[0])
                if not isinstance(refusal, SinkRefused):
                    raise refusal from error
                refused[one.seq] = str(refusal)
        return len(ready)

    def _look(self, still: float, *, is_news: bool) -> None:
        """Go on waiting after ``still`` seconds without a report, or not.

        Raises:
            SinkUnavailable: not.
        """
        reports, patience = self._reports, self._upstream.timeout
        problem = reports.needs_a_person()
        if problem is None and is_news and reports.all_down and still > _ALL_DOWN_S:
            problem = SinkUnavailable(reports.in_words())
        if problem is None and still > patience:
            more = reports.in_words()
            text = f"no report within {patience:g} s" + f": {more}" * bool(more)
            problem = SinkUnavailable(text, cut=True)
        if problem is not None:
            reports.troubles.clear()
            raise problem

    def _judge(self, refused: dict[int, str], size: int) -> None:
        problem: SinkError | None = None
        if self._reports.problem is not None:
            # Of several messages that went in one request all are refused for one of them.
            problem = refusal_of(self._reports.problem)
        elif refused:
            problem = SinkRefused(next(iter(refused.values())), "too_big", records=refused)
        if problem is not None:
            problem.sent_bytes = size
            raise problem


def _end(producer: confluent_kafka.Producer) -> None:
    """End its threads; to be called in one that may wait for them."""
    with suppress(confluent_kafka.KafkaException):
        producer.purge()
    # Reports of what was dropped; nobody counts them any more.
    producer.flush(0)
    # Not left to whoever lets go of it last, which may be an error's traceback in Trio's thread.
    producer.close()


def make(parts: SinkParts) -> KafkaSink:
    """The sink of a ``kafka`` or ``kafka+tls`` upstream."""
    return KafkaSink(parts)


async def probe(parts: SinkParts, size: int) -> list[ProbeStep]:
    """Produce a message of about ``size`` bytes, made for this, and say what was reported."""
    return await probe_by_sending("message", parts.clock, size, make(parts).try_out)
