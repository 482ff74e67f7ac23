r"""This module renders records as lines of InfluxDB's line protocol. Pure.

::

    greenhouse/2,agent=9b1d2c…,source=pi-7/bme280 t=21.7,door.open=false 1795341600250000017

**Fields.** Numbers as they are, true and false, text in quotes. Maps within the record are
flattened, their names joined by dots. What the protocol cannot say is left out: lists, bytes,
nothing (null), NaN, infinities, fields without a name. A record of which nothing is left is no
line, nor is one whose joined names would be longer than any record. An integer is written as a
float by default: InfluxDB refuses a field that was ``21.5`` once and is ``21i`` now, and sensors
that speak JSON send both. With ``integers`` it has its ``i`` (``u`` from 2^63 on).

**Names and tags.** Space, comma and equals sign get a backslash. A backslash in front of one of
these, of a quote or at the end cannot be said in the protocol and becomes a slash; line breaks,
tabs and other control characters become spaces.

**Times.** Points of one series with one time are one point to InfluxDB: the later one replaces
what the earlier one said. So the last digits of a time become digits of the record's number (its
seq in the log where it was stored first), which come out the same however often and by whomever
the record is sent:

- a time in whole milliseconds, and any that the agent gave: milliseconds stay, seq modulo
  1,000,000 becomes the nanoseconds;
- any other time, which a sensor gave: microseconds stay, seq modulo 1,000 becomes the rest.

Two records of one series whose numbers are less than 1,000 apart never get the same time. Those
further apart only do if they were measured in the same millisecond and their numbers agree in the
last three digits; and if both times are whole milliseconds, in the last six.

VictoriaMetrics keeps milliseconds and makes 0 of text: with ``victoria`` text is left out, and
times stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from math import isfinite
from typing import Any, Final, NamedTuple

import msgspec

from edge_agent.config import InfluxTable
from edge_agent.forward.run_columns import RunColumns, gathered
from edge_agent.values.record import datetime_to_ns, format_time

_SPECIAL: Final = re.compile(r"[,= ]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_UNSAYABLE: Final = re.compile(r'\\+(?=[,= "]|\Z)')
_MILLISECOND: Final = 1_000_000
#: Series that are remembered.
_KEPT_MAX: Final = 1000
#: In the JSON of a record: any value but a number, true or false, and any name with an escape. In
#: front of each what is there with it, where that is found missing in less time.
_NOT_PLAIN: Final = (("", "\\"), ("", ':"'), ("[", ":["), ("", ":{"), ("null", ":n"))
_CHUNK: Final = 1000
#: Each name is looked for in the text of a whole chunk: of more, fields are written one by one.
_NAMES_MAX: Final = 64
#: Of a record, joined names in all: InfluxDB takes keys of 64 KiB. A name of 30 KB above 3,000
#: values is 90 MB of names, of a record of 45 KB.
_PATHS_CHARACTERS_MAX: Final = 256 * 1024
_json: Final = msgspec.json.Encoder()


class Lines(NamedTuple):
    """What a batch became: lines without their breaks, and the seqs of the records of which nothing
    could be said.
    """

    lines: list[str]
    unsaid: list[int]


class LineRenderer:
    """Renders for one upstream; keeps what many records have in common.

    Args:
        table: how.
        agent: our id, for records that were stored here first.
        unit_ns: what times are written in.
    """

    def __init__(self, table: InfluxTable, agent: str, unit_ns: int = 1) -> None:
        self._table, self._agent, self._unit_ns = table, agent, unit_ns
        self._unique = table.unique_times and not table.victoria
        self._heads: dict[tuple[str, str, str], str] = {}

    def render(self, slices: Iterable[RunColumns]) -> Lines:
        """A line for each record of which something can be said."""
        done = Lines([], [])
        for some in gathered(slices, _CHUNK, _CHUNK):
            # One look at the fields of all of them: many runs have a single record.
            said = iter(self._plain_fields([one for each in some for one in each.fields]))
            for one in some:
                self._render(one, [*islice(said, len(one.fields))], done)
        return done

    def _render(self, one: RunColumns, plain: list[str | None], done: Lines) -> None:
        kind = one.stream, one.source, one.origin
        head = self._heads.get(kind) or self._head(kind)
        add = done.lines.append
        for n, (said, time) in enumerate(zip(plain, self._times(one), strict=True)):
            if said:
                add(f"{head} {said} {time}")
                continue
            fields, tags = one.fields[n], ""
            if said is None and _is_sayable(fields):
                said, tags = self._said(fields), self._tags_of(fields)
            if said:
                add(f"{head}{tags} {said} {time}")
            else:
                done.unsaid.append(one.seq + n)

    def _plain_fields(self, fields: Sequence[dict[str, Any]]) -> Sequence[str | None]:
        """The fields of each record as they stand in its line; None for what `_said` looks at.

        Of records that hold numbers, true and false alone the text is that of their JSON, but for
        braces and what stands around names. A C library makes it for all of them at once.
        """
        careful: list[str | None] = [None] * len(fields)
        names = set[str]().union(*fields)
        if self._table.integers or "" in names or len(names) > _NAMES_MAX:
            return careful
        try:
            text = _json.encode_lines(fields).decode()
        except (TypeError, ValueError, RecursionError):
            return careful
        # One look at all of them tells most chunks apart.
        lines, places = [text[:-1]], list[int]()
        if mixed := not _is_plain(text):
            lines = text.split("\n")[:-1]
            places = [n for n, line in enumerate(lines) if _is_plain(line)]
            lines = [lines[n] for n in places]
        joined = "\n".join(lines)
        if all(_escaped(name) == name and name[0] != ":" for name in names):
            joined = joined.replace('":', "=").replace('"', "")
        else:
            for name in names:
                joined = joined.replace(f'"{name}":', f"{_escaped(name)}=")
        said = joined[1:-1].split("}\n{")
        if not mixed:
            return said
        for n, one in zip(places, said, strict=False):
            careful[n] = one
        return careful

    def measurement(self, stream: str) -> str:
        """What a stream's measurement is called."""
        return self._table.measurement.replace("{stream}", stream)

    def texts(self, fields: dict[str, Any]) -> dict[str, str]:
        """The fields of a record by their plain names, as their values stand in its line."""
        if not _is_sayable(fields):
            return {}
        return {name: text for name, text in self._flat(fields, "") if text is not None}

    def _times(self, one: RunColumns) -> list[int]:
        if not self._unique:
            return [time_ns // self._unit_ns for time_ns, _ in one.times]
        return [
            time_ns - time_ns % _MILLISECOND + number % _MILLISECOND
            if quality != "sensor" or not time_ns % _MILLISECOND
            else time_ns - time_ns % 1000 + number % 1000
            for number, (time_ns, quality) in enumerate(one.times, one.number)
        ]

    def _head(self, kind: tuple[str, str, str]) -> str:
        stream, source, origin = kind
        known = {"agent": origin or self._agent, "source": source, "stream": stream}
        head = _escaped(self.measurement(stream))
        head += "".join(f",{tag}={_escaped(known[tag])}" for tag in sorted(self._table.tags))
        if len(self._heads) >= _KEPT_MAX:
            self._heads.clear()
        self._heads[kind] = head
        return head

    def _said(self, fields: dict[str, Any]) -> str:
        tags = self._table.tag_fields
        return ",".join(
            f"{_escaped(name)}={text}"
            for name, text in self._flat(fields, "")
            if text is not None and not (name in tags and text.startswith('"'))
        )

    def _tags_of(self, fields: dict[str, Any]) -> str:
        """The fields that are tags: text alone, as every other value of one would be a series."""
        if not self._table.tag_fields:
            return ""
        found = {
            name: value
            for name, value in _leaves(fields, "")
            if name in self._table.tag_fields and isinstance(value, str) and value
        }
        return "".join(f",{_escaped(name)}={_escaped(found[name])}" for name in sorted(found))

    def _flat(self, fields: dict[str, Any], before: str) -> Iterator[tuple[str, str | None]]:
        for name, value in _leaves(fields, before):
            yield name, self._text(value) if name else None

    def _text(self, value: object) -> str | None:
        """A field's value as it stands in a line; None for what cannot be said."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            if not self._table.integers:
                return str(value)
            return f"{value}i" if value < 2**63 else f"{value}u"
        if isinstance(value, float):
            return repr(value) if isfinite(value) else None
        if isinstance(value, datetime):
            value = format_time(datetime_to_ns(value))
        if isinstance(value, str) and not self._table.victoria:
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return None


def _is_plain(text: str) -> bool:
    return not any(sign in text and mark in text for sign, mark in _NOT_PLAIN)


def _is_sayable(fields: dict[str, Any]) -> bool:
    """Whether the names of what is nested are not too long once they are joined."""
    return _characters_above(fields, 0) <= _PATHS_CHARACTERS_MAX


def _characters_above(fields: dict[str, Any], above: int) -> int:
    """What joined names of values have in front of these names, ``above`` for each of them."""
    return above * len(fields) + sum(
        _characters_above(value, above + len(f"{name}") + 1)
        for name, value in fields.items()
        if isinstance(value, dict)
    )


def _leaves(fields: dict[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    """What is no map, with the names on the way to it joined by dots."""
    for name, value in fields.items():
        path = f"{before}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _escaped(name: str) -> str:
    """A name or a tag's value."""
    name = _UNSAYABLE.sub(lambda found: "/" * len(found[0]), _CONTROL.sub(" ", name))
    return _SPECIAL.sub(r"\\\g<0>", name)
