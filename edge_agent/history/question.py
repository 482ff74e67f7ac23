"""Questions about history: what may be asked, and how it is written in parameters.

=========== ==================================================================================
stream      pattern, ``**`` by default
fields      which fields, with commas; a dot leads into a map, names with other characters stand
            in backticks (``params.`switch:0`.apower``); every field with numbers where not given
from, to    times (``from <= time < to``): RFC 3339, seconds, ``now``, ages (``-1h``), ``today``,
            ``yesterday`` (days of UTC); one hour until now where not given
step        figures for each so long a time (``1m``, ``1h``, ``1d``), instead of records or points;
            ``all`` for one figure over the whole range, which is widened to whole minutes
aggregate   with ``step``: any of `AGGREGATES`, with commas; ``mean`` by default
group       with ``step``: ``stream`` (default), ``none`` for all streams together, or the number of
            a part of their names, from 1
fill        with ``step``: ``none`` (default), ``null``, ``previous`` or a number for steps without
            any record
filter      which records (`edge_agent.values.filter`); with it roll-ups cannot be used
order       ``oldest`` (default with fields) or ``newest`` first
limit       rows at most
next        where to go on: ``next`` of the answer before, all else unchanged
times       in tables: ``iso`` (default) or ``unix``, seconds since 1970 as numbers
=========== ==================================================================================

With neither fields nor step the answer is whole records; with fields alone it is points, a row for
each record that has one of them. Steps are aligned to 1970-01-01T00:00:00Z, and a question with a
step is about whole steps: its range is widened to them. Fields are written as in
`edge_agent.values.field_paths`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.errors import ProtocolError
from edge_agent.history.keys import DAY_NS, HOUR_NS, MINUTE_NS
from edge_agent.values.field_paths import parse_paths
from edge_agent.values.filter import compile_filter
from edge_agent.values.moments import bad_query, parse_moment, parse_step
from edge_agent.values.record import TIME_NS_MAX, format_time

#: What roll-ups know.
ROLLED_UP = ("count", "min", "max", "mean", "sum", "first", "last", "stddev")
#: What needs every value.
FROM_VALUES = ("p50", "p95", "p99", "increase", "rate", "twmean")
AGGREGATES = ROLLED_UP + FROM_VALUES
PARAMETERS = (
    "stream", "fields", "from", "to", "step", "aggregate", "group", "fill", "filter", "order",
    "limit", "next", "times",
)  # fmt: skip
#: Parameters that only history understands.
OWN = frozenset({"fields", "step", "group", "fill", "order", "times"})
ROWS_DEFAULT, RECORDS_DEFAULT = 10_000, 1000
FIELDS_MAX = 32
#: One step over everything.
ALL_NS = 2**63
_NEXT = re.compile(r"(-?[0-9]{1,19}):([0-9]{1,9})")
#: What looks at the value before a step's first one.
_LOOKING_BACK = frozenset({"increase", "rate", "twmean"})


def no_history() -> ProtocolError:
    """The error where history is off."""
    return bad_query(
        f"{', '.join(sorted(OWN))}: only history answers these, and it is off (history.enabled)"
    )


class Question(Struct, frozen=True):
    """A question, its streams not chosen yet; see the module's docstring.

    ``step_ns`` 0: no step. ``skip``: rows at the very first time that an earlier answer had.
    """

    pattern: str
    fields: tuple[tuple[str, ...], ...]
    from_ns: int
    to_ns: int
    step_ns: int
    aggregates: tuple[str, ...]
    group: str
    fill: str
    filter: str
    newest_first: bool
    limit: int
    unix: bool = False
    skip: int = 0

    @property
    def kind(self) -> Literal["records", "points", "figures"]:
        """What the answer is made of."""
        return "figures" if self.step_ns else "points" if self.fields else "records"

    @property
    def span_ns(self) -> tuple[int, int]:
        """The range, widened to whole steps."""
        if not self.step_ns:
            return self.from_ns, self.to_ns
        unit = MINUTE_NS if self.step_ns == ALL_NS else self.step_ns
        return self.from_ns // unit * unit, -(-self.to_ns // unit) * unit

    @property
    def back_ns(self) -> int:
        """How far before a step the value before its first one may be; 0 where none is needed."""
        if not _LOOKING_BACK.intersection(self.aggregates):
            return 0
        return HOUR_NS if self.step_ns == ALL_NS else max(HOUR_NS, self.step_ns)


def is_about_history(parameters: Mapping[str, str]) -> bool:
    """Whether a question needs history: it asks for fields, steps or an order by time."""
    return bool(OWN & parameters.keys())


def parse_question(parameters: Mapping[str, str], now_ns: int, rows_max: int) -> Question:
    """The question that ``parameters`` ask.

    Raises:
        ProtocolError: ``bad_query``, which names the parameter and what was expected.
    """
    for name in parameters:
        if name not in PARAMETERS:
            raise bad_query(f"{name}: no such parameter; there are {', '.join(PARAMETERS)}")
    step_ns = _step(parameters.get("step", ""))
    for name in ("aggregate", "group", "fill"):
        if parameters.get(name) and not step_ns:
            raise bad_query(f'{name}: needs a step, e.g. "1m", or "all" for the whole range')
    to_ns = _moment(parameters.get("to") or "now", now_ns, "to")
    text = parameters.get("from")
    from_ns = _moment(text, now_ns, "from") if text else to_ns - HOUR_NS
    if from_ns >= to_ns:
        raise bad_query(
            f"from: expected a time before to, which is {format_time(to_ns)}"
            f"{'' if parameters.get('to') else ' (now, as it is not given)'},"
            f" got {format_time(from_ns)}"
        )
    wanted = parameters.get("filter", "").strip()
    if wanted:
        compile_filter(wanted)
    fields = parse_fields(parameters.get("fields", ""))
    newest_first = _one_of(parameters, "order", ("oldest", "newest")) == "newest"
    default = RECORDS_DEFAULT if not (fields or step_ns) else ROWS_DEFAULT
    question = Question(
        pattern=parameters.get("stream") or "**",
        fields=fields,
        from_ns=from_ns,
        to_ns=to_ns,
        step_ns=step_ns,
        aggregates=_aggregates(parameters.get("aggregate", "")) if step_ns else (),
        group=_group(parameters.get("group", "") or "stream"),
        fill=_fill(parameters.get("fill", "") or "none"),
        filter=wanted,
        newest_first=newest_first,
        limit=_limit(parameters.get("limit", ""), min(default, rows_max), rows_max),
        unix=_one_of(parameters, "times", ("iso", "unix")) == "unix",
    )
    return _continued(question, parameters.get("next", ""))


def parse_fields(text: str) -> tuple[tuple[str, ...], ...]:
    """Paths of fields, written with commas. Raises ProtocolError (``bad_query``)."""
    if not text.strip():
        return ()
    fields = tuple(dict.fromkeys(path.parts for path in parse_paths(text, most=FIELDS_MAX)))
    for own in ("time", "stream"):
        if (own,) in fields:
            raise bad_query(f"fields: {own} stands in front of them anyway; leave it out")
    return fields


def format_next(time_ns: int, given: int) -> str:
    """Where an answer ended: behind ``given`` rows of that time."""
    return f"{time_ns}:{given}"


def _step(text: str) -> int:
    text = text.strip()
    if text in ("", "all"):
        return ALL_NS if text else 0
    return parse_step(text, "1ms", "3660d", words=', or "all"')


def _moment(text: str, now_ns: int, what: str) -> int:
    midnight = now_ns // DAY_NS * DAY_NS
    if text == "today":
        return midnight
    if text == "yesterday":
        return midnight - DAY_NS
    # Measurements from before 1970 are kept, too.
    words = "'now', 'today', 'yesterday'"
    return parse_moment(text, now_ns, what=what, lowest_ns=-TIME_NS_MAX, words=words)


def _aggregates(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in AGGREGATES:
            raise bad_query(f"aggregate: {name[:60]!r} is none of {', '.join(AGGREGATES)}")
    return names or ("mean",)


def _one_of(parameters: Mapping[str, str], what: str, known: tuple[str, ...]) -> str:
    text = parameters.get(what) or known[0]
    if text not in known:
        raise bad_query(f"{what}: expected {' or '.join(known)}, got {text[:60]!r}")
    return text


def _group(text: str) -> str:
    if text in ("stream", "none") or (
        text.isascii() and text.isdigit() and 1 <= int(text[:3]) <= 99
    ):
        return text
    raise bad_query(
        f"group: expected stream, none or the number of a part of the name, got {text[:60]!r}"
    )


def _fill(text: str) -> str:
    if text not in ("none", "null", "previous"):
        try:
            known = isfinite(float(text))
        except ValueError:
            known = False
        if not known:
            raise bad_query(f"fill: expected none, null, previous or a number, got {text[:60]!r}")
    return text


def _limit(text: str, default: int, most: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
        raise bad_query(f"limit: expected 1 to {most} rows, got {text[:60]!r}")
    return int(text)


def _continued(question: Question, text: str) -> Question:
    if not text:
        return question
    found = _NEXT.fullmatch(text)
    if found is None or question.kind == "figures":
        raise bad_query(
            f"next: expected what an answer with records or points gave, got {text[:60]!r}"
        )
    time_ns, skip = int(found[1]), int(found[2])
    if not -TIME_NS_MAX <= time_ns < TIME_NS_MAX:
        raise bad_query(f"next: {text[:60]!r} is no time")
    bounds = {"to_ns": time_ns + 1} if question.newest_first else {"from_ns": time_ns}
    return replace(question, skip=skip, **bounds)
