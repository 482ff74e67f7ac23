"""``POST /ingest/STREAM``: records from whatever has no WebSocket, answered once they are synced.

The body is one message of plain mode (`edge_agent.wire`): a record or an array of them, JSON or
msgpack, or one to a line (NDJSON); SenML (RFC 8428) and CloudEvents 1.0, structured or in a batch,
are known by their types, and an event in binary mode by its headers; they become what the profiles
of these names make of them. It has at most ``limits.message_bytes``. It is stored in one entry, and
the answer leaves after the commit:

====== ================================================================================
200    ``{"stored": n, "refused": [{"code": …, "message": …}, …]}``: n records are durable, and
       what is refused is in quarantine; of that the first `TOLD_MAX` are told
400    it cannot be read; nothing was kept
411    no length and no chunks; 413: too long, or too many records; 415: a content coding, or a
       type that is not read here
422    every record was refused, as above
429    over ``limits.records_per_second``; 503: no room, a failing disk, or the agent stops: with
       Retry-After. Nothing was stored, or it is not known; send it again
====== ================================================================================

``Idempotency-Key``: what was sent under a key before is answered with ``"repeated": true`` and
stored no second time. The key goes into the store with the records, in one commit, as a source of
its own, so that neither a lost answer nor a power cut doubles anything; the newest
`KEYS_MAX` are remembered, a quarter of them for any one identity (`posted_keys`).

A connection may carry one request after the other; each is judged anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import trio

from edge_agent.commit import Closed
from edge_agent.config import Rule
from edge_agent.errors import ProtocolError, StoreError
from edge_agent.net.accepting import linger
from edge_agent.rules import CompiledRules, compile_rules
from edge_agent.server.closing import quarantined
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.handshake import HandshakeRefusal, Post
from edge_agent.server.plain_session import plain_source
from edge_agent.server.posting.post_answers import PostAnswer, error, refused, response
from edge_agent.server.posting.post_bodies import PROFILES, messages_of, structured
from edge_agent.server.posting.post_requests import Judge, PostRequest, PostRequests
from edge_agent.server.posting.posted_keys import HeldKey
from edge_agent.server.posting.quick_posts import QuickPosts
from edge_agent.server.sensor_session import arrival_of
from edge_agent.server.transport import plain_socket, write_now
from edge_agent.store import Entry, Quarantined, Stored
from edge_agent.values.record import Run
from edge_agent.wire import (
    REJECT_BYTES_MAX,
    Arrival,
    Received,
    Reject,
    TooBigMessage,
    in_short_turns,
    read_in_turns,
)

#: Refused records that an answer tells of.
TOLD_MAX: Final = 20


class Posts:
    """The requests of one connection, from the first one that has been judged.

    Args:
        stream: the connection.
        first: its first request.
        visitor: who sent it.
        judge: for those that follow.
    """

    def __init__(
        self, stream: trio.abc.Stream, first: Post, visitor: Visitor, parts: Parts, judge: Judge
    ) -> None:
        self._stream, self._parts = stream, parts
        self._requests = PostRequests(stream, first, visitor, parts, judge)
        self._socket = plain_socket(stream)
        self._limits = parts.wire_limits
        self._idle_s = float(parts.listen.idle_timeout)
        self._is_over = False
        self._quick: QuickPosts | None = None
        if self._socket is not None and parts.reader is not None:
            self._quick = QuickPosts(self._socket, parts.reader, self._requests, parts)
        # Around everything that may end at once: waiting for the peer, not for a commit.
        self._listening = trio.CancelScope()

    def end(self) -> None:
        """Take up nothing new. What is being stored is answered."""
        self._is_over = True
        if self._quick is not None:
            self._quick.is_over = True
        self._listening.cancel()

    async def run(self) -> None:
        """Answer until the peer leaves, falls silent, or `end`."""
        since = trio.current_time()
        while not self._is_over:
            request: PostRequest | None = None
            try:
                with trio.CancelScope(deadline=self._silent_at(since)) as self._listening:
                    request = await self._next()
            except EOFError:
                return
            except HandshakeRefusal as refusal:
                # What of the body is still on its way is not read.
                await self._send(refused(refusal), is_last=True)
                return
            if request is not None:
                if not await self._answer(request):
                    return
            elif not await self._answer_rest():
                if trio.current_time() >= self._silent_at(since):
                    return
                continue
            since = trio.current_time()

    def _silent_at(self, since: float) -> float:
        """When it has said nothing for too long, if nothing came ``since`` but what was quick."""
        heard_at = 0.0 if self._quick is None else self._quick.heard_at
        return max(since, heard_at) + self._idle_s

    async def _next(self) -> PostRequest | None:
        """The next request that is for this task; None: an answer to give comes first."""
        came: bytes | None = None
        if self._quick is not None and self._requests.is_at_rest:
            came = await self._quick.wait()
            if came is None:
                return None
        return await self._requests.next(came)

    async def _answer(self, request: PostRequest) -> bool:
        """Whether another request may follow."""
        size = len(request.body)
        try:
            told = await self._take(request)
        finally:
            self._parts.posted.reading -= size
        is_last = request.is_last or self._is_over
        await self._send(told, is_last=is_last)
        return not is_last

    async def _answer_rest(self) -> bool:
        """What the quick way has left to say, once that is known; whether it had."""
        if self._quick is None:
            return False
        unsent, untold = await self._quick.settled()
        if unsent:
            await self._send_rest(unsent, is_last=self._is_over)
        elif isinstance(untold, Stored):
            await self._send(PostAnswer(200, self._quick.said), is_last=self._is_over)
        elif untold is not None:
            await self._send(self._not_now(untold), is_last=self._is_over)
        return bool(unsent) or untold is not None

    async def _take(self, request: PostRequest) -> PostAnswer:
        """Store what a request holds; the answer, once that is durable."""
        parts, visitor = self._parts, request.visitor
        name = visitor.grant.name
        wait = parts.rates.wait(name, trio.current_time())
        if wait > 0:
            text = f"more than limits.records_per_second = {parts.limits.records_per_second:g}"
            return error(429, "too_fast", text, wait)
        visitor.source = visitor.source or plain_source(name)
        key = request.post.key
        try:
            if not key:
                return await self._store(request, None)
            stream = visitor.target.name
            async with parts.posted.held(visitor.grant.identity, stream, key) as held:
                if held.stored is not None:
                    return PostAnswer(200, {"stored": held.stored, "refused": [], "repeated": True})
                told = await self._store(request, held)
                held.is_kept = True
                return told
        except ProtocolError as unread:
            # Fewer at a time would do.
            status = 413 if isinstance(unread, TooBigMessage) else 400
            return error(status, unread.code, unread.message)
        except (StoreError, Closed) as trouble:
            return self._not_now(trouble)

    def _not_now(self, trouble: StoreError | Closed) -> PostAnswer:
        # What reading a key raises is told alike.
        reason = self._parts.not_now(trouble)  # type: ignore[arg-type] # see above
        return error(503, reason.code, reason.message, reason.retry_after)

    async def _store(self, request: PostRequest, key: HeldKey | None) -> PostAnswer:
        parts, visitor, post = self._parts, request.visitor, request.post
        size, arrival = len(request.body), arrival_of(parts, visitor, visitor.source)
        kind, request.body = structured(post.event, post.content_type, request.body)
        profile = self._profile(kind)
        runs: list[Run] = []
        refused: list[Quarantined] = []
        records = 0
        for received in self._read(request, kind, arrival):
            made, rejects = received.runs, received.rejects
            if profile is not None:
                profiled = profile.apply(made)
                made, rejects = profiled.runs, (*rejects, *profiled.rejects)
            kept, set_aside = parts.apply_rules(made)
            runs += kept
            refused += [
                quarantined(one, visitor.source, arrival.wall_ns) for one in (*rejects, *set_aside)
            ]
            if received.failure is not None:
                refused.append(_unread(received, visitor, arrival.wall_ns))
            records += received.numbers
            await trio.lowlevel.checkpoint()
        parts.count(1, records, size, refused)
        parts.rates.charge(visitor.grant.name, records, trio.current_time())
        stored = sum(run.count for run in runs)
        entry = Entry(
            runs=tuple(runs),
            quarantine=tuple(refused),
            numbering=None if key is None else key.numbering(stored),
            sources=() if key is None else key.forget,
        )
        if runs or refused or key is not None:
            await (await parts.log.append(entry)).wait()
        visitor.next += 1
        visitor.acked = visitor.next
        told = [{"code": one.code, "message": one.reason} for one in refused[:TOLD_MAX]]
        answer: dict[str, object] = {"stored": stored, "refused": told}
        if len(refused) > TOLD_MAX:
            answer["refused_in_all"] = len(refused)
        return PostAnswer(422 if refused and not stored else 200, answer)

    def _read(self, request: PostRequest, kind: str, arrival: Arrival) -> Iterator[Received]:
        """What a body of that ``kind`` holds, a turn at a time. It is let go of at the end, before
        its records are stored.

        Raises:
            ProtocolError: it cannot be read, as a whole.
        """
        body, request.body = request.body, b""
        found = messages_of(kind, body, self._parts.limits.batch_records)
        del body
        for some in found.some:
            turns = read_in_turns(some, 0, arrival, self._limits, past_failures=not found.is_single)
            if arrival.turn_of is not None:
                turns = in_short_turns(turns, arrival.turn_of)
            for received in turns:
                if received.failure is not None and found.is_single:
                    raise received.failure
                yield received

    def _profile(self, content_type: str) -> CompiledRules | None:
        """What the type of the body says of it; a profile's memory is for this request alone."""
        name = PROFILES.get(content_type)
        if name is None:
            return None
        rules, limits = [Rule(name=name, streams=("**",), profile=name)], self._parts.limits
        return compile_rules(rules, self._parts.metrics, limits=limits, timer=trio.current_time)

    async def _send(self, told: PostAnswer, *, is_last: bool) -> None:
        data = response(told, is_last=is_last)
        if self._socket is not None and not is_last:
            # Nearly every answer goes at once, without another turn of the task.
            try:
                data = data[write_now(self._socket, data) :]
            except OSError as error:
                raise trio.BrokenResourceError from error
        if data:
            await self._send_rest(data, is_last=is_last)

    async def _send_rest(self, data: bytes, *, is_last: bool) -> None:
        with trio.move_on_after(self._idle_s):
            await self._stream.send_all(data)
            if is_last:
                await linger(self._stream)


def _unread(received: Received, visitor: Visitor, wall_ns: int) -> Quarantined:
    failure, unread = received.failure, received.unread
    assert failure is not None
    body = unread.encode() if isinstance(unread, str) else unread
    reject = Reject(0, failure.code, failure.message, body[:REJECT_BYTES_MAX], visitor.target.name)
    return quarantined(reject, visitor.source, wall_ns)
