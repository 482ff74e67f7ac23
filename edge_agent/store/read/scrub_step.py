"""A scrub step is a piece of a pass over the file: pages' structure, values' checksums.

The file is read beside LMDB, not through it, so that nothing in it can crash the agent and its
pages do not crowd memory. Within a read transaction the pages of its tree stay as they are.

A block that fails is told and stays where it is: readers get a `Gap` there. Anything else that is
wrong LMDB, or the agent, may stumble over: that is `StoreDamaged`, and the store is salvaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.errors import StoreDamaged
from edge_agent.store.format import keys
from edge_agent.store.format.block import decode_block
from edge_agent.store.format.values import checked_body
from edge_agent.store.lmdb_file.btree import leaf, leaves_from
from edge_agent.store.lmdb_file.pages import Meta, Node, PageFile

#: What is kept of a damaged block, for a person to look at.
KEPT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class DamagedBlock:
    """A block that failed its checksum: the seqs up to the next block, and how it begins."""

    log: str
    first: int
    last: int
    value_bytes: int
    begin: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScrubStep:
    """``after`` is where to go on, b"" at the end of the pass."""

    after: bytes
    read_bytes: int
    blocks: int
    damaged: tuple[DamagedBlock, ...]


def scrub_step(
    pages: PageFile, meta: Meta, logs: Mapping[int, tuple[str, int]], after: bytes, limit: int
) -> ScrubStep:
    """Check what follows the key ``after`` in the tree of ``meta``, ``limit`` bytes or a bit more.

    ``logs``: name and last seq of each log by its id.

    Raises:
        StoreDamaged: what is wrong is no block.
    """
    read = blocks = 0
    begun = after
    damaged: list[DamagedBlock] = []
    failed: tuple[Node, bytes] | None = None
    for span in leaves_from(pages, meta.main, after):
        page, _, places = pages.tree_page(span.number)
        leaf(pages, span.number, page=page)
        read += pages.page_bytes
        for place in places:
            node = pages.node(page, place)
            if node.key <= after:
                continue
            if failed is not None:
                damaged.append(_told(*failed, logs, node.key))
                failed = None
            if read >= limit and after != begun:
                return ScrubStep(after, read, blocks, tuple(damaged))
            read += node.size
            after = node.key
            if node.key[:1] == keys.BLOCK:
                blocks += 1
                failed = _failed(pages, node)
            elif not _is_quarantined(node.key):
                checked_body(node.key, pages.value(node))
    if failed is not None:
        damaged.append(_told(*failed, logs, keys.END))
    return ScrubStep(b"", read, blocks, tuple(damaged))


def _failed(pages: PageFile, node: Node) -> tuple[Node, bytes] | None:
    """The node and its value where that fails its checksum."""
    # Where its pages are not what they should be, LMDB must not give them back: that is raised.
    value = pages.value(node)
    try:
        decode_block("", keys.block_first(node.key), node.key, memoryview(value))
    except StoreDamaged:
        return node, value
    return None


def _told(
    node: Node, value: bytes, logs: Mapping[int, tuple[str, int]], following: bytes
) -> DamagedBlock:
    log_id, first = node.key[1], keys.block_first(node.key)
    name, last = logs.get(log_id, (f"#{log_id}", first))
    if following[:2] == node.key[:2]:
        last = keys.block_first(following) - 1
    return DamagedBlock(name, first, max(last, first), len(value), value[:KEPT_BYTES])


def _is_quarantined(key: bytes) -> bool:
    # Nothing rests on an entry of quarantine; whoever reads it is told that it is damaged.
    return key[:1] == keys.QUARANTINE and len(key) > 1
