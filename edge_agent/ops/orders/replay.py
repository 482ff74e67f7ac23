"""Reads quarantined records again, which a changed limit, rule or name may have made usable.

What was sent goes through the same reading as a fresh message of its stream and source, at the time
at which it arrived, and through the rules. What comes of it is stored in the entry that takes it
out of quarantine, so that a power cut leaves one or the other. It gets no number: its source's
numbering has gone on.

Not everything can be read again. Quarantine keeps 4 KiB; of a larger message the rest is gone. What
an *upstream* refused was stored here all along and is only missing there: it is sent again
(``send_again.py``). A block of another agent belongs to that agent's numbering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.live import Before, TimeKeyOf
from edge_agent.record import Run
from edge_agent.store import QUARANTINE_BYTES_MAX, Entry, Quarantined
from edge_agent.wire import Arrival, WireLimits, read_messages


@dataclass(frozen=True, slots=True)
class Replayed:
    """What reading an entry again came to: ``entry`` to append, or None and ``problem``."""

    entry: Entry | None
    records: int
    problem: str = ""


def replay(
    number: int,
    item: Quarantined,
    limits: WireLimits,
    before: Before,
    time_key: TimeKeyOf | None = None,
) -> Replayed:
    """Read one quarantined item again; ``number`` is its place in quarantine."""
    if item.source.startswith("$forward/"):
        return Replayed(None, 0, "another agent sent it, in a numbering that has gone on")
    arrival = Arrival(item.stream, item.source, item.arrival_ns, synced=True, time_key=time_key)
    received = read_messages([_as_sent(item.body)], 0, arrival, limits)
    if received.failure is None and not received.rejects:
        return _kept(number, received.runs, before)
    if received.failure is not None:
        problem = received.failure.message
    else:
        problem = received.rejects[0].message
    if len(item.body) >= QUARANTINE_BYTES_MAX:
        problem = f"only its first {QUARANTINE_BYTES_MAX} bytes were kept"
    return Replayed(None, 0, problem)


def _kept(number: int, runs: Sequence[Run], before: Before) -> Replayed:
    kept = tuple(run for each in runs for run in before(each))
    return Replayed(Entry(runs=kept, released=(number,)), sum(run.count for run in kept))


def _as_sent(body: bytes) -> str | bytes:
    """The message as it came: how is not kept, but JSON begins with ASCII, and of msgpack only a
    bare small number does, for which nobody was ever put into quarantine.
    """
    try:
        return body.decode() if body[:1] < b"\x80" else body
    except UnicodeDecodeError:
        return body
