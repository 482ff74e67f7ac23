"""Records that a rule derives: one for each closed window.

- Stream: the rule's ``into`` with ``{stream}`` put in, by default ``$rule/NAME/{stream}``. A name
  too long to be one is cut and made unique again. Source: ``$rule/NAME``. Time: the window's start.
- Fields: those of `Summary.flat`, and ``of``, the stream, where ``into`` has no ``{stream}`` that
  tells it. ``clock_unset`` is true, and there at all, where the window is one by a clock of ours
  that was not set: its time is none then.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgpack

from edge_agent.clock import Reading
from edge_agent.config import Rule
from edge_agent.live.window_state import ClosedWindow
from edge_agent.record import NANOSECONDS, Run, as_sent
from edge_agent.stream_names import STREAM_BYTES_MAX


def derived_source(rule: str) -> str:
    """The source of what a rule derives, which is how derived records are told."""
    return f"$rule/{rule}"


def derived_stream(into: str, stream: str) -> str:
    """``into`` with ``{stream}`` put in; ``$`` stays in front of a name only."""
    name = into.replace("{stream}", stream.removeprefix("$"))
    if len(name) > STREAM_BYTES_MAX:
        name = f"{name[: STREAM_BYTES_MAX - 9].rstrip('/')}-{zlib.crc32(name.encode()):08x}"
    return name


def derived_runs(closed: Sequence[ClosedWindow], rule: Rule, now: Reading) -> tuple[Run, ...]:
    """The windows as runs to append, one for each derived stream, windows in order."""
    source = derived_source(rule.name)
    into = rule.into or source + "/{stream}"
    by_stream: dict[str, list[ClosedWindow]] = {}
    for window in closed:
        by_stream.setdefault(derived_stream(into, window.stream), []).append(window)
    return tuple(
        Run(
            stream=stream,
            source=source,
            source_seq=0,
            arrival_ns=now.wall_ns,
            synced=now.synced,
            count=len(windows),
            body=b"".join(_body(window, tell_stream="{stream}" not in into) for window in windows),
            time_min_ns=min(window.start_ns for window in windows),
            time_max_ns=max(window.start_ns for window in windows),
        )
        for stream, windows in by_stream.items()
    )


def _body(window: ClosedWindow, *, tell_stream: bool) -> bytes:
    start = msgpack.Timestamp(*divmod(window.start_ns, NANOSECONDS))
    record: dict[str, object] = {"time": as_sent(window.start_ns, start)}
    if tell_stream:
        record["of"] = window.stream
    if window.clock_unset:
        record["clock_unset"] = True
    for field, summary in window.fields.items():
        record |= summary.flat(field)
    body: bytes = msgpack.packb(record)
    return body
