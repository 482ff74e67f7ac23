"""This module reads pages and headers once more just before blocks are removed.

LMDB gives back as many pages as the header of a long value says. A bit that flipped there since the
start, or in a header that the start did not look at, would give away pages of other blocks, to be
written over. So the leaf pages and headers of the blocks that are about to go are read once more,
from the file, which costs 3 µs a block where the trim itself has just read the same pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lmdb

from edge_agent.errors import StoreDamaged
from edge_agent.store.create import DATA
from edge_agent.store.lmdb_file.btree import leaf, leaves_from
from edge_agent.store.lmdb_file.pages import PageFile


def check_before_telling(data: Path, commit: int, begin: bytes, end: bytes) -> None:
    """Whether the leaf pages from the key ``begin`` to ``end`` are sound, as of ``commit``, which
    is being read: blocks that seem to be missing may only be out of LMDB's sight. Consumers would
    pass them over for good, and a salvage bring them back too late.

    Raises:
        StoreDamaged: they are not.
    """
    with PageFile(data) as pages:
        meta = pages.metas[commit & 1]
        if meta is None or meta.txn != commit:
            return  # Two commits came in between, and its root is gone.
        for span in leaves_from(pages, meta.main, begin):
            if leaf(pages, span.number).last >= end:
                break


def check_before_removal(env: lmdb.Environment, doomed: Sequence[bytes]) -> None:
    """Whether the blocks under these keys, neighbours and in order, can be removed safely. Nobody
    else writes meanwhile.

    Raises:
        StoreDamaged: they cannot.
    """
    if not doomed:
        return
    wanted = set(doomed)
    with PageFile(Path(env.path()) / DATA) as pages:
        for span in leaves_from(pages, pages.meta.main, doomed[0]):
            checked = leaf(pages, span.number)
            for key, number, size in checked.longs:
                if key in wanted and pages.long_pages(number) != pages.pages_of(size):
                    raise StoreDamaged(f"page {number} is not the long value it should be")
            if checked.last >= doomed[-1]:
                break
