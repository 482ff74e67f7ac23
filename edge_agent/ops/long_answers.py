"""Answers that are longer than a moment: what a query found, and live views.

Both are sent piece by piece, so that encoding a hundred thousand records never holds the loop up,
and both end when the reader goes away. An answer keeps its place among the queries until its last
byte has been taken, because until then it is in memory; the whole may take `SEND_TIMEOUT_S`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from starlette.responses import Response

from edge_agent.errors import ProtocolError, StoreError
from edge_agent.net.access import Readable
from edge_agent.ops.http_connection import Receive, Scope, Send
from edge_agent.ops.parameters import refuse_unknown
from edge_agent.output import render
from edge_agent.output.printable import csv_text
from edge_agent.questions.asking import had_in_time

if TYPE_CHECKING:
    from edge_agent.live import Live, LiveBatch, QueryAnswer

SEND_TIMEOUT_S = 120.0
#: A live view without records says something this often, so that proxies and readers know.
KEEP_ALIVE_S = 15.0
#: Whether who reads may still do so is asked so often at most.
ASK_AGAIN_S = 1.0
_PATIENCE_S = 10.0
_PIECE_RECORDS = 250
TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}


class Places:
    """So many answers are made or in memory at one time, their sending included."""

    def __init__(self, count: int) -> None:
        self._free = trio.Semaphore(count, max_value=count)

    async def take(self) -> None:
        """Wait for a place, not for long. Raises ProtocolError (``busy``)."""
        if not await had_in_time(self._free, _PATIENCE_S):
            raise ProtocolError("busy", "other queries are being answered; try again later")

    def give_back(self) -> None:
        """An answer has been sent, or nobody waits for it any more."""
        self._free.release()


class QueryAnswers:
    """Questions over HTTP, ``places`` of them at one time, their sending included."""

    def __init__(self, live: Live, places: int) -> None:
        self._live = live
        self.places = Places(places)

    async def answer(
        self, parameters: Mapping[str, str], shape: str, may_read: Readable
    ) -> Response:
        """The answer to the question in ``parameters``, as ``shape`` json, ndjson or csv.

        Raises:
            ProtocolError: ``bad_query`` or ``busy``, with a sentence.
            StoreFailed: the disk refused.
        """
        if shape not in TYPES:
            raise ProtocolError("bad_query", f"format: expected json, ndjson or csv, got {shape!r}")
        await self.places.take()
        try:
            answer = await self._live.query(parameters, may_read=may_read)
            pieces = await _pieces(answer, shape)
        except BaseException:
            self.places.give_back()
            raise
        headers = {"Content-Type": TYPES[shape], "Edge-Agent-Scanned": str(answer.scanned)}
        if answer.next is not None:
            headers["Edge-Agent-Next"] = answer.next
        return Pieces(pieces, headers, self.places.give_back)


class Pieces(Response):
    """Pieces, then ``done``, whatever becomes of the reader.

    Not Starlette's StreamingResponse, which starts a second task for each answer.
    """

    def __init__(
        self,
        pieces: Iterator[bytes | memoryview],
        headers: dict[str, str],
        done: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them all; the server raises where the reader is gone."""
        try:
            with trio.move_on_after(SEND_TIMEOUT_S):
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
                for piece in self._pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    await trio.lowlevel.checkpoint()
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._done()


async def _pieces(answer: QueryAnswer, shape: str) -> Iterator[bytes]:
    if shape == "csv":
        # The heading needs every record's fields, so this is one piece, made in a thread.
        if answer.aggregates:
            return iter([_aggregates_as_csv(answer.aggregates)])
        return iter([await trio.to_thread.run_sync(render.to_csv, answer.records)])
    if shape == "json":
        return _as_json(answer)
    if answer.aggregates:
        lines = ({"stream": name, **figures} for name, figures in answer.aggregates.items())
        return (render.encode_json(line) + b"\n" for line in lines)
    return (render.to_ndjson(part) for part in _parts(answer))


def _parts(answer: QueryAnswer) -> Iterator[list[Any]]:
    records = answer.records
    for begin in range(0, len(records), _PIECE_RECORDS):
        yield records[begin : begin + _PIECE_RECORDS]


def _as_json(answer: QueryAnswer) -> Iterator[bytes]:
    yield b'{"records":['
    separator = b""
    for part in _parts(answer):
        yield separator + b",".join(map(render.to_json, part))
        separator = b","
    rest = {
        "aggregates": answer.aggregates,
        "truncated": answer.truncated,
        "next": answer.next,
        "scanned": answer.scanned,
        "seconds": answer.seconds,
    }
    yield b"]," + render.encode_json(rest)[1:] + b"\n"


