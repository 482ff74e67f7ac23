"""The NATS sink publishes packed messages into a JetStream stream, each record once.

Two things make it once, over any outage, and without a clock of the server's:

- **The stream says what it has.** Its last message under the log's subject names the log's number
  that it ends with (``jetstream.py``). What it has is not sent again, after a second or a year.
  Whether that is of this store's own history, and not of a copy's, its opening tells, by which a
  store that was set back is noticed, too.
- **It takes the next only where we left it.** What is published says which message it expects to be
  the last one under the subject; a message of an earlier connection that comes late changes that,
  and what follows is refused until we have looked again.

The messages of a batch are sent in one go and acknowledged once, and there is never a hole behind
which later ones are stored. There are three ways (`ways_of`), the next where one is not offered:

- A *fast batch* (NATS 2.14 and newer) is stored as it comes, and ends at the first message that is
  missing or refused. What is left of one may come late, from a connection or a process that is no
  more. So each message names its batch: whoever finds one in the last message ends that first, and
  looks again. No other can be open, as none begins behind a message that it does not expect.
- An *atomic batch* (2.12 and newer) is stored as a whole or not at all.
- Otherwise messages are *chained*: each names the one before by its id, and is refused unless that
  is the last one in the stream. So behind a message that is missing, or that somebody else's has
  come in front of, all others are refused. As many are under way as have got through lately: where
  others write into the stream all the time, that is one after the other.

A chain by predicted numbers (``Nats-Expected-Last-Subject-Sequence``, one more each time) would not
be right: a message of an earlier connection that comes late takes the number that our first one was
to have, and our second one follows it, whatever that one held.

Measured with 100 records a message and the server beside us: in batches of 100 messages a fast one
takes half of the time of an atomic one, 0.45 of the server's CPU time and 0.9 of ours; in batches
of ten 0.25, 0.2 and 0.75.

The first messages of a batch are published while the others are packed (``ahead.py``).

``Nats-Msg-Id`` is the range of each message (EPOCH/LOG/FIRST-LAST), for streams from which
consumers take the messages away, and so the position: there the duplicate window is what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import trio

from edge_agent.config import NatsTable, servers_of
from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.forward.credentials import CredentialFiles
from edge_agent.forward.keyed_sink import KeyedSink
from edge_agent.forward.link.tls_clock import is_out_of_date
from edge_agent.forward.probing import ProbeStep, probe_by_opening, probed_log
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume, Resumed, SinkParts
from edge_agent.forward.sinks.http.encoded_runs import encoded_runs
from edge_agent.forward.sinks.nats.ahead import MessagesAhead, packing_ahead
from edge_agent.forward.sinks.nats.connection import NETWORK_ERRORS, NatsConnection, open_nats
from edge_agent.forward.sinks.nats.jetstream import (
    NO_BATCH,
    NO_STREAM,
    UNKNOWN_BATCH,
    WRONG_LAST,
    WRONG_LAST_ID,
    InStream,
    PublishOutcome,
    StreamConfig,
    Way,
    ack_of,
    fast_end,
    in_batch,
    is_final,
    is_of_another,
    outcome_of,
    position_of,
    refusal_of,
    stream_of,
    stream_to_make,
    ways_of,
)
from edge_agent.forward.sinks.nats.packing import (
    PackedMessage,
    PackedPart,
    Subjects,
    pack,
    stream_subjects,
    takes,
)
from edge_agent.forward.sinks.nats.protocol import NatsMessage, publish
from edge_agent.output.printable import printable, why

logger = logging.getLogger(__name__)

PORT: Final = 4222
#: JetStream takes no more messages in one atomic batch; and so many are under way of a fast one.
BATCH_MAX: Final = 1000
#: What our headers may take of a message's largest size.
_HEADERS_BYTES: Final = 2048
#: So often somebody else may publish under our subject while we look.
_LOOKS_MAX: Final = 5
#: Messages of a chain under way at first, twice as many after each that was stored whole.
_CHAIN_MESSAGES: Final = 16
#: A piece of a batch; each may take as long as the upstream's timeout.
_PIECE_BYTES: Final = 256 * 1024
_OTHERS: Final = "a stream has other records under its numbers"


class NatsSink(KeyedSink):
    """One log's messages to one stream; see the module's docstring."""

    _broken_by = (SinkUnavailable,)

    def __init__(self, parts: SinkParts) -> None:
        super().__init__(parts)
        self._table = parts.upstream.nats or NatsTable()
        self._subjects = Subjects(self._table.subject, parts.identity.agent_id, parts.log)
        self._patience = float(parts.upstream.timeout)
        self._files = CredentialFiles(parts.upstream)
        self._servers = servers_of(parts.upstream.url, PORT)
        self._connection: NatsConnection | None = None
        self._config = StreamConfig()
        self._there = InStream()
        self._chain = _CHAIN_MESSAGES
        #: Of the batch that is being sent.
        self._sent_bytes = 0

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """Connect, look at the stream or make it, and ask what it has of the log. Where that is
        more than the log has ever given out, or of another history, this store is an older copy of
        what it was, or one beside it.

        Raises:
            SinkUnavailable: not now.
        """
        self._identity = resume.identity or self._identity
        self._subjects = Subjects(self._table.subject, self._identity.agent_id, self._log)
        self._sent_bytes = 0
        await self.aclose()
        with self._border():
            self._connection = await self._connect()
            nursery.start_soon(self._connection.run, self._patience)
            with trio.fail_after(self._patience):
                self._config = await self._agree()
                self._there = there = await self._look()
        forked = ""
        if self._is_ours(there) and resume.part != "resend":
            # Our records would be taken for those that are there.
            if there.upto > resume.last:
                forked = "a stream has records that were never here"
            elif self._has_forked(resume.floor):
                forked = _OTHERS
        return Resumed(resume.floor + 1, forked=forked)

    def subject_step(self, log: str) -> ProbeStep:
        """Whether the stream, which was looked at by `open`, takes what is published of ``log``."""
        stream, there = self._table.stream, self._config.subjects
        wanted = Subjects(self._table.subject, self._identity.agent_id, log).filter
        if takes(there, wanted):
            return ProbeStep("subject", True, f"the stream {stream} takes {wanted}")
        found = ", ".join(printable(one[:100]) for one in there[:5]) or "nothing"
        text = f"the stream {stream} takes {found}, and not {wanted}: add that to its subjects, or"
        return ProbeStep("subject", False, f"{text} name another with nats.stream or nats.subject")

    async def _connect(self) -> NatsConnection:
        credentials = await self._run_blocking(self._files.read)
        # Another one first the next time: this one may be what fell over.
        server = self._servers.pop(0)
        self._servers.append(server)
        user = self._upstream.user
        connection = await open_nats(self._dial, server, credentials, user, self._patience)
        self._servers.insert(0, self._servers.pop())
        return connection

    async def _agree(self) -> StreamConfig:
        """The stream as it is; made, where it is missing and that is wanted."""
        table = self._table
        answer = stream_of(await self._ask(f"$JS.API.STREAM.INFO.{table.stream}"))
        if answer.error is not None and answer.error.err_code == NO_STREAM:
            if not table.create:
                text = f"there is no stream {table.stream}, and nats.create is false"
                raise SinkUnavailable(text, slow=True, obstacle="there")
            version = self._live().info.version
            question = stream_to_make(table, stream_subjects(table.subject), version)
            answer = stream_of(await self._ask(f"$JS.API.STREAM.CREATE.{table.stream}", question))
        if answer.error is not None:
            raise refusal_of(answer.error)
        return answer.config

    async def _look(self) -> InStream:
        """What the stream has of the log, once no fast batch can add to it."""
        question, ended = b'{"last_by_subj":"%s"}' % self._subjects.filter.encode(), ""
        while True:
            answer = await self._ask(f"$JS.API.STREAM.MSG.GET.{self._table.stream}", question)
            there = position_of(answer)
            if there.batch in ("", ended) or not self._config.allow_batched:
                return there
            await self._end(there.subject, there.batch)
            ended = there.batch

    async def _end(self, subject: str, batch: str) -> None:
        """Let a fast batch end.

        Raises:
            SinkUnavailable: the server had no time, or no room, for that.
        """
        connection = self._live()
        reply, answer = connection.expect()
        end = fast_end(reply, batch.encode())
        await connection.send(publish(subject.encode(), b"", (), end))
        error = ack_of(await answer(), subject).error
        if error is not None and error.err_code != UNKNOWN_BATCH:
            raise refusal_of(error)

    async def _send(self, batch: Batch) -> Acknowledged:
        try:
            with self._border():
                return await self._bring(batch)
        except SinkError as error:
            error.sent_bytes = self._sent_bytes
            raise

    async def _bring(self, batch: Batch) -> Acknowledged:
        """Publish what the stream has not of the batch, and wait until it has all of it."""
        self._sent_bytes = looks = 0
        while looks < _LOOKS_MAX:
            has = self._has(batch)
            async with packing_ahead(self._packed(batch, has), self._run_blocking) as ahead:
                is_done = await self._publish_all(ahead, batch)
            if is_done and ahead.refusal is not None:
                raise ahead.refusal
            if is_done and ahead.refused:
                first, reason = next(iter(ahead.refused.items()))
                raise SinkRefused(f"record {first}: {reason}", "too_big", ahead.refused)
            if is_done:
                return Acknowledged(batch.last, ahead.records, self._sent_bytes)
            with trio.fail_after(self._patience):
                self._there = await self._look()
            if not batch.out_of_order and self._has_forked(batch.first - 1):
                # By a copy that runs at this moment; `open` will tell.
                raise SinkUnavailable(_OTHERS, obstacle="there")
            # On a slow way a fast batch may end again and again, and be a bit further each time.
            looks = 0 if self._has(batch) > has else looks + 1
        raise SinkUnavailable(f"somebody else publishes under {self._subjects.filter}", slow=True)

    def _packed(self, batch: Batch, has: int) -> Iterator[PackedPart]:
        """The messages with what the stream, which ``has`` so much, lacks of the batch."""
        agent, epoch, how = self._identity.agent_id, self._identity.epoch, self._upstream.format
        runs = encoded_runs(batch, self._matches, agent, epoch, how)
        most = self._connection.info.max_payload if self._connection else 0
        if self._config.max_msg_size > 0:
            most = min(most, self._config.max_msg_size)
        most = max(most - _HEADERS_BYTES, 1)
        return pack(runs, self._subjects, self._upstream, self._table, most, has)

    def _has(self, batch: Batch) -> int:
        """Up to which number of the log the stream has everything."""
        there = self._there
        is_ours = self._is_ours(there)
        if batch.resent:
            return there.resent_upto if is_ours and there.resent == batch.resent else 0
        is_ours = is_ours and there.moves >= batch.moves and not batch.out_of_order
        return there.upto if is_ours else 0

    async def _publish_all(self, ahead: MessagesAhead, batch: Batch) -> bool:
        """False where it is to be looked again: the stream's last message was not the one that was
        expected, or a fast batch is at its end.
        """
        at, ways = 0, ways_of(self._config)
        while True:
            await ahead.until(at + 1)
            if at == len(ahead.messages):
                return True
            most = self._chain if ways[0] == "chained" else BATCH_MAX
            way = ways[0] if at + 1 < len(ahead.messages) else "chained"
            outcome, count = await self._publish(ahead, at, most, batch, way)
            error = outcome.error
            if outcome.stored:
                if outcome.stream != self._table.stream:
                    text = f"{ahead.messages[at].subject} belongs to the stream {outcome.stream}"
                    raise SinkUnavailable(text, slow=True, obstacle="there")
                last = self._after(ahead.messages[at + outcome.stored - 1], batch)
                self._there = last._replace(seq=outcome.seq or self._there.seq)
                at += outcome.stored
            if outcome.stored == self._chain:
                self._chain = min(2 * self._chain, BATCH_MAX)
            elif way == "chained" and outcome.stored < count:
                self._chain = max(outcome.stored, 1)
            if error is not None and error.err_code in NO_BATCH and len(ways) > 1:
                del ways[0]
            elif error is not None and error.err_code in (WRONG_LAST, UNKNOWN_BATCH):
                return False
            elif error is not None and error.err_code != WRONG_LAST_ID:
                raise refusal_of(error)
            elif not outcome.stored:
                return False

    async def _publish(
        self, ahead: MessagesAhead, at: int, most: int, batch: Batch, way: Way
    ) -> tuple[PublishOutcome, int]:
        """Publish what belongs together, ``most`` messages from the one at ``at`` on, and wait for
        what becomes of it; and how many those were.
        """
        connection, asked, is_last, n = self._live(), [], False, 0
        place, variant, before = f"{self._identity.epoch}/{batch.log}", batch.variant, ""
        pieces, size = [b""], 0
        while not is_last:
            await ahead.until(at + n + 1)
            message, n = ahead.messages[at + n], n + 1
            is_last = n == most or at + n == len(ahead.messages)
            if way == "chained" or n == 1:
                asked.append(connection.expect(is_final))
            key = f"{place}/{message.first}-{message.last}{variant}"
            headers = [("Nats-Msg-Id", key), *self._after(message, batch).headers()]
            if n == 1:
                headers += self._expected()
            if way == "chained":
                to = asked[n - 1][0]
                headers += [("Nats-Expected-Last-Msg-Id", before)] * (n > 1)
            else:
                more, to = in_batch(way, asked[0][0], n, is_last=is_last)
                headers += more
            before = key
            pieces.append(publish(message.subject.encode(), message.payload, headers, to))
            size += len(pieces[-1])
            if is_last or size >= _PIECE_BYTES or not ahead.settled(at + n + 1):
                with trio.fail_after(self._patience):
                    await connection.send(b"".join(pieces))
                self._sent_bytes += size
                pieces, size = [], 0
        acks = []
        for message, (_, answer) in zip(ahead.messages[at:], asked, strict=False):
            with trio.fail_after(self._patience):
                acks.append(ack_of(await answer(), message.subject))
        return outcome_of(acks, n), n

    def _expected(self) -> list[tuple[str, str]]:
        """Of the first of several messages: which one is the last under the log's subject."""
        last = "Nats-Expected-Last-Subject-Sequence"
        by_stream = [(f"{last}-Subject", self._subjects.filter)] * self._subjects.by_stream
        return [(last, f"{self._there.seq}"), *by_stream]

    def _after(self, message: PackedMessage, batch: Batch) -> InStream:
        """What the stream will have with ``message``."""
        there, ours = self._there, (self._identity.epoch, batch.log)
        if batch.resent:
            # How far the order has come says nothing of how far the log has, and by whom.
            known = there if self._is_ours(there) else InStream(0, *ours)
            return known._replace(resent=batch.resent, resent_upto=message.last)
        if batch.out_of_order:
            return there
        resent = there[5:7] if self._is_ours(there) else (0, 0)
        place, opening = (*ours, batch.moves, message.last, *resent), self._identity.opening
        return InStream(0, *place, opening=opening)

    def _is_ours(self, there: InStream) -> bool:
        """Whether that is of our log, by the epoch."""
        return (there.epoch, there.log) == (self._identity.epoch, self._log)

    def _has_forked(self, floor: int) -> bool:
        """Whether what the stream has is by our epoch, and by no opening of ours."""
        there = self._there
        return self._is_ours(there) and is_of_another(there, self._identity, self._log, floor)

    async def _ask(self, subject: str, question: bytes = b"") -> NatsMessage:
        return await self._live().ask(subject.encode(), question)

    def _live(self) -> NatsConnection:
        if self._connection is None:
            raise SinkUnavailable("there is no connection")
        return self._connection

    @contextmanager
    def _border(self) -> Iterator[None]:
        """Nothing that a server says, and no mistake of ours about it, ends more than the attempt.

        Raises:
            SinkUnavailable: for whatever it is.
        """
        try:
            yield
        except SinkError as error:
            if self._sent_bytes and isinstance(error, SinkUnavailable):
                error.cut = error.cut or error.obstacle == "between"
            raise
        except trio.TooSlowError as error:
            text = f"no answer within {self._patience:g} s"
            raise SinkUnavailable(text, cut=self._sent_bytes > 0) from error
        except Exception as error:
            if not isinstance(error, NETWORK_ERRORS):
                logger.exception("an unexpected error on the way to %s", self._upstream.name)
            elif is_out_of_date(error) and not self._clock.read().synced:
                text = "waiting for the clock: by it the server's certificate is not valid"
                raise SinkUnavailable(text, until_clock_set=True, obstacle="here") from error
            raise SinkUnavailable(why(error) or type(error).__name__) from error


def make(parts: SinkParts) -> NatsSink:
    """The sink of a ``nats`` or ``nats+tls`` upstream."""
    return NatsSink(parts)


async def probe(parts: SinkParts, size: int) -> list[ProbeStep]:
    """Look at the stream, and whether it takes our subject. No message of ``size`` bytes is sent:
    the last one in the stream says how far a log is.
    """
    # A log that nobody has: to open one is to end what the agent, which may run, has open of it.
    sink = make(replace(parts, log="probe"))
    steps = await probe_by_opening(sink)
    if all(one.good for one in steps):
        steps.append(sink.subject_step(probed_log(parts.upstream)))
    return steps
