"""This module finds out what a refusal is about: the record, compression or configuration.

An upstream that refuses one record after the other may be the wrong address, or may have to do with
one sensor that sends rubbish; one that answers 403, 409 or 415 may know nobody, or dislike one
record; one that answers 400 may not understand gzip. The answer alone does not tell. So before
anything is held up for it, a few other records are sent by themselves, of other streams where there
are some, as configured and then uncompressed:

=================================== ==========================================================
one passes                          what was refused is at fault: it is halved, and set aside
one passes only uncompressed        the compression is: everything goes uncompressed from now on
none passes, or there is none       the configuration may be: everything is kept, and a person
                                    told
=================================== ==========================================================

A record sent for this goes out under a key of its own (``/probe-…``) and again in its turn: an
upstream knows it by its id. So it is not summed up meanwhile: the upstream may have taken it though
no answer came, and an aggregate that counts it has another id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Final

import trio

from edge_agent.config import Upstream
from edge_agent.errors import SinkRefused, SinkUnavailable, StoreDamaged, StoreError
from edge_agent.forward.sink import Batch, Sink
from edge_agent.log import Log
from edge_agent.store import Block, Gap
from edge_agent.system.clock import Clock
from edge_agent.values.record import Record

#: Records that are tried, one of each stream first.
PROBES_MAX: Final = 3
#: Reads that are looked through for them.
_READS_MAX, _READ_BYTES = 32, 256 * 1024
#: After our own disk refused.
_AGAIN_S = 10.0
#: Answers of the 4xx kind that are about the whole connection, whatever is sent over it.
_NEVER_CONTENT: Final = frozenset((401, 402, 404, 405, 407, 408, 410, 421, 425, 426, 429, 431))
#: The far side, or something before it, gave up waiting: for the request, or for what follows it.
_TIMED_OUT: Final = frozenset((408, 504))


class Blame(Enum):
    """Who is to blame."""

    CONTENT = "the content"
    COMPRESSION = "the compression"
    UNKNOWN = "the configuration, perhaps"


def may_be_content(error: SinkUnavailable) -> bool:
    """Whether an answer that keeps everything may be about this very batch."""
    return error.about_batch or (400 <= error.status < 500 and error.status not in _NEVER_CONTENT)


def is_cut(error: SinkUnavailable) -> bool:
    """Whether a smaller batch might have got through."""
    return error.cut or error.halve or error.status in _TIMED_OUT


class Diagnosis:
    """For one lane to a keyed upstream; ``matches`` are the upstream's patterns."""

    def __init__(
        self,
        upstream: Upstream,
        log: Log,
        name: str,
        sink: Sink,
        matches: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        self._log, self._name, self._sink = log, name, sink
        #: Under which name what is tried is kept from being thinned.
        self.consumer = upstream.consumer
        self._matches, self._clock = matches, clock
        is_http = upstream.url.startswith(("http:", "https:"))
        self._compressed = is_http and upstream.compression != "none"
        #: What was tried last, in words.
        self.tried = ""
        self._seen = 0

    async def only_plain_passes(self, batch: Batch) -> bool:
        """Whether what was refused is taken uncompressed, and once more refused as it was.

        Raises:
            SinkUnavailable: the upstream is away, or takes now what it has just refused.
        """
        if (
            not self._compressed
            or batch.plain
            or not await self._passes(replace(batch, plain=True))
        ):
            return False
        if await self._passes(batch):
            raise SinkUnavailable("what was refused a moment ago is taken now")
        return True

    async def judge(
        self, batch: Batch | None, floor: int, streams: Collection[str], *, plain: bool
    ) -> Blame:
        """Try others than ``batch``, which was refused, or than what was refused up to ``floor``.

        Args:
            batch: None where several single ones were refused, which have left the plan.
            floor: where the search begins where there is no batch.
            streams: whose records were refused.
            plain: whether nothing is compressed anyway.

        Raises:
            SinkUnavailable: the upstream is away.
            StoreError: the log cannot be read.
        """
        self._seen = self._log.last_seq(self._name)
        probes = await self._others(floor if batch is None else batch.last, streams)
        if batch is not None and len(probes) < PROBES_MAX:
            # Some of its own, by themselves: most of them are not to blame.
            probes += self._parts(batch)
        self.tried = "there is no other record to try"
        for probe in probes[:PROBES_MAX]:
            if not await self._is_kept(probe):
                continue
            if plain:
                probe = replace(probe, plain=True)
            if await self._passes(probe):
                return Blame.CONTENT
            if await self.only_plain_passes(probe):
                return Blame.COMPRESSION
            self.tried = f"record {probe.first}, tried by itself, was refused as well"
        return Blame.UNKNOWN

    async def wait_for_another(self, streams: Collection[str]) -> None:
        """Until something is stored in a stream that is none of ``streams``; what the last `judge`
        may have looked at does not count.
        """
        at = self._seen
        while True:
            await self._log.wait_past(self._name, at)
            try:
                read = await self._log.read(self._name, at, _READ_BYTES)
            except StoreError:
                await trio.sleep(_AGAIN_S)
                continue
            for item in read:
                at = max(at, item.last)
                if any(stream not in streams for stream, _ in self._begins(item)):
                    return

    async def _is_kept(self, probe: Batch) -> bool:
        """Whether the record will stay one of its own. It is looked for after the note, as it may
        have been thinned since it was read.
        """
        self._log.note_handed(self.consumer, self._name, probe.first, alone=True)
        read = await self._log.read(self._name, probe.first - 1, 1)
        return bool(read) and isinstance(read[0], Block) and not read[0].thinned

    async def _passes(self, probe: Batch) -> bool:
        try:
            taken = await self._sink.send(probe)
        except SinkRefused:
            return False
        except SinkUnavailable as error:
            if may_be_content(error) or is_cut(error):
                return False
            raise
        return taken.records > 0

    async def _others(self, at: int, streams: Collection[str]) -> list[Batch]:
        """Records behind ``at``: of each other stream the first, or of the same the next and the
        last that were seen.
        """
        others: dict[str, Batch] = {}
        same: list[Batch] = []
        for _ in range(_READS_MAX):
            read = await self._log.read(self._name, at, _READ_BYTES)
            for item in read:
                for stream, first in self._begins(item):
                    probe = self._probe(item, max(first, at + 1))
                    if stream in streams:
                        same[1:] = [probe] if same else []
                        same = same or [probe]
                    else:
                        others.setdefault(stream, probe)
            if not read or len(others) >= PROBES_MAX:
                break
            at = read[-1].last
        return list(others.values()) or same

    def _parts(self, batch: Batch) -> list[Batch]:
        """The first record of each stream in ``batch``, and its last one."""
        firsts: dict[str, Record] = {}
        last: Record | None = None
        for record in batch.records(self._matches):
            last = record
            firsts.setdefault(record.stream, record)
        if last is None or list(firsts.values()) == [last]:
            return []
        chosen = [*list(firsts.values())[: PROBES_MAX - 1], last]
        return [
            self._probe(item, record.seq)
            for record in chosen
            for item in batch.items
            if item.first <= record.seq <= item.last
        ]

    def _begins(self, item: Block | Gap) -> Iterator[tuple[str, int]]:
        """Wanted streams of a block, each with the seq of a run's first record."""
        if isinstance(item, Gap) or item.thinned:
            return
        with suppress(StoreDamaged):  # Its checksum was right, so it was written like this.
            for run in item.runs():
                if self._matches(run.stream):
                    yield run.stream, item.first + run.index

    def _probe(self, item: Block | Gap, seq: int) -> Batch:
        # Of its own each time: an answer that was remembered for the key would prove nothing.
        nonce = self._clock.read().boot_ns or 1
        return Batch(self._name, seq, seq, (item,), probe=nonce)
