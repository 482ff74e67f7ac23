"""This module runs the forwarders of all upstreams beside one another, and lets them come and go.

Each is on its own: what one of them waits for, and how it ends, touches no other. The configuration
may change while they run (`edge_agent.forward.reload`): whose settings are the same is not
interrupted; who is gone or has changed finishes what is on its way, and the changed one begins
again from its position.

What only a removed upstream held is free with that: retention waits for those that are configured.
Its position stays, so that it goes on from there if it comes back; `edge-agent consumer forget`
removes that, too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import trio

from edge_agent.config import UPSTREAM, Upstream
from edge_agent.errors import StoreError
from edge_agent.forward.forwarder import Forwarder, ForwarderStatistics
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.lanes.resend import Resend
from edge_agent.log import Log
from edge_agent.store import Entry, whole_consumer

logger = logging.getLogger(__name__)


class _OneUpstream:
    """A forwarder that runs, and how it is ended."""

    def __init__(self, upstream: Upstream, forwarder: Forwarder) -> None:
        self.upstream, self.forwarder = upstream, forwarder
        self._scope, self._done = trio.CancelScope(), trio.Event()

    async def run(self) -> None:
        with self._scope:
            await self.forwarder.run()
        self._done.set()

    async def end(self, within_s: float) -> None:
        """Let what is on its way arrive, at most for so long."""
        self.forwarder.stop()
        with trio.move_on_after(within_s):
            await self._done.wait()
        self._scope.cancel("its time to finish is over")
        await self._done.wait()


class Upstreams:
    """See the module.

    Args:
        configured: the upstreams.
        make: the forwarder of one; raises ConfigError where there cannot be one.
        keep_for: is told for which upstreams records are kept, before those that are new begin.
        log: the waist.
        drain_s: how long one that goes may finish what is on its way.
    """

    def __init__(
        self,
        configured: Sequence[Upstream],
        make: Callable[[Upstream], Forwarder],
        keep_for: Callable[[Sequence[Upstream]], None],
        log: Log,
        drain_s: float,
    ) -> None:
        self._make, self._keep_for, self._log, self._drain_s = make, keep_for, log, drain_s
        self._all = [_OneUpstream(one, make(one)) for one in configured]
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
        self._stopping = trio.Event()

    @property
    def configured(self) -> tuple[Upstream, ...]:
        """Those that run, as they are configured."""
        return tuple(one.upstream for one in self._all)

    async def run(self) -> None:
        """Forward until cancelled, or until `stop` and what was in flight is acknowledged."""
        await self._tell_of_leftovers()
        async with trio.open_nursery() as self._nursery:
            for one in self._all:
                self._nursery.start_soon(one.run)
            self._started.set()
            await self._stopping.wait()

    def stop(self) -> None:
        """Take up nothing new, from nobody; see `Forwarder.stop`."""
        self._stopping.set()
        for one in self._all:
            one.forwarder.stop()

    def online(self) -> None:
        """The network is back; see `Forwarder.online`."""
        for one in self._all:
            one.forwarder.online()

    def lane(self, consumer: str, log: str) -> Lane | None:
        """The lane that is this consumer of that log; None where there is none."""
        lanes = (one.forwarder.lane(consumer, log) for one in self._all)
        return next((lane for lane in lanes if lane is not None), None)

    def resend(self, consumer: str, log: str) -> Resend | None:
        """What is sent once more to that consumer of that log; None where there is no such one."""
        found = (one.forwarder.resend(consumer, log) for one in self._all)
        return next((resend for resend in found if resend is not None), None)

    def statistics(self) -> Iterator[tuple[Upstream, ForwarderStatistics]]:
        """Each with where it stands, in the configuration's order."""
        for one in self._all:
            yield one.upstream, one.forwarder.statistics()

    def prepare(self, given: Sequence[Upstream]) -> Callable[[], Awaitable[None]]:
        """Make those of ``given`` that are new or have changed; what is given back goes by all of
        them from then on.

        Raises:
            ConfigError: one of them cannot be.
        """
        before = {one.upstream.name: one for one in self._all}
        after: list[_OneUpstream] = []
        for upstream in given:
            held = before.get(upstream.name)
            is_same = held is not None and held.upstream == upstream
            after.append(held if held and is_same else _OneUpstream(upstream, self._make(upstream)))
        return partial(self._change, after, given)

    async def _change(self, after: list[_OneUpstream], given: Sequence[Upstream]) -> None:
        # No deadline: where forwarding never begins, the agent ends.
        await self._started.wait()
        gone = [one for one in self._all if one not in after]
        if after == self._all or self._nursery is None or self._stopping.is_set():
            return
        async with trio.open_nursery() as ending:
            for one in gone:
                ending.start_soon(one.end, self._drain_s)
        # What they acknowledged rides on a commit that may be to come, and who begins asks the
        # store where it stands.
        with trio.move_on_after(self._drain_s), suppress(StoreError):
            await (await self._log.append(Entry(), soon=True)).wait()
        self._keep_for(given)
        before_all, self._all = self._all, after
        for one in after:
            if one not in before_all:
                self._nursery.start_soon(one.run)
                if self._stopping.is_set():
                    one.forwarder.stop()

    async def _tell_of_leftovers(self) -> None:
        names = {one.consumer for one in self.configured}
        with suppress(StoreError):
            held = {whole_consumer(one.consumer) for one in await self._log.consumers()}
            for name in sorted(held - names):
                if name.startswith(UPSTREAM):
                    logger.info("%s", removed(name.removeprefix(UPSTREAM)))


def removed(name: str) -> str:
    """What the journal says of an upstream that is configured no longer."""
    return (
        f"upstream {name} is not configured any more: nothing is kept for it. How far it had come"
        f" is still known, should it come back; `edge-agent consumer forget {name}` ends that"
    )
