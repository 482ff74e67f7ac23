"""The trimmer removes what `policy` says may go, in transactions of bounded size.

Deleting needs free pages itself, and pages that one transaction frees can be used by the next
but one; so trimming runs before a group needs the room, while there is headroom left.
"""

from __future__ import annotations

from collections.abc import Mapping

import lmdb
import msgspec

from edge_agent.store.commit.stamp import writing
from edge_agent.store.commit.state import Counts, add
from edge_agent.store.format import keys
from edge_agent.store.format.values import LogHeader, encode
from edge_agent.store.lmdb_file.recheck import check_before_removal
from edge_agent.store.read.cursor import floors_in, oldest
from edge_agent.store.retention.policy import (
    Floors,
    HeldBlock,
    excess,
    floors_of,
    is_loss,
    upto_by_age,
    upto_by_share,
)
from edge_agent.store.settings import StoreSettings
from edge_agent.store.thinning import Thinner

#: Blocks that one transaction removes at most, and looks at before.
TRIM_BLOCKS = 256
#: Transactions of one pass over one log; what is left goes with the next pass.
TRIM_PASSES = 64


class Trimmer:
    """Trims logs of one environment, for one call of the engine.

    ``logs`` is the engine's own map, brought up to date after each transaction; ``counts`` gets
    the records removed: with everybody's consent, or as a loss to some consumer.
    """

    def __init__(
        self,
        env: lmdb.Environment,
        logs: dict[str, LogHeader],
        settings: StoreSettings,
        page_bytes: int,
        counts: Counts,
        thinner: Thinner,
    ) -> None:
        self._counts = counts
        self._thinner = thinner
        self._env = env
        self._logs = logs
        self._settings = settings
        self._page_bytes = page_bytes

    def by_age(self, now_ns: int) -> None:
        """Remove what is older than its log keeps; the caller knows that the clock is right."""
        for log in list(self._logs):
            keep_s = self._settings.log(log).keep_s
            for _ in range(TRIM_PASSES):
                held, floors = self._look(log)
                upto = upto_by_age(held, now_ns, keep_s, floors)
                if not upto:
                    break
                self._remove(log, held, upto, floors)

    def for_room(self, incoming: Mapping[str, int]) -> None:
        """Make room under each log's share for what is about to come, as far as its policy
        allows.
        """
        for log, size in incoming.items():
            share = self._settings.share_bytes(log)
            policy = self._settings.log(log).when_full
            if self._thinner.thins(log):
                self._free(log, excess(self._logs[log].bytes, size, share), discard=False)
                # No more than is needed now: somebody waits for it, and `ahead` sees to the rest.
                self._thinner.free(log, self._logs[log].bytes + size - share)
            need = excess(self._logs[log].bytes, size, share)
            if need:
                self._free(log, need, discard=policy != "refuse")

    def ahead(self) -> int:
        """One step of thinning where a log will need it soon, so that no commit has to wait. How
        many logs could do with another step, and have come forward by this one.
        """
        again = 0
        for log, before in list(self._logs.items()):
            if self._thinner.crowded(log):
                goal = self._thinner.goal(log)
                self._free(log, self._logs[log].bytes - goal, discard=False)
                self._thinner.free(log, self._logs[log].bytes - goal, ahead=True)
                again += self._logs[log] != before and self._thinner.crowded(log)
        return again

    def lacks_room(self, incoming: Mapping[str, int]) -> bool:
        """Whether a log would exceed its share by what is about to come."""
        return any(
            self._logs[log].bytes + size > self._settings.share_bytes(log)
            for log, size in incoming.items()
        )

    def in_need(self, need: int) -> None:
        """The file itself is full, which shares should prevent: free ``need`` bytes of what is
        acknowledged, then of logs that may discard, those no longer configured first.
        """
        for log, header in list(self._logs.items()):
            self._free(log, min(need, header.bytes), discard=False)
        configured = {log.name for log in self._settings.logs}
        for log, header in sorted(self._logs.items(), key=lambda item: item[0] in configured):
            if self._settings.log(log).when_full != "refuse" and header.bytes:
                self._free(log, min(need, header.bytes), discard=True)
                break

    def _free(self, log: str, need: int, *, discard: bool) -> None:
        goal = self._logs[log].bytes - need
        for _ in range(TRIM_PASSES):
            held, floors = self._look(log)
            left = self._logs[log].bytes - goal
            upto = upto_by_share(held, left, self._page_bytes, floors, discard=discard)
            if left <= 0 or not upto:
                break
            self._remove(log, held, upto, floors)

    def _look(self, log: str) -> tuple[list[HeldBlock], Floors]:
        consumers = self._settings.consumers
        with self._env.begin(buffers=True) as txn:
            held = oldest(txn, self._logs[log], TRIM_BLOCKS)
            positions = floors_in(txn, log, consumers)
        return held, floors_of(log, consumers, positions)

    def _remove(self, log: str, held: list[HeldBlock], upto: int, floors: Floors) -> None:
        header = self._logs[log]
        freed = looked = removed = trimmed = discarded = 0
        doomed = [keys.block_key(header.id, block.first) for block in held if block.last <= upto]
        check_before_removal(self._env, doomed)
        with writing(self._env) as txn:
            for block in held:
                if block.last > upto:
                    break
                txn.delete(keys.block_key(header.id, block.first))
                size = keys.stored_bytes(block.value_bytes, self._page_bytes)
                freed += size
                removed += block.count
                looked += size if block.first <= header.looked else 0
                if is_loss(block, floors):
                    discarded += block.covers
                else:
                    trimmed += block.covers
            empty = upto >= header.last
            header = msgspec.structs.replace(
                header,
                first=upto + 1,
                # A damaged header may have miscounted; an empty log has nothing for sure.
                records=0 if empty else max(header.records - removed, 0),
                bytes=0 if empty else max(header.bytes - freed, 0),
                trimmed=header.trimmed + trimmed,
                discarded=header.discarded + discarded,
                looked_bytes=0 if empty else max(header.looked_bytes - looked, 0),
            )
            txn.put(keys.log_key(log), encode(keys.log_key(log), header))
        self._logs[log] = header
        add(self._counts.trimmed, log, trimmed)
        add(self._counts.discarded, log, discarded)
