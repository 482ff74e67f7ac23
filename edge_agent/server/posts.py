"""``POST /ingest/STREAM``: records from whatever has no WebSocket, answered once they are synced.

The body is one message of plain mode (`edge_agent.wire`): a record or an array of them, JSON or
msgpack, or one to a line (NDJSON); SenML (RFC 8428) and CloudEvents 1.0, structured or in a batch,
are known by their types and become what the profiles of these names make of them. It has at most
``limits.message_bytes``. It is stored in one entry, and the answer leaves after the commit:

====== ================================================================================
200    ``{"stored": n, "refused": [{"code": …, "message": …}, …]}``: n records are durable, and
       what is refused is in quarantine; of that the first `TOLD_MAX` are told
400    it cannot be read; nothing was kept
411    no length and no chunks; 413: too long; 415: a content coding
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

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Final

import h11
import msgspec
import trio

from edge_agent import __version__
from edge_agent.accepting import linger
from edge_agent.commit import Closed
from edge_agent.config import Profile, Rule
from edge_agent.errors import ProtocolError, StoreError
from edge_agent.record import Run
from edge_agent.rules import CompiledRules, compile_rules
from edge_agent.server.closing import not_now, quarantined
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.handshake import HandshakeRefusal, Post, next_event, read_post
from edge_agent.server.plain_session import plain_source
from edge_agent.server.posted_keys import HeldKey
from edge_agent.server.sensor_session import arrival_of
from edge_agent.store import Entry, Quarantined
from edge_agent.wire import (
    REJECT_BYTES_MAX,
    Received,
    Reject,
    TooBigMessage,
    in_short_turns,
    read_in_turns,
)

#: Refused records that an answer tells of.
TOLD_MAX: Final = 20
#: What may be read of all bodies at one time, as a part of ``limits.in_flight_bytes``.
_SHARE: Final = 4
_BUSY_S: Final = (1, 5)
_MSGPACK: Final = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
_LINES: Final = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
#: Types that say what the fields mean; rules have the same by these names.
_PROFILES: Final[dict[str, Profile]] = {
    "application/senml+json": "senml",
    "application/cloudevents+json": "cloudevents",
    "application/cloudevents-batch+json": "cloudevents",
}

Judge = Callable[[Post], Awaitable[Visitor]]
"""Says who sends a request. Raises HandshakeRefusal."""


@dataclass(slots=True)
class PostAnswer:
    """An answer: status, JSON, and seconds to wait where it is no yes."""

    status: int
    body: dict[str, object]
    retry_after: float | None = None


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
        self._stream, self._post, self._visitor, self._parts = stream, first, visitor, parts
        self._judge = judge
        self._is_over = False
        # Around everything that may end at once: waiting for the peer, not for a commit.
        self._listening = trio.CancelScope()

    def end(self) -> None:
        """Take up nothing new. What is being stored is answered."""
        self._is_over = True
        self._listening.cancel()

    async def run(self) -> None:
        """Answer until the peer leaves, falls silent, or `end`."""
        while await self._answer_one():
            http = self._post.http
            http.start_next_cycle()
            with self._while_listening(float(self._parts.listen.idle_timeout)):
                try:
                    self._post = await read_post(self._stream, http)
                    self._visitor = await self._judge(self._post)
                except EOFError:
                    return
                except HandshakeRefusal as refusal:
                    await self._send(_refused(refusal), is_last=True)
                    return
            if self._listening.cancelled_caught:
                return

    async def _answer_one(self) -> bool:
        """Whether another request may follow."""
        body: bytes | None = None
        try:
            with self._while_listening(float(self._parts.listen.idle_timeout)):
                body = await self._body()
            if body is None:
                return False
            told = await self._take(body)
        except HandshakeRefusal as refusal:
            # What of the body is still on its way is not read.
            await self._send(_refused(refusal), is_last=True)
            return False
        finally:
            if body is not None:
                self._parts.posted.reading -= len(body)
        is_last = self._is_over or self._post.http.their_state is h11.MUST_CLOSE
        await self._send(told, is_last=is_last)
        return not is_last and self._post.http.our_state is h11.DONE

    def _while_listening(self, seconds: float) -> trio.CancelScope:
        self._listening = trio.CancelScope(deadline=trio.current_time() + seconds)
        if self._is_over:
            self._listening.cancel()
        return self._listening

    async def _body(self) -> bytes:
        """The request's body; what is read of it counts in `Parts.posted`.

        Raises:
            HandshakeRefusal: too long, coded, or no request any more.
        """
        post, parts = self._post, self._parts
        most = int(parts.limits.message_bytes)
        if post.coding not in ("", "identity"):
            raise HandshakeRefusal(415, "A body without Content-Encoding is expected.", "coding")
        if post.length is None and not post.is_chunked:
            raise HandshakeRefusal(411, "Content-Length, or chunks, are expected.", "no_length")
        if (post.length or 0) > most:
            raise _too_long(most)
        if post.http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._stream.send_all(post.http.send(go_on) or b"")
        pieces: list[bytes] = []
        size = 0
        try:
            while True:
                event = await next_event(self._stream, post.http)
                if isinstance(event, h11.EndOfMessage):
                    return b"".join(pieces)
                if not isinstance(event, h11.Data):
                    raise trio.BrokenResourceError("it left in the middle of a request")
                size += len(event.data)
                parts.posted.reading += len(event.data)
                pieces.append(bytes(event.data))
                if size > most:
                    raise _too_long(most)
                if parts.posted.reading > parts.limits.in_flight_bytes // _SHARE:
                    text = "Too much is being sent at one time."
                    raise HandshakeRefusal(503, text, "busy", parts.random.randint(*_BUSY_S))
        except BaseException:
            parts.posted.reading -= size
            raise

    async def _take(self, body: bytes) -> PostAnswer:
        """Store what a body holds; the answer, once that is durable."""
        parts, visitor = self._parts, self._visitor
        name = visitor.grant.name
        wait = parts.rates.wait(name, trio.current_time())
        if wait > 0:
            text = f"more than limits.records_per_second = {parts.limits.records_per_second:g}"
            return _error(429, "too_fast", text, wait)
        visitor.source = visitor.source or plain_source(name)
        key = self._post.key
        try:
            if not key:
                return await self._store(body, None)
            async with parts.posted.held(visitor.grant.identity, key) as held:
                if held.stored is not None:
                    return PostAnswer(200, {"stored": held.stored, "refused": [], "repeated": True})
                told = await self._store(body, held)
                held.is_kept = True
                return told
        except ProtocolError as error:
            return _error(400, error.code, error.message)
        except (StoreError, Closed) as error:
            reason = not_now(error, parts.random)  # type: ignore[arg-type] # reading a key fails so, too
            return _error(503, reason.code, reason.message, reason.retry_after)

    async def _store(self, body: bytes, key: HeldKey | None) -> PostAnswer:
        parts, visitor = self._parts, self._visitor
        arrival = arrival_of(parts, visitor, visitor.source)
        messages = _messages(self._post.content_type, body, parts.limits.batch_records)
        turns: Iterator[Received] = read_in_turns(
            messages, 0, arrival, parts.wire_limits, past_failures=len(messages) > 1
        )
        if arrival.turn_of is not None:
            turns = in_short_turns(turns, arrival.turn_of)
        profile = self._profile()
        runs: list[Run] = []
        refused: list[Quarantined] = []
        records = 0
        for received in turns:
            if received.failure is not None and len(messages) == 1:
                raise received.failure
            made = profile.apply(received.runs)
            kept, set_aside = parts.apply_rules(made.runs)
            runs += kept
            rejects = [*received.rejects, *made.rejects, *set_aside]
            refused += [quarantined(one, visitor.source, arrival.wall_ns) for one in rejects]
            if received.failure is not None:
                refused.append(_unread(received, visitor, arrival.wall_ns))
            records += received.numbers
            await trio.lowlevel.checkpoint()
        parts.count(1, records, len(body), refused)
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

    def _profile(self) -> CompiledRules:
        """What the type of the body says of it; a profile's memory is for this request alone."""
        name = _PROFILES.get(self._post.content_type)
        rules = [] if name is None else [Rule(name=name, streams=("**",), profile=name)]
        limits = self._parts.limits
        return compile_rules(rules, self._parts.metrics, limits=limits, timer=trio.current_time)

    async def _send(self, told: PostAnswer, *, is_last: bool) -> None:
        body = msgspec.json.encode(told.body) + b"\n"
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Server", f"edge-agent/{__version__}"),
        ]
        if told.retry_after is not None:
            headers.append(("Retry-After", str(max(1, ceil(told.retry_after)))))
        if told.status == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", 'Bearer realm="edge-agent"'))
        if is_last:
            headers.append(("Connection", "close"))
        http = self._post.http
        reason = HTTPStatus(told.status).phrase
        head = http.send(h11.Response(status_code=told.status, headers=headers, reason=reason))
        data = (head or b"") + (http.send(h11.Data(data=body)) or b"")
        data += http.send(h11.EndOfMessage()) or b""
        with trio.move_on_after(float(self._parts.listen.idle_timeout)):
            await self._stream.send_all(data)
            if is_last:
                await linger(self._stream)


