"""A history made of records, without an agent; and answers computed from the same records by hand.

`Made` puts records into a tail and flushes it when told, as the digester does. `Plain` is a record
as the tests know it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from edge_agent.digest.file import HistoryFile
from edge_agent.digest.history import HistoryWriter, Keep
from edge_agent.digest.owner import HistoryOwner
from edge_agent.digest.tail import segments_of
from edge_agent.history import Way, parse_question, read_header
from edge_agent.history.answers.answer import Answer
from edge_agent.history.answers.reading import View
from edge_agent.history.keys import DAY_NS, HOUR_NS
from edge_agent.values.stream_names import compile_pattern

#: Some moment, at the start of a day: 2026-03-02.
START_NS = 1_772_409_600 * 1_000_000_000
NOW_NS = START_NS + 40 * DAY_NS
_LONG = Keep(1_000_000 * HOUR_NS, 1_000_000 * HOUR_NS, 1_000_000 * HOUR_NS)


@dataclass(frozen=True)
class Plain:
    """One record."""

    stream: str
    time_ns: int
    fields: dict[str, Any]
    seq: int = 0

    @property
    def order(self) -> tuple[int, str, int]:
        return self.time_ns, self.stream, self.seq


WAY = Way("main", "pi", "sensor", True, False)


@dataclass
class Made:
    """A history in ``folder``."""

    folder: Path
    history: HistoryWriter
    records: list[Plain] = field(default_factory=list)
    way: Way = WAY

    def put(self, records: Iterable[Plain]) -> None:
        """Take records, numbered as they come."""
        for record in records:
            seq = len(self.records) + 1
            self.records.append(Plain(record.stream, record.time_ns, record.fields, seq))
            kept = self.history.tail.of(record.stream)
            assert kept is not None
            rows = kept.rows
            rows.times.append(record.time_ns)
            rows.seqs.append(seq)
            rows.source_seqs.append(seq)
            rows.way_of.append(rows.way(self.way))
            rows.fields.append(record.fields)
            self.history.tail.added(1)
            if len(rows) >= 128:
                self.history.tail.settle(kept)

    def flush(self, now_ns: int = NOW_NS) -> None:
        """Write the tail, and make hours of days that are over."""
        *_, flush = self.history.flush(now_ns)
        assert flush is not None
        self.history.file.write(flush)
        self.history.flushed()

    @contextmanager
    def view(self, streams: Sequence[str], from_ns: int, to_ns: int) -> Iterator[View]:
        tail = {}
        for name in streams:
            kept = self.history.tail.streams.get(name)
            if kept is not None and (found := segments_of(kept, from_ns, to_ns)):
                tail[name] = found
        # The process that answers opens the file itself, which one process cannot do twice.
        with self.history.file._begin() as txn:
            yield View(txn, read_header(txn), tail, lambda: None)

    def text(self, form: str = "json", **asked: object) -> bytes:
        """An answer; ``from_`` and ``to`` may be ns."""
        return b"".join(self._pieces(form, asked))

    def pieces(self, **asked: object) -> list[bytes]:
        """An answer in parts."""
        return self._pieces("parts", asked)

    def _pieces(self, form: str, asked: dict[str, object]) -> list[bytes]:
        parameters = {name.rstrip("_"): _moment(value) for name, value in asked.items()}
        question = parse_question(parameters, NOW_NS, 1_000_000)
        matches = compile_pattern(question.pattern)
        file = self.history.file
        names = sorted(s for s in {*file.numbers, *self.history.tail.streams} if matches(s))
        from_ns, to_ns = question.span_ns
        with self.view(names, from_ns - question.back_ns, to_ns) as view:
            streams = [(name, file.numbers.get(name, 0)) for name in names]
            return list(Answer(view, question, streams).pieces(form))

    def json(self, **asked: object) -> Any:
        return json.loads(self.text("json", **asked))

    def table(self, **asked: object) -> list[dict[str, Any]]:
        """The rows as maps, times as seconds."""
        answer = self.json(times="unix", **asked)
        return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


def _moment(value: object) -> str:
    if isinstance(value, int) and value > 10**12:
        return f"{value // 10**9}.{value % 10**9:09}"
    return str(value)


@contextmanager
def made(folder: Path) -> Iterator[Made]:
    file, told = HistoryFile.open(folder, 64 << 20, HistoryOwner("0" * 12, "e"))
    assert not told
    try:
        yield Made(folder, HistoryWriter(file, _LONG))
    finally:
        file.close()


def at(fields: Any, path: Sequence[str]) -> Any:
    for part in path:
        fields = fields.get(part) if isinstance(fields, dict) else None
    return fields


def is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and isfinite(value))


def values_by_step(
    records: Iterable[Plain], path: Sequence[str], step_ns: int, from_ns: int, to_ns: int
) -> Mapping[int, list[tuple[int, float]]]:
    """Time and value of every number, by start of the step, by time."""
    found: dict[int, list[tuple[int, float]]] = {}
    for one in sorted(records, key=lambda one: one.time_ns):
        value = at(one.fields, path)
        if from_ns <= one.time_ns < to_ns and is_number(value):
            start = one.time_ns // step_ns * step_ns
            found.setdefault(start, []).append((one.time_ns, value))
    return found
