"""`Live`: what the ports ask when somebody wants to see records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from edge_agent.config import Limits
from edge_agent.errors import ProtocolError
from edge_agent.live.query import Queries, Query, QueryAnswer, QueryLimits, parse_query
from edge_agent.live.stepped import PickedView, SteppedView
from edge_agent.live.subscribe import LiveBatch, Start, Subscription, Subscriptions
from edge_agent.log import Log
from edge_agent.metrics import Metrics
from edge_agent.net.access import Readable
from edge_agent.system.clock import Clock
from edge_agent.values.field_paths import FieldPath, parse_paths
from edge_agent.values.filter import compile_filter
from edge_agent.values.moments import bad_query, parse_moment, parse_position, parse_step
from edge_agent.values.record import NANOSECONDS
from edge_agent.values.stream_names import compile_pattern

#: The shortest and the longest step of a view.
STEPS = ("100ms", "1d")


class Live:
    """Questions and live views, within the configured limits.

    ``may_read`` hides the streams that a token does not allow, as if they did not exist.
    """

    def __init__(self, log: Log, limits: Limits, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self.query_limits = QueryLimits(
            records=limits.query_records,
            seconds=float(limits.query_seconds),
            concurrent=limits.queries,
        )
        self._queries = Queries(log, self.query_limits, metrics)
        self._step_bytes = int(limits.subscription_bytes)
        self._feed = Subscriptions(
            log,
            subscriptions=limits.subscriptions,
            budget_bytes=limits.subscription_bytes,
            metrics=metrics,
        )

    def parse_query(self, parameters: Mapping[str, str]) -> Query:
        """See `edge_agent.live.query.parse_query`."""
        return parse_query(parameters, self._clock.read().wall_ns, self.query_limits)

    async def query(
        self, question: Query | Mapping[str, str], *, may_read: Readable | None = None
    ) -> QueryAnswer:
        """The answer to a question, or to the parameters that ask it.

        Raises:
            ProtocolError: ``bad_query``, which says what was expected; ``busy``.
            StoreFailed: the disk refused.
        """
        query = question if isinstance(question, Query) else self.parse_query(question)
        return await self._queries.run(replace(query, matches=_both(query.matches, may_read)))

    def parse_start(self, text: str | None) -> Start:
        """Where a subscription begins: ``new`` (or nothing), ``log:seq``, or a time.

        Raises:
            ProtocolError: ``bad_query``, with a sentence.
        """
        if not text or text == "new":
            return "new"
        now_ns = self._clock.read().wall_ns
        return parse_position(text) or parse_moment(text, now_ns, what="from")

    def subscribe(
        self,
        pattern: str,
        start: Start = "new",
        filter: str | None = None,  # noqa: A002 - the word of the protocol
        *,
        step: str | None = None,
        fields: str | None = None,
        may_read: Readable | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[LiveBatch]]:
        """A live view: ``async with`` it, then ``async for batch in`` it. With a ``step`` or with
        ``fields`` it is one of `edge_agent.live.stepped`.

        Raises:
            ProtocolError: ``bad_query`` for pattern, start, filter, step or fields; ``busy`` at the
                limit.
        """
        try:
            matches = compile_pattern(pattern)
        except ProtocolError as error:
            raise bad_query(f"stream: {error.message}") from None
        wanted = compile_filter(filter) if filter and filter.strip() else None
        picked = parse_paths(fields) if fields else ()
        step_s = parse_step(step, *STEPS) / NANOSECONDS if step else None
        view = self._feed.subscribe(_both(matches, may_read), start, wanted)
        if step_s is None and not picked:
            return view
        return self._less(view, picked, step_s)

    @asynccontextmanager
    async def _less(
        self,
        view: AbstractAsyncContextManager[Subscription],
        fields: Sequence[FieldPath],
        step_s: float | None,
    ) -> AsyncIterator[AsyncIterator[LiveBatch]]:
        async with view as subscription:
            if step_s is None:
                yield PickedView(subscription, fields)
                return
            yield SteppedView(
                subscription,
                fields,
                step_s,
                wall_ns=self._clock.read().wall_ns,
                budget_bytes=self._step_bytes,
            )


def _both(one: Readable, other: Readable | None) -> Readable:
    return one if other is None else lambda stream: one(stream) and other(stream)