def _aggregates_as_csv(aggregates: Mapping[str, Mapping[str, float]]) -> bytes:
    columns = ("count", "min", "max", "mean", "first", "last")
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow(("stream", *columns))
    for name, figures in aggregates.items():
        writer.writerow((csv_text(name), *(figures.get(column, "") for column in columns)))
    return target.getvalue().encode()


class LiveView:
    """Records as they become durable, until the reader goes away; an ASGI response.

    It ends, too, when the token or the session with which it was asked for does.

    Lines of JSON, one record each, or (``events``) server-sent events whose id is ``log:seq``, so
    that a browser that lost the connection goes on where it was. What a slow reader missed is
    told as ``{"missed": n}``, as an event of type ``missed``.
    """

    def __init__(
        self,
        live: Live,
        parameters: Mapping[str, str],
        may_read: Readable,
        *,
        events: bool,
        last_event_id: str | None,
        may_still: Callable[[], bool] = lambda: True,
    ) -> None:
        refuse_unknown(parameters, ("stream", "from", "filter", "step", "fields", "format"))
        self._live = live
        self._parameters = parameters
        self._may_read = may_read
        if (form := parameters.get("format", "ndjson")) not in ("ndjson", "sse"):
            raise ProtocolError("bad_query", f"format: expected ndjson or sse, got {form[:60]!r}")
        self._events = events or form == "sse"
        self._start = live.parse_start(_following(last_event_id) or parameters.get("from"))
        self._may_still = may_still
        self._sent_at = self._asked_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes away."""
        given = self._parameters
        view = self._live.subscribe(
            given.get("stream", "**"),
            self._start,
            given.get("filter"),
            step=given.get("step"),
            fields=given.get("fields"),
            may_read=self._may_read,
        )
        async with view as subscription, trio.open_nursery() as nursery:
            kind = b"text/event-stream" if self._events else b"application/x-ndjson"
            headers = [(b"content-type", kind), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            # Something at once, so that a client's open() returns before the first record.
            await self._send(send, b":\n\n" if self._events else b"\n")
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            nursery.start_soon(self._keep_alive, send, nursery.cancel_scope)
            await self._tell(subscription, send)
            nursery.cancel_scope.cancel("the store cannot be read, or who reads may no longer")

    async def _tell(self, subscription: AsyncIterator[LiveBatch], send: Send) -> None:
        try:
            async for batch in subscription:
                if self._is_over():
                    return
                await self._send(send, self._encode(batch))
        except StoreError as error:
            note = render.encode_json({"error": {"code": "store_failing", "message": str(error)}})
            await self._send(
                send, b"event: error\ndata: " + note + b"\n\n" if self._events else note
            )

    def _encode(self, batch: LiveBatch) -> bytes:
        missed = msgspec.json.encode({"missed": batch.missed}) if batch.missed else b""
        if not self._events:
            pieces = [missed] if missed else []
            pieces += [render.to_json(one, count) for one, count in batch.told()]
            return b"".join(piece + b"\n" for piece in pieces)
        pieces = [b"event: missed\ndata: %b\n\n" % missed] if missed else []
        for one, count in batch.told():
            # With a step, streams are told by turns: only behind the last one has all been told.
            is_place = batch.counts is None or (batch.is_whole and one is batch.records[-1])
            place = b"id: %b:%d\n" % (one.log.encode(), one.seq) if is_place else b""
            pieces.append(b"%bdata: %b\n\n" % (place, render.to_json(one, count)))
        return b"".join(pieces)

    def _is_over(self) -> bool:
        """Whether the token or the session is over, looked at once a second at most."""
        if (now := trio.current_time()) < self._asked_at + ASK_AGAIN_S:
            return False
        self._asked_at = now
        return not self._may_still()

    async def _keep_alive(self, send: Send, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep_until(self._sent_at + KEEP_ALIVE_S)
            if self._is_over():
                scope.cancel("who reads may no longer")
            if trio.current_time() >= self._sent_at + KEEP_ALIVE_S:
                await self._send(send, b":\n\n" if self._events else b"\n")

    async def _send(self, send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sent_at = trio.current_time()


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel("the reader is gone")


def _following(last_event_id: str | None) -> str | None:
    """``log:seq`` of the event after the one that the reader has, None where it has none."""
    log, colon, seq = (last_event_id or "").rpartition(":")
    return f"{log}:{int(seq) + 1}" if colon and seq.isascii() and seq.isdigit() else None
