"""The list of streams as ``/api/streams`` shows it, and last values as metrics.

A list of ten thousand streams with sparklines is megabytes, so that it is made and sent piece by
piece.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from edge_agent.ops.streams import Directory, Seen
from edge_agent.values.record import NANOSECONDS, format_time
from edge_agent.values.stream_names import compile_patterns

logger = logging.getLogger(__name__)

_PIECE_STREAMS = 100
#: Of last values in one answer: a Prometheus that is fed more by each of a hundred boards suffers.
SERIES_MAX = 1_000


def stream_pieces(directory: Directory, listing: Sequence[tuple[str, Seen]]) -> Iterator[bytes]:
    """The answer as JSON, in pieces."""
    yield b'{"streams":['
    for begin in range(0, len(listing), _PIECE_STREAMS):
        part = listing[begin : begin + _PIECE_STREAMS]
        told = (msgspec.json.encode(told_stream(directory, *one)) for one in part)
        yield (b"," if begin else b"") + b",".join(told)
    rest = {
        "since": directory.since,
        "skipped": directory.skipped,
        "forgotten": directory.forgotten,
        "values_forgotten": directory.last.forgotten,
    }
    yield b"]," + msgspec.json.encode(rest)[1:] + b"\n"


def told_stream(directory: Directory, name: str, seen: Seen) -> dict[str, Any]:
    """One stream as it is shown; what its newest record says is empty where it is not known."""
    last = directory.last_of(name)
    return {
        "stream": name,
        "log": seen.log,
        "records": seen.records,
        "last_seq": seen.last_seq,
        "last_stored": format_time(seen.stored_ns),
        "source": seen.source,
        "undated": seen.undated,
        "rate": round(directory.rate(seen), 3),
        "time": None if last is None else format_time(last.time_ns),
        "time_quality": None if last is None else last.trust,
        "last": {} if last is None else last.numbers,
        "words": {} if last is None else dict(last.words),
        "spark_field": None if last is None else last.spark_field or None,
        "spark": [] if last is None else list(last.spark),
    }


class Exposed:
    """Last values as metrics, of the streams that ``patterns`` select (``http.expose``)."""

    def __init__(self, directory: Directory, patterns: Sequence[str]) -> None:
        self._directory = directory
        self._patterns = patterns
        self._matches = compile_patterns(patterns)
        self._is_told = False

    def samples(
        self, may_read: Callable[[str], bool], now_ns: int
    ) -> list[tuple[str, tuple[str, ...], float]]:
        """Name of the metric, labels and value, as far as they may be read; ``now_ns`` dates them.

        Streams in order of their names, each whole or not at all, so that the same are shown each
        time.
        """
        if not self._patterns:
            return []
        found: list[tuple[str, tuple[str, ...], float]] = []
        left_out = 0
        listing = self._directory.listing(lambda name: self._matches(name) and may_read(name))
        for name, seen in listing:
            last = self._directory.last_of(name)
            if last is None or not last.names:
                continue
            if len(found) + 1 + len(last.names) > SERIES_MAX:
                left_out += 1 + len(last.names)
                continue
            age_s = max(0, now_ns - seen.stored_ns) / NANOSECONDS
            found.append(("stream_age_seconds", (name,), age_s))
            found += [("stream_value", (name, path), value) for path, value in last.told()]
        if left_out and not self._is_told:
            self._is_told = True
            logger.warning(
                "http.expose selects more than %d series; %d are left out of /metrics:"
                " name the streams more narrowly",
                SERIES_MAX,
                left_out,
            )
        return [*found, ("stream_series_left_out", (), left_out)]
