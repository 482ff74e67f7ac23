"""Questions about history over HTTP: `edge_agent.history.question` says what may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response

from edge_agent.access import Readable
from edge_agent.errors import ProtocolError
from edge_agent.history import OWN, parse_question
from edge_agent.moments import bad_query

if TYPE_CHECKING:
    from edge_agent.asking import Asker
    from edge_agent.ops.facts import Sources

_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}


def is_about_history(parameters: Mapping[str, str]) -> bool:
    """Whether a question needs history: it asks for fields, steps or an order by time."""
    return bool(OWN & parameters.keys()) or "times" in parameters


class HistoryAnswers:
    """Answers over HTTP."""

    def __init__(self, asker: Asker, sources: Sources) -> None:
        self._asker, self._clock = asker, sources.clock
        self._rows_max = sources.config.limits.query_records

    async def answer(self, parameters: dict[str, str], form: str, may_read: Readable) -> Response:
        """The answer to the question in ``parameters``, as ``form`` json, ndjson or csv.

        Raises:
            ProtocolError: ``bad_query``, ``busy`` or ``too_long``, with a sentence.
            StoreFailed: history cannot be read.
        """
        if form not in _TYPES:
            raise ProtocolError("bad_query", f"format: expected json, ndjson or csv, got {form!r}")
        times = parameters.pop("times", "iso")
        if times not in ("iso", "unix"):
            raise bad_query(f"times: expected iso or unix, got {times[:60]!r}")
        question = parse_question(parameters, self._clock.read().wall_ns, self._rows_max)
        answer = await self._asker.ask(question, form, may_read, unix=times == "unix")
        headers = {"Content-Type": _TYPES[form], "Edge-Agent-Rows": str(answer.rows)}
        if answer.next is not None:
            headers["Edge-Agent-Next"] = answer.next
        if answer.lag:
            headers["Edge-Agent-Lag"] = str(answer.lag)
        return Response(b"".join(answer.pieces), headers=headers)
