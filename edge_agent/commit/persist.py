"""Repeats a call into the store for as long as the disk refuses it.

`Persistence.call` runs one blocking function of the store. When the disk refuses (`StoreFailed`:
EIO, a read-only remount, no space outside the reserved file), it pauses, reopens the store and
calls again with the same arguments, for as long as it takes: the caller never sees StoreFailed, and
health tells people why everything waits (``trouble``). Meanwhile the store is open for reading,
where it can be. `accounts.py` counts what a call did.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from edge_agent.errors import StoreFailed
from edge_agent.metrics import Metrics
from edge_agent.store import CommitResult, Entry

logger = logging.getLogger(__name__)

#: Pauses between attempts to reopen grow up to this, in seconds.
REOPEN_SECONDS_MAX = 60.0

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Trace = Callable[[str, Mapping[str, object]], None]
"""Is told of events with their facts, by simulations that compare two runs."""


class RunBlocking(Protocol):
    """Calls a function that may block, elsewhere than in the event loop's thread.

    ``trio.to_thread.run_sync`` in production, which does not abandon the thread when cancelled,
    so that the outcome of a commit is always known; a plain call in simulations.
    """

    def __call__(self, sync_fn: Callable[[*Ts], T], /, *args: *Ts) -> Awaitable[T]:
        """``sync_fn(*args)``, its result or its exception."""
        ...


class CommitStore(Protocol):
    """What the committer needs of the store; `edge_agent.store.Engine` is one."""

    @property
    def refusal(self) -> str | None:
        """Why nothing is written at present, until `reopen`; None where all is well."""
        ...

    def commit(self, entries: Sequence[Entry]) -> CommitResult:
        """All entries in one transaction, synced when this returns. StoreFailed if refused."""
        ...

    def trim(self) -> CommitResult:
        """One pass of retention."""
        ...

    def reopen(self) -> None:
        """Close and open again after StoreFailed."""
        ...


class Persistence:
    """The store, as one caller at a time sees it.

    Attributes:
        trouble: why the disk refuses at present, a sentence; None while it does not.
        calling_since: when the present call began, on Trio's clock; None without one. Pauses
            between attempts are not calls.
    """

    def __init__(
        self,
        engine: CommitStore,
        run_blocking: RunBlocking,
        *,
        metrics: Metrics,
        trace: Trace | None,
        reopen_after: float,
    ) -> None:
        # A store whose disk refuses may have been opened all the same, for reading.
        self.trouble = engine.refusal
        if self.trouble is not None:
            logger.error("the disk refuses, nothing is taken: %s", self.trouble)
        self.calling_since: float | None = None
        self._engine = engine
        self._run_blocking = run_blocking
        self._metrics = metrics
        self._trace = trace
        self._reopen_after = reopen_after

    async def call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """``function(*args)``, after as many reopenings as it takes."""
        pause = self._reopen_after
        while True:
            try:
                if self.trouble is not None:
                    await self._timed(self._engine.reopen)
                result = await self._timed(function, *args)
            except StoreFailed as failure:
                self._note_failure(failure, pause)
            else:
                if self.trouble is not None:
                    self._note_recovery()
                return result
            await trio.sleep(pause)
            pause = min(2 * pause, REOPEN_SECONDS_MAX)

    async def _timed(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        self.calling_since = trio.current_time()
        try:
            return await self._run_blocking(function, *args)
        finally:
            self.calling_since = None

    def _note_failure(self, failure: StoreFailed, pause: float) -> None:
        self._metrics.add("store_failures_total")
        if self.trouble is None:
            # Once per trouble, not per attempt: a dead card must not fill the journal.
            logger.error("the disk refuses: %s; reopening the store in %.3g s", failure, pause)
        self.trouble = str(failure)
        if self._trace is not None:
            self._trace("store_failed", {"message": str(failure), "pause": pause})

    def _note_recovery(self) -> None:
        logger.warning("the disk takes writes again")
        self.trouble = None
        if self._trace is not None:
            self._trace("store_reopened", {})
