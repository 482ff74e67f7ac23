"""Questions about history over HTTP: `edge_agent.history.question` says what may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio
from starlette.responses import Response

from edge_agent.history import no_history, parse_question
from edge_agent.net.access import Readable
from edge_agent.ops.long_answers import TYPES, Pieces, Places
from edge_agent.ops.packed import PACKED_FROM, packed
from edge_agent.values.moments import bad_query

if TYPE_CHECKING:
    from edge_agent.ops.facts import Sources

#: What is larger keeps its place until it has been sent.
_SMALL_BYTES = 256 * 1024


class HistoryAnswers:
    """Answers over HTTP; they share the places of the log's."""

    def __init__(self, sources: Sources, places: Places) -> None:
        self._asker, self._clock, self._places = sources.asker, sources.clock, places
        self._rows_max = sources.config.limits.query_records

    async def answer(
        self, parameters: Mapping[str, str], form: str, may_read: Readable, *, pack: bool = False
    ) -> Response:
        """The answer to the question in ``parameters``, as ``form`` json, ndjson or csv; ``pack``
        where who asks takes that: a chart's figures get a fifth as long.

        Raises:
            ProtocolError: ``bad_query``, ``busy`` or ``too_long``, with a sentence.
            StoreFailed: history cannot be read.
        """
        if form not in TYPES:
            raise bad_query(f"format: expected json, ndjson or csv, got {form[:60]!r}")
        if self._asker is None:
            raise no_history()
        question = parse_question(parameters, self._clock.read().wall_ns, self._rows_max)
        await self._places.take()
        try:
            answer = await self._asker.ask(question, form, may_read)
        except BaseException:
            self._places.give_back()
            raise
        headers = {"Content-Type": TYPES[form], "Edge-Agent-Rows": str(answer.rows)}
        for name in ("next", "truncated", "lag", "damaged"):
            if value := answer.rest.get(name):
                headers[f"Edge-Agent-{name.title()}"] = str(value).lower()
        if sum(map(len, answer.pieces)) > _SMALL_BYTES:
            return Pieces(iter(answer.pieces), headers, self._places.give_back)
        self._places.give_back()
        body = b"".join(answer.pieces)
        headers["Vary"] = "Accept-Encoding"
        if pack and len(body) >= PACKED_FROM:
            headers["Content-Encoding"] = "gzip"
            body = await trio.to_thread.run_sync(packed, body)
        return Response(body, headers=headers)
