"""This module puts records into a template of the configuration, for services with a form of
their own.

What a template may hold, and why a value cannot break out of its place, stands in
``config/body_template.py``. The same records give the same bytes, as in every format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from edge_agent.config import HttpTable, envelope_parts, template_parts
from edge_agent.forward.sinks.http.body import RenderedRecord, json_bytes
from edge_agent.values.field_path import MISSING, look_up, parse_path
from edge_agent.values.record import NANOSECONDS

_Value = Callable[[RenderedRecord, int], Any]
_TIMES: Final[dict[str, _Value]] = {
    "time_s": lambda _, time_ns: time_ns / NANOSECONDS,
    "time_ms": lambda _, time_ns: time_ns // 1_000_000,
    "time_ns": lambda _, time_ns: time_ns,
}


class Templates:
    """A template and what stands around all records; ``lines``: where nothing is said of that, a
    line each instead of one array.
    """

    def __init__(self, template: str, envelope: str | None, *, lines: bool) -> None:
        # Its own line breaks stand between values, where a blank means the same.
        parts = template_parts(" ".join(template.splitlines()))
        self._texts = [part.encode() for part in parts[0::2]]
        self._values = [_value(name) for name in parts[1::2]]
        self._lines = lines and envelope is None
        before, after = envelope_parts(envelope or "[{records}]")
        self._before, self._after = before.encode(), after.encode()

    @classmethod
    def of(cls, http: HttpTable | None, form: str) -> Templates | None:
        """What the configuration says; None where it says nothing."""
        if http is None or http.template is None:
            return None
        return cls(http.template, http.envelope, lines=form == "ndjson")

    @property
    def content_type(self) -> str:
        """What the body is."""
        return "application/x-ndjson" if self._lines else "application/json"

    def body(self, records: Sequence[RenderedRecord], times: Sequence[int]) -> bytes:
        """The body; ``times`` are the records', in ns since 1970.

        Raises:
            TypeError, ValueError, OverflowError: a record holds something that JSON cannot say.
        """
        made = [self._record(*one) for one in zip(records, times, strict=True)]
        if self._lines:
            return b"".join(one + b"\n" for one in made)
        return self._before + b",".join(made) + self._after

    def _record(self, record: RenderedRecord, time_ns: int) -> bytes:
        pieces = [self._texts[0]]
        for value, text in zip(self._values, self._texts[1:], strict=True):
            pieces += (json_bytes(value(record, time_ns)), text)
        return b"".join(pieces)


def _value(name: str) -> _Value:
    if name in _TIMES:
        return _TIMES[name]
    first, _, field = name.partition(".")
    if field:
        path = parse_path(field)
        return lambda record, _: _or_null(look_up(record.fields, path))
    return lambda record, _: getattr(record, first)


def _or_null(value: object) -> object:
    return None if value is MISSING else value
