"""This module judges what a line protocol server answers. Pure.

- **Taken** is 204 with no body: InfluxDB says so when the points are in its write-ahead log.
  VictoriaMetrics says so when it has them in memory, and also of lines that it drops. (200 would be
  anybody's: a portal, a wrong address. ``accept = "status"`` takes any 2xx.)
- **400 and 422 about content.** ``partial write`` means that all other lines were stored. Where it
  names a field and its type, the records that have it so are refused, and the others sent once
  more: of several fields, or parts of the database, it names one.
  What is older than the database keeps (``points beyond retention policy``) was dropped for good;
  it is counted. Otherwise the batch is halved until the bad records are found, which does no harm:
  a point that is sent again is the same point.
- **A limit or a name that a person has to change** (no such database or retention policy, too many
  series, no token) keeps everything, at the slow pace. Everything else is as in the HTTP sink.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from edge_agent.errors import SinkError, SinkUnavailable
from edge_agent.forward.run_columns import RunColumns
from edge_agent.forward.sinks.http.answer import HttpAnswer, judge
from edge_agent.forward.sinks.influx.lines import LineRenderer
from edge_agent.output.printable import printable

_CONFLICT: Final = re.compile(
    r'partial write: field type conflict: input field "(.*?)" on measurement "(.*?)"'
    r" is type (\w+), already exists as type \w+ dropped=(\d+)"
)
_TOO_OLD: Final = re.compile(r"partial write: points beyond retention policy dropped=(\d+)")
#: Sentences of 400 and 500 that are about the database, and not about what was sent.
_FOR_A_PERSON: Final = re.compile(
    r"database is required|retention policy not found|limit exceeded|database not found"
)
#: How a value begins or ends that is of a type, in InfluxDB's words for it.
_TYPES: Final[dict[str, Callable[[str], bool]]] = {
    "string": lambda text: text.startswith('"'),
    "boolean": lambda text: text in ("true", "false"),
    "integer": lambda text: text.endswith("i"),
    "unsigned": lambda text: text.endswith("u"),
    "float": lambda text: text[-1:] not in ("i", "u", '"') and text not in ("true", "false"),
}
_REASON_MAX: Final = 300


class _Words(msgspec.Struct):
    """InfluxDB 1 has an ``error``, InfluxDB 2 a ``message``."""

    error: str = ""
    message: str = ""


class Verdict(NamedTuple):
    """What an answer means: what to raise, or nothing; and how many records were dropped for good
    beside those that were taken, for what reason.
    """

    problem: SinkError | None = None
    dropped: int = 0
    reason: str = ""


def judge_lines(answer: HttpAnswer, key: str, wall_ns: int, accept: str) -> Verdict:
    """What ``answer`` says of a whole batch; the arguments are those of `judge`."""
    status, text = answer.status, _text(answer)
    if status in (400, 422) and (old := _TOO_OLD.search(text)):
        return Verdict(None, int(old[1]), f"HTTP {status}: {text}")
    if status in (400, 404, 422, 500) and _FOR_A_PERSON.search(text):
        return Verdict(SinkUnavailable(f"HTTP {status}: {text}", slow=True))
    if 200 <= status < 300 and status != 204 and accept != "status":
        message = f"HTTP {status}, but a line protocol server says 204 to what it took (a portal?)"
        return Verdict(SinkUnavailable(message))
    return Verdict(judge(answer, key, wall_ns, accept))


def named_by(
    answer: HttpAnswer, slices: Iterable[RunColumns], lines: LineRenderer
) -> dict[int, str]:
    """Records that a partial write dropped, each with the reason; none where it cannot be told."""
    text = _text(answer)
    if (conflict := _CONFLICT.search(text)) is None:
        return {}
    field, measurement, kind, dropped = conflict.groups()
    is_kind = _TYPES.get(kind)
    if is_kind is None:
        return {}
    found = [
        one.seq + n
        for one in slices
        if lines.measurement(one.stream) == measurement
        for n, fields in enumerate(one.fields)
        if (said := lines.texts(fields).get(field)) is not None and is_kind(said)
    ]
    # It counts those of other fields, too; where there are more, another shard may have taken some.
    if len(found) > int(dropped):
        return {}
    return dict.fromkeys(found, f"HTTP {answer.status}: {text}")


def _text(answer: HttpAnswer) -> str:
    """What it says: the sentence in its JSON, or all of it."""
    try:
        said = msgspec.json.decode(answer.body, type=_Words)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        text = answer.body[: 4 * _REASON_MAX].decode("utf-8", "replace").strip()
    else:
        text = said.error or said.message
    return printable(text)[:_REASON_MAX]
