"""Counting what each transaction did, and telling the journal of losses.

A full log can lose records, or detail, or keep senders waiting, at every commit for days. Each kind
of that is one episode: it is told when it begins, once an hour while it goes on, with what it has
come to by then, and told anew where it begins again after `QUIET_S` without any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from edge_agent.errors import StoreFull
from edge_agent.metrics import Metrics
from edge_agent.store import CommitResult, Entry

logger = logging.getLogger(__name__)

QUIET_S = 600.0
#: Between two words on the same episode.
TELL_EVERY_S = 3600.0

_SAYINGS = {
    "discarded": "log %s is full: its oldest records are discarded before an upstream had them"
    " (%d so far)",
    "thinned": "log %s is nearly full: its oldest records give way to per-minute aggregates before"
    " an upstream had them (%d so far)",
    "refused": "log %s is full and refuses records until upstreams have taken some (%d so far)",
}


@dataclass(slots=True)
class _Episode:
    """One kind of loss of one log: how much since it began, when last, when it was last told."""

    total: int
    last_at: float
    told_at: float


class Accounts:
    """Counts in ``metrics``; ``route`` says which log takes a stream's records. Trio's thread."""

    def __init__(self, metrics: Metrics, route: Callable[[str], str]) -> None:
        self._metrics = metrics
        self._route = route
        self._episodes: dict[tuple[str, str], _Episode] = {}

    def note(self, result: CommitResult, entries: Sequence[Entry] = ()) -> None:
        """One transaction, and the entries that it was given, for those that it refused."""
        count_result(self._metrics, result)
        refused: dict[str, int] = {}
        full = [n for n, answer in enumerate(result.answers) if isinstance(answer, StoreFull)]
        for number in full:
            self._add_refused(entries[number], refused)
        for log, amount in refused.items():
            self._metrics.add("records_refused_total", amount, log)
        self._tell("discarded", _not_skipped(result.discarded, entries))
        self._tell("thinned", result.thinned)
        self._tell("refused", refused)

    def _add_refused(self, entry: Entry, refused: dict[str, int]) -> None:
        for run in entry.runs:
            log = self._route(run.stream)
            refused[log] = refused.get(log, 0) + run.count
        for block in entry.blocks:
            log = block.origin.log
            refused[log] = refused.get(log, 0) + block.count

    def _tell(self, kind: str, amounts: Mapping[str, int]) -> None:
        for log, amount in amounts.items():
            if not amount:
                continue
            now = trio.current_time()
            episode = self._episodes.get((kind, log))
            if episode is None or now - episode.last_at >= QUIET_S:
                episode = self._episodes[kind, log] = _Episode(0, now, now - TELL_EVERY_S)
            episode.total += amount
            episode.last_at = now
            if now - episode.told_at >= TELL_EVERY_S:
                episode.told_at = now
                logger.warning(_SAYINGS[kind], log, episode.total)


def _not_skipped(discarded: Mapping[str, int], entries: Sequence[Entry]) -> Mapping[str, int]:
    """What was discarded for want of room, as far as a person's skip can be told from it."""
    if not discarded:
        return discarded
    skipped = {
        position.log
        for entry in entries
        for position in entry.positions
        if position.order == "skip"
    }
    return {log: amount for log, amount in discarded.items() if log not in skipped}


def count_result(metrics: Metrics, result: CommitResult) -> None:
    """Count what one transaction did."""
    for name, counts in (
        ("records_committed_total", result.records),
        ("committed_bytes_total", result.record_bytes),
        ("block_bytes_total", result.block_bytes),
        ("records_trimmed_total", result.trimmed),
        ("records_discarded_total", result.discarded),
        ("records_thinned_total", result.thinned),
        ("thinned_aggregates_total", result.aggregates),
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
