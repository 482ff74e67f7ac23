"""This module serves ``/subscribe/PATTERN`` and ``/query`` on the sensors' port, as JSON text.

A subscription sends arrays of records as `edge_agent.output.render` shows them, narrowed by
``filter``, ``step`` and ``fields`` as in ``GET /api/subscribe``, and ``{"type": "missed", "count":
n}`` where this reader was too slow. Nothing that the peer says has a meaning.

A query is a map with the parameters of ``GET /api/query`` and an ``id`` of the peer's choice. The
answer comes in pieces that a client with small messages can take: any number of ``{"type":
"records", "id": …, "records": […]}``, then one ``{"type": "answer", "id": …, "truncated": …,
"next": …, "scanned": …, "seconds": …, "aggregates": {…}}``. What history answers as a table comes
in pieces ``{"type": "rows", "id": …, "columns": […], "rows": […]}``, at least one. Queries of one
connection are answered one after another.

Errors are ``{"type": "error", "code": …, "message": …}``, with the ``id`` where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import trio

from edge_agent.errors import EdgeAgentError, ProtocolError
from edge_agent.history import is_about_history, no_history, parse_question
from edge_agent.live import QueryAnswer
from edge_agent.net.access import everything
from edge_agent.output.render import encode_json, to_json
from edge_agent.server.closing import CLOSE_NORMAL, close_of
from edge_agent.server.context import Parts, Visitor
from edge_agent.server.websocket import WebSocket
from edge_agent.session import CLOSE_FORBIDDEN, CLOSE_RESTART
from edge_agent.values.record import Record

#: Records go out in messages of about this size; a single larger one goes alone.
PIECE_BYTES = 128 * 1024
#: A question is small.
QUERY_BYTES_MAX = 16 * 1024


async def serve_subscription(socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
    """Send records as they become durable, until either side ends it."""
    code, reason = CLOSE_NORMAL, ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.wait_end)
        try:
            with socket.until_end():
                await _feed(socket, parts, visitor)
        except EdgeAgentError as error:
            await socket.send(_error(error))
            code, reason = CLOSE_FORBIDDEN, str(error)
        nursery.cancel_scope.cancel()
    await _close(socket, parts, code, reason)


async def _feed(socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
    target = visitor.target
    start = parts.live.parse_start(target.start)
    view = parts.live.subscribe(
        target.name,
        start,
        target.filter,
        step=target.options.get("step"),
        fields=target.options.get("fields"),
        may_read=visitor.grant.may_read,
    )
    async with view as subscription:
        async for batch in subscription:
            if batch.missed:
                await socket.send(_text({"type": "missed", "count": batch.missed}))
            for piece in _pieces(batch.told()):
                await socket.send(f"[{piece}]")
                visitor.next += 1


async def serve_query(socket: WebSocket, parts: Parts, visitor: Visitor) -> None:
    """Answer questions, one after another, until either side ends it."""
    while messages := await socket.take():
        for message in messages:
            with socket.until_end():
                await _answer(socket, parts, visitor, message)
            if socket.end is not None:
                break
    await _close(socket, parts, CLOSE_NORMAL, "")


async def _answer(socket: WebSocket, parts: Parts, visitor: Visitor, message: str | bytes) -> None:
    number: object = None
    visitor.next += 1
    try:
        number, parameters = _parse(message)
        if is_about_history(parameters):
            await _answer_from_history(socket, parts, visitor, number, parameters)
            return
        answer = await parts.live.query(parameters, may_read=visitor.grant.may_read)
    except EdgeAgentError as error:
        await socket.send(_error(error, number))
        return
    told = encode_json(number).decode()
    for piece in _pieces((record, None) for record in answer.records):
        await socket.send(f'{{"type":"records","id":{told},"records":[{piece}]}}')
    await socket.send(_text(_end_of(answer, number)))


async def _answer_from_history(
    socket: WebSocket, parts: Parts, visitor: Visitor, number: object, parameters: dict[str, str]
) -> None:
    if parts.asker is None:
        raise no_history()
    question = parse_question(parameters, parts.clock.read().wall_ns, parts.limits.query_records)
    answer = await parts.asker.ask(question, "parts", visitor.grant.may_read or everything)
    told, pieces = encode_json(number).decode(), answer.pieces
    if question.kind == "records":
        head = f'{{"type":"records","id":{told},"records":['
    else:
        columns, *pieces = pieces
        head = f'{{"type":"rows","id":{told},"columns":{_told(columns)},"rows":['
        pieces = pieces or [memoryview(b"")]
    for piece in pieces:
        await socket.send(f"{head}{_told(piece)}]}}")
    end = {"type": "answer", "id": number, **answer.rest, "seconds": answer.seconds}
    await socket.send(_text(end))


def _parse(message: str | bytes) -> tuple[object, dict[str, str]]:
    """The id and the parameters, as text, of a question."""
    if len(message) > QUERY_BYTES_MAX:
        raise ProtocolError("bad_query", f"a query has at most {QUERY_BYTES_MAX} bytes")
    try:
        asked = msgspec.json.decode(message, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise ProtocolError("bad_query", f"expected a JSON map: {error}") from None
    number = asked.pop("id", None)
    if not isinstance(number, (str, int, float, type(None))):
        raise ProtocolError("bad_query", "id: expected text or a number")
    parameters: dict[str, str] = {}
    for name, value in asked.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ProtocolError("bad_query", f"{name[:60]}: expected text or a number")
        parameters[name] = str(value)
    return number, parameters


def _end_of(answer: QueryAnswer, number: object) -> dict[str, object]:
    return {
        "type": "answer",
        "id": number,
        "truncated": answer.truncated,
        "next": answer.next,
        "scanned": answer.scanned,
        "seconds": answer.seconds,
        "aggregates": answer.aggregates,
    }


def _pieces(records: Iterable[tuple[Record, int | None]]) -> Iterator[str]:
    """JSON of the records, comma between them, in strings of about `PIECE_BYTES`; each with how
    many it stands for, or None.
    """
    parts: list[bytes] = []
    size = 0
    for record, count in records:
        encoded = to_json(record, count)
        if parts and size + len(encoded) > PIECE_BYTES:
            yield b",".join(parts).decode()
            parts, size = [], 0
        parts.append(encoded)
        size += len(encoded) + 1
    if parts:
        yield b",".join(parts).decode()


def _told(piece: memoryview) -> str:
    return str(piece, "utf-8")


def _text(value: object) -> str:
    return encode_json(value).decode()


def _error(error: EdgeAgentError, number: object = None) -> str:
    code = error.code if isinstance(error, ProtocolError) else "store_failed"
    told: dict[str, object] = {"type": "error", "code": code, "message": str(error)}
    if number is not None:
        told["id"] = number
    return _text(told)


async def _close(socket: WebSocket, parts: Parts, code: int, reason: str) -> None:
    if socket.end == "closing":
        code, reason = CLOSE_RESTART, "closing"
    elif socket.end in ("idle", "too_big", "revoked", "displaced"):
        code, reason = close_of(socket.end, None)
    await socket.close(code, reason, parts.listen.close_timeout)
