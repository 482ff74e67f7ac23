"""Which fields a stream has numbers of, where a question about figures does not name any."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.history.answers.reading import View
from edge_agent.history.format.rollup import all_cells_of, records_in
from edge_agent.history.format.segment import HistorySegment, Path, column_of, paths_of
from edge_agent.history.keys import DAY_NS, HOURS, MINUTES, MONTH_DAYS, MONTHS


def fields_of_stream(view: View, stream: str, number: int, from_ns: int, to_ns: int) -> list[Path]:
    """Fields of a stream that have numbers: those of its newest hours in the range."""
    found: dict[Path, None] = {}
    for _, segment in view.tail.get(stream, ()):
        found.update(
            dict.fromkeys(path for path in paths_of(segment) if _has_numbers(segment, path))
        )
    looked = 0
    for newest in (_fields_of_hours, _fields_of_days):
        for paths in newest(view, number, from_ns, to_ns):
            found.update(dict.fromkeys(paths))
            looked += 1
            if looked >= 4:
                break
    return list(found)


def _fields_of_hours(view: View, number: int, from_ns: int, to_ns: int) -> Iterator[list[Path]]:
    """The fields that a stream has by minute, hour by hour, the newest first."""
    for hour in reversed(view.buckets(MINUTES, from_ns, to_ns)):
        rollups = view.rollups(MINUTES, number, hour)
        if rollups:
            yield [path for one in rollups for path in one.paths]


def _fields_of_days(view: View, number: int, from_ns: int, to_ns: int) -> Iterator[list[Path]]:
    """The same by hour, day by day."""
    days = view.buckets(HOURS, from_ns, to_ns)
    months = {*view.buckets(MONTHS, from_ns, to_ns), *(day // MONTH_DAYS for day in days)}
    first, behind = from_ns // DAY_NS, -(-to_ns // DAY_NS)
    for month in sorted(months, reverse=True):
        joined: dict[int, list[Path]] = {}
        for rollup in view.rollups(MONTHS, number, month):
            for day in {start // DAY_NS for start in records_in(rollup).starts}:
                joined.setdefault(day, [])
            for path, cells in all_cells_of(rollup, needs=frozenset()):
                for day in {start // DAY_NS for start in cells.starts}:
                    joined[day].append(path)
        begin, end = month * MONTH_DAYS, (month + 1) * MONTH_DAYS
        for day in reversed(range(max(first, begin), min(behind, end))):
            rollups = view.rollups(HOURS, number, day)
            if rollups or day in joined:
                yield joined.get(day, []) + [path for one in rollups for path in one.paths]


def _has_numbers(segment: HistorySegment, path: Path) -> bool:
    return any(True for _ in column_of(segment, path))
