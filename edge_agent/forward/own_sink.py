"""A sink that another package brings, kept within bounds.

Its ``make`` is found by an entry point (``config/packages.py``) and imported when the first sink is
made: what is wrong with it then is an error of the configuration, with the package's name. Later
nothing that it raises ends more than the attempt: whatever is no `SinkError` becomes
`SinkUnavailable`, also where it comes out of a task that the sink has started. ``aclose`` is given
`CLOSE_S` seconds.

What cannot be kept within bounds is code that blocks: it holds up the whole agent
(docs/own-sink.md).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TypeVar

import trio

from edge_agent.config import distribution_of, shown_url, sink_package
from edge_agent.errors import ConfigError, SinkError, SinkUnavailable
from edge_agent.forward.sink import (
    CLOSE_S,
    Acknowledged,
    Batch,
    LaneResume,
    Resumed,
    Sink,
    SinkParts,
)
from edge_agent.supervise import in_a_word

logger = logging.getLogger(__name__)
T = TypeVar("T")


def own_sink(parts: SinkParts) -> Sink:
    """The sink that a package makes for the scheme of this upstream.

    Raises:
        ConfigError: the package cannot be loaded, or its ``make`` fails or gives no sink.
    """
    upstream = parts.upstream
    at = f"upstream {upstream.name}: url"
    entry = sink_package(upstream.scheme)
    if entry is None:
        expected = f"an installed package for {upstream.scheme}://"
        raise ConfigError(at, expected, shown_url(upstream.url))
    whose = distribution_of(entry)
    expected = f"a sink from {entry.value} of {whose}"
    try:
        made = entry.load()(parts)
    except ConfigError:
        raise
    except Exception as error:  # Whatever a stranger's code raises; it is told as what it is.
        raise ConfigError(at, expected, f"that it fails: {in_a_word(error)}") from error
    lacking = [name for name in _WANTED if not hasattr(type(made), name)]
    if lacking:
        raise ConfigError(at, expected, f"one without {', '.join(lacking)}")
    return GuardedSink(made, whose)


#: What a sink has; see `Sink`.
_WANTED = ("keyed", "open", "send", "settle", "drained", "aclose")


class GuardedSink:
    """A sink whose mistakes are failures of its upstream; ``whose`` it is, for the journal."""

    def __init__(self, sink: Sink, whose: str) -> None:
        self._sink, self._whose = sink, whose

    @property
    def keyed(self) -> bool:
        """As the sink says."""
        return bool(self._sink.keyed)

    async def open(self, nursery: trio.Nursery, resume: LaneResume) -> Resumed:
        """As the sink does; its tasks run in a nursery whose failures are told as ours are.

        Raises:
            SinkUnavailable: not now.
        """
        its_own: trio.Nursery = await nursery.start(self._keep)
        resumed = await self._guarded(self._sink.open(its_own, resume))
        if not isinstance(resumed, Resumed):
            raise SinkUnavailable(f"{self._whose}: open() gave no Resumed")
        return resumed

    async def send(self, batch: Batch) -> Acknowledged:
        """As the sink does.

        Raises:
            SinkUnavailable, SinkRefused: as `Sink.send`.
        """
        return self._believed(await self._guarded(self._sink.send(batch)), batch.last)

    async def settle(self, floor: int) -> Acknowledged:
        """As the sink does."""
        return self._believed(await self._guarded(self._sink.settle(floor)), None)

    @property
    def drained(self) -> bool:
        """As the sink says; it is asked when the agent stops, which must not fail."""
        try:
            return bool(self._sink.drained)
        except Exception:
            logger.exception("%s: drained failed", self._whose)
            return True

    async def aclose(self) -> None:
        """As the sink does, within `CLOSE_S` seconds."""
        with trio.move_on_after(CLOSE_S):
            try:
                await self._sink.aclose()
            except Exception:
                logger.exception("%s: aclose() failed", self._whose)

    async def _guarded(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except SinkError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SinkUnavailable:
        logger.error("%s: the sink failed", self._whose, exc_info=error)
        return SinkUnavailable(f"{self._whose}: {in_a_word(error)}", obstacle="here")

    def _believed(self, said: object, last: int | None) -> Acknowledged:
        """What it acknowledges, as far as that is possible."""
        if not isinstance(said, Acknowledged):
            raise SinkUnavailable(f"{self._whose}: expected Acknowledged, got {said!r:.60}")
        if last is not None and said.upto > last:
            text = f"{self._whose}: {said.upto} is acknowledged, which was never sent"
            raise SinkUnavailable(text)
        return said

    async def _keep(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """A nursery for the sink's tasks."""
        failures: list[Exception] = []
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(nursery)
                await trio.sleep_forever()
        except* SinkError:
            raise
        except* Exception as group:  # noqa: BLE001 - told as a failure of the upstream
            failures += group.exceptions
        if failures:
            raise self._failed(failures[0]) from failures[0]
