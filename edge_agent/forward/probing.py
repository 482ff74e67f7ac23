"""The trial of an upstream, told to a person: one sentence for each step, good or bad.

The steps before a connection is there (name, connection, certificate, token) are the same for all
kinds and are in ``cli/doctor/network.py``. What only a kind knows is asked by the function
``probe`` of its module, where it has one: ``async def probe(parts, size) -> list[ProbeStep]``. It
sends one record of about ``size`` bytes, made for this, and touches no position.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import shake_256
from typing import Any

import trio

from edge_agent.config import Upstream
from edge_agent.errors import SinkError
from edge_agent.forward.sink import LaneResume, Sink
from edge_agent.system.clock import Clock
from edge_agent.values.record import Record

#: The stream that a record is said to be of which was made to try an upstream out.
PROBE_STREAM = "edge-agent/probe"


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One step: ``what`` was tried, whether it went well, and what came back."""

    what: str
    good: bool
    told: str


def probe_record(wall_ns: int, size: int, *, synced: bool) -> Record:
    """A record made for trying out, of about ``size`` bytes that do not compress."""
    fields: dict[str, Any] = {"probe": True}
    if size > 64:
        fields["padding"] = shake_256(b"edge-agent").hexdigest(size // 2)
    return Record(
        "probe", 1, PROBE_STREAM, wall_ns, "arrival", wall_ns, synced, "edge-agent", 0, fields
    )


def probed_log(upstream: Upstream) -> str:
    """A log that the far side knows, where it knows logs by their names."""
    return (upstream.logs or ("main",))[0]


async def probe_by_sending(
    what: str, clock: Clock, size: int, send: Callable[[Record], Awaitable[str]]
) -> list[ProbeStep]:
    """The step ``what``: a record of about ``size`` bytes, made for this, is sent. ``send`` says
    what came back, or raises a SinkError.
    """
    now = clock.read()
    told: list[ProbeStep] = []
    try:
        said = await send(probe_record(now.wall_ns, size, synced=now.synced))
        told.append(ProbeStep(what, True, said))
    except* SinkError as group:
        told.append(ProbeStep(what, False, str(_first(group))))
    return told


async def probe_by_opening(sink: Sink) -> list[ProbeStep]:
    """For kinds that say nothing themselves: whether the sink gets ready to send. Nothing is sent.

    One that agrees on numbers with its upstream is left alone: that would change them.
    """
    if not sink.keyed:
        await trio.lowlevel.checkpoint()
        return []
    told: list[ProbeStep] = []
    try:
        async with trio.open_nursery() as nursery:
            await sink.open(nursery, LaneResume(0, 1, 0, None))
            nursery.cancel_scope.cancel()
    except* SinkError as group:
        told.append(ProbeStep("opening", False, str(_first(group))))
    finally:
        await sink.aclose()
    return told or [ProbeStep("opening", True, "it is ready to be sent to")]


def _first(group: BaseExceptionGroup[SinkError]) -> SinkError:
    error: SinkError | BaseExceptionGroup[SinkError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