def _messages(content_type: str, body: bytes, lines_max: int) -> list[str | bytes]:
    """The messages in a body, by its type; where that says nothing, by what it looks like.

    Raises:
        ProtocolError: no UTF-8, or more lines than a message may have records: each is read by
            itself, and a mebibyte of the shortest would take half a minute.
    """
    if content_type in _MSGPACK:
        return [body]
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        at = f"byte {error.start} is no UTF-8"
        text = f"expected JSON, or msgpack with Content-Type: {_MSGPACK[0]}; {at}"
        raise ProtocolError("undecodable", text) from None
    first, further, _ = text.strip().partition("\n")
    if content_type not in _LINES and not (further and _is_whole(first)):
        return [text]
    if text.count("\n") > lines_max:
        told = f"a body has at most {lines_max} lines (limits.batch_records)"
        raise TooBigMessage(told)
    # Nothing else ends a line: JSON may have U+2028 in its text as it is.
    return [line for line in text.split("\n") if line.strip()] or [text]


def _is_whole(line: str) -> bool:
    """Whether a line is a value by itself, and not the beginning of a longer one."""
    try:
        msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _unread(received: Received, visitor: Visitor, wall_ns: int) -> Quarantined:
    failure, unread = received.failure, received.unread
    assert failure is not None
    body = unread.encode() if isinstance(unread, str) else unread
    reject = Reject(0, failure.code, failure.message, body[:REJECT_BYTES_MAX], visitor.target.name)
    return quarantined(reject, visitor.source, wall_ns)


def _too_long(most: int) -> HandshakeRefusal:
    text = f"A body has at most {most} bytes (limits.message_bytes)."
    return HandshakeRefusal(413, text, "too_big")


def _error(status: int, code: str, message: str, retry_after: float | None = None) -> PostAnswer:
    return PostAnswer(status, {"error": {"code": code, "message": message}}, retry_after)


def _refused(refusal: HandshakeRefusal) -> PostAnswer:
    return _error(refusal.status, refusal.reason, refusal.sentence, refusal.retry_after)
