"""What transactions did, counted; and losses said aloud, now and then.

A log that is full and discards what its upstreams have not got does so with every commit. The first
time is worth a line in the journal at once; later ones are summed up.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import trio

from edge_agent.metrics import Metrics
from edge_agent.store.entry import CommitResult, Entry

logger = logging.getLogger(__name__)

#: Between two lines about what was discarded.
DISCARDS_SAID_S = 600.0


class Accounts:
    """Counts in ``metrics``; ``route`` names a stream's log."""

    def __init__(self, metrics: Metrics, route: Callable[[str], str]) -> None:
        self._metrics, self._route = metrics, route
        self._discarded: Counter[str] = Counter()
        self._said_at = -DISCARDS_SAID_S

    def did(self, result: CommitResult) -> None:
        """One transaction was synced."""
        count_result(self._metrics, result)
        if result.discarded:
            self._discarded.update(result.discarded)
        if self._discarded and trio.current_time() >= self._said_at + DISCARDS_SAID_S:
            self._said_at = trio.current_time()
            what = ", ".join(f"{count} of {log}" for log, count in sorted(self._discarded.items()))
            self._discarded.clear()
            logger.warning(
                "records were discarded before an upstream had them, for lack of room: %s", what
            )

    def refused(self, entry: Entry) -> None:
        """An entry found no room."""
        for run in entry.runs:
            self._metrics.add("records_refused_total", run.count, self._route(run.stream))
        for block in entry.blocks:
            self._metrics.add("records_refused_total", block.count, block.origin.log)


def count_result(metrics: Metrics, result: CommitResult) -> None:
    """Count what one transaction did."""
    for name, counts in (
        ("records_committed_total", result.records),
        ("committed_bytes_total", result.record_bytes),
        ("block_bytes_total", result.block_bytes),
        ("records_trimmed_total", result.trimmed),
        ("records_discarded_total", result.discarded),
        ("quarantined_total", result.quarantined),
    ):
        for label, amount in counts.items():
            if amount:
                metrics.add(name, amount, label)
    for name, amount in (
        ("records_duplicate_total", result.duplicates),
        ("source_restarts_total", result.restarts),
        ("source_gaps_total", result.gaps),
        ("sources_forgotten_total", result.sources_forgotten),
    ):
        if amount:
            metrics.add(name, amount)
    for log, seq in result.last_seq.items():
        metrics.set("log_last_seq", seq, log)
