"""The preflight looks at a file before LMDB opens it, and finds what would make LMDB crash.

Structure only; checksums of blocks are checked whenever they are read, and by the scrub. How much
is read is bounded, so that starting stays quick: both roots and every branch page always; leaf
pages `LEAVES_MAX` at most, half of them the first (where the small values are, and what is trimmed
next) and half the last (where the next commit writes); of blocks the headers of the `HEADS_MAX`
oldest; and twice `NEXT_MAX` pages, where commits newer than both roots would have left their
numbers. Most stores have fewer than that. What is left out is looked at by the scrub, and before
it is trimmed (`trim`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import StoreDamaged, StoreFailed, StoreSealed, StoreTooNew
from edge_agent.seal import KeyRing
from edge_agent.store.close_marker import closed_at
from edge_agent.store.create import DATA, is_reserved, reserve
from edge_agent.store.format import keys
from edge_agent.store.format.values import FORMAT, SEALS_AT, LogHeader, checked_body, decode
from edge_agent.store.lmdb_file.btree import (
    Account,
    Booked,
    booked_by_header,
    booked_for_blocks,
    check_leaves,
    leaves_from,
    order_of_free,
    spans,
)
from edge_agent.store.lmdb_file.meta_pages import Root, sound_roots
from edge_agent.store.lmdb_file.pages import (
    DATA_VERSION,
    NUMBER_BYTES,
    Meta,
    PageFile,
    Tree,
    lmdb_version,
)
from edge_agent.store.repair.node_scan import commit_of, leaf_pages

logger = logging.getLogger(__name__)

#: Leaf pages that one look reads, 16 MiB: some 400,000 blocks that have pages of their own, or
#: 20,000 that are so small that they lie in leaf pages. 1.8 µs for each key: 20,000 blocks of 8 KB
#: take 0.04 s, and no store more than 0.8 s, on the machine of MEASUREMENTS.
LEAVES_MAX = 4096
#: Headers of blocks that one look reads, each a page of the card.
HEADS_MAX = 1024
#: Pages read of those that are free, and as many behind the last one in use.
NEXT_MAX = 64


def preflight(folder: Path, map_size: int) -> None:
    """Whether LMDB may open the store in ``folder``; a root with a flipped bit is mended.

    A file shorter than ``map_size``, or without a place on the disk for each page, whose pages in
    use are all there gets its space back; not with ``map_size`` 0, for a disk that refuses.

    Raises:
        StoreDamaged: it may not; what can be read has to be salvaged.
        StoreTooNew: a newer version wrote it; nothing was changed.
        OSError: the disk refuses.
    """
    try:
        with PageFile(folder / DATA) as pages:
            _refuse_newer(pages)
            newest, older = sound_roots(pages)
            _check_newest(pages, folder, newest, older)
            _check_ends(pages, newest.meta)
            booked = booked_for_blocks(pages, HEADS_MAX)
            counted = _counted(pages, newest.meta, older.meta, booked)
            _check_next(pages, counted)
            if counted != newest.meta:
                newest = replace(
                    newest,
                    meta=counted,
                    mended=newest.mended or f"root {newest.slot} of commit {counted.txn}: counts",
                )
            if older.meta.last > counted.last:
                # The file only grows, so a bit of this number is flipped.
                lower = replace(older.meta, last=counted.last)
                older = replace(older, meta=lower, mended=older.mended or f"root {older.slot}")
            size = pages.size
            page_bytes = pages.page_bytes
    except FileNotFoundError as error:
        raise StoreDamaged(f"{folder} has no {DATA}") from error
    for root in (older, newest):
        if root.mended:
            _mend(folder / DATA, root, page_bytes)
    if size < map_size or (map_size and not is_reserved(folder / DATA)):
        try:
            reserve(folder / DATA, max(size, map_size))
        except StoreFailed as error:
            # What is there can be read and, while the disk has room, written.
            logger.warning("%s", error)


def preflight_pages(folder: Path) -> None:
    """Whether LMDB may open the stamped file in ``folder``, whatever its keys are; a root with a
    flipped bit is mended. Raises as `preflight`.
    """
    with PageFile(folder / DATA) as pages:
        newest, older = sound_roots(pages)
        counted = _counted(pages, newest.meta, older.meta, booked_by_header(pages))
        page_bytes = pages.page_bytes
    for root in (older, newest):
        if root.mended:
            meta = counted if root is newest else root.meta
            _mend(folder / DATA, replace(root, meta=meta), page_bytes)


def refuse_newer(folder: Path) -> None:
    """Raises StoreTooNew where a newer version wrote the store; asked before anything is touched.

    Damage is not its business, and never taken for a newer version: the format's number counts
    only under its checksum, LMDB's only where both roots agree.
    """
    try:
        with PageFile(folder / DATA) as pages:
            _refuse_newer(pages)
    except (FileNotFoundError, NotADirectoryError, StoreDamaged):
        return


def refuse_sealed(folder: Path, keys_here: KeyRing) -> None:
    """Raises StoreSealed where the store needs a key that is not here; asked before anything is
    touched. As with `refuse_newer`, damage is not its business.
    """
    try:
        with PageFile(folder / DATA) as pages:
            headers = [_header(pages, meta) for meta in pages.metas if meta is not None]
    except (FileNotFoundError, NotADirectoryError, StoreDamaged):
        return
    for fields in headers:
        needed = fields[SEALS_AT] if len(fields) > SEALS_AT else ()
        if needed and (lacking := keys_here.lacks(needed)):
            raise StoreSealed(f"{folder}: {lacking}")


def _refuse_newer(pages: PageFile) -> None:
    first, second = lmdb_version(pages, 0), lmdb_version(pages, 1)
    if first is not None and first == second and first != DATA_VERSION:
        raise StoreTooNew(
            f"the file has LMDB's format {first}, this version reads {DATA_VERSION};"
            " install the version that wrote it"
        )
    for meta in pages.metas:
        version = 0 if meta is None else _format(pages, meta)
        if version > FORMAT:
            raise StoreTooNew(
                f"the store has format {version}, this version reads up to {FORMAT};"
                " install the version that wrote it"
            )


def _format(pages: PageFile, meta: Meta) -> int:
    """The format's number in the store's header, 0 where it cannot be read for sure."""
    fields = _header(pages, meta)
    return fields[0] if fields and isinstance(fields[0], int) else 0


def _header(pages: PageFile, meta: Meta) -> list[Any]:
    """What the store's header holds, [] where it cannot be read for sure."""
    try:
        node = next(pages.nodes(meta.main.root, _refuse), None)
        if node is None or node.key != keys.STORE:
            return []
        fields = msgspec.msgpack.decode(checked_body(node.key, pages.value(node)))
    except (StoreDamaged, ValueError):
        return []
    return fields if isinstance(fields, list) else []


def _check_newest(pages: PageFile, folder: Path, newest: Root, older: Root) -> None:
    """Whether there was a newer root. Raises StoreDamaged."""
    found = closed_at(folder)
    if newest.renumbered or older.renumbered:
        # A flipped bit, or an old root whose pages were used again? Then newer ones tell of it.
        found = max(found, *(commit for _, commit in leaf_pages(pages, _refuse)))
    if found > newest.meta.txn:
        raise StoreDamaged(
            f"the newest root is of commit {newest.meta.txn}, there was a commit {found}"
        )


def _check_next(pages: PageFile, meta: Meta) -> None:
    """Whether two commits or more came behind both roots: they took the pages that come next, and
    left their numbers there. Of one, nobody knows whether it was ever made.

    Raises StoreDamaged.
    """
    behind = range(meta.last + 1, min(meta.last + 1 + NEXT_MAX, pages.size // pages.page_bytes))
    lists = (node for node in pages.nodes(meta.free.root, _refuse))
    # LMDB takes pages from the oldest list first, and of it the first ones.
    free = (number for node in lists for number in sorted(_listed(pages.value(node)))[:NEXT_MAX])
    for number in (*islice(free, NEXT_MAX), *behind):
        found = commit_of(pages, number)
        if found > meta.txn + 1:
            raise StoreDamaged(f"both roots are old: the newest is of commit {meta.txn}, there was"
                               f" a commit {found}")  # fmt: skip


def _counted(pages: PageFile, newest: Meta, older: Meta, booked: Booked) -> Meta:
    """``newest`` with its pages counted. Raises StoreDamaged where a tree is not sound."""
    # The root's own word for the last page may be wrong; the file's end bounds it surely.
    account = Account(pages.size // pages.page_bytes - 1)
    main, whole = _main_tree(pages, newest.main, account, booked)
    free = _free_tree(pages, newest.free, account)
    # Every page up to the last one is in a tree or in a list of free ones.
    last = account.end - 1 if whole else max(newest.last, older.last, account.end - 1)
    return replace(newest, main=main, free=free, last=last)


def _check_ends(pages: PageFile, meta: Meta) -> None:
    """No block lies outside what its log's header says, and nothing behind all blocks: a flipped
    bit in the key of the first or the last one leaves the order of keys as it is.
    """
    if _block_from(pages, meta, keys.END):
        raise StoreDamaged("the last key is none of ours")
    for node in pages.nodes(meta.main.root, _refuse):
        if node.key[:1] > keys.LOG:
            break
        if node.key[:1] != keys.LOG:
            continue
        log = decode(node.key, pages.value(node), LogHeader)
        for seq in (0, log.last + 1):
            found = _block_from(pages, meta, keys.block_key(log.id, seq))
            low = log.first if seq == 0 else 2**64
            if found[:2] == keys.block_prefix(log.id) and keys.block_first(found) < low:
                raise StoreDamaged(f"block {keys.block_first(found)} lies outside its log")


def _block_from(pages: PageFile, meta: Meta, key: bytes) -> bytes:
    """The first key from ``key`` on; b"" at the end."""
    for span in leaves_from(pages, meta.main, key):
        page, _, places = pages.tree_page(span.number)
        for place in places:
            found = pages.node(page, place).key
            if found >= key:
                return found
    return b""


def _main_tree(pages: PageFile, tree: Tree, account: Account, booked: Booked) -> tuple[Tree, bool]:
    """The main tree counted, and whether each of its leaves was."""
    found = spans(pages, tree, account)
    branches = account.taken
    whole = len(found) <= LEAVES_MAX
    half = LEAVES_MAX // 2
    parts = [found] if whole else [found[:half], found[-half:]]
    for span in [] if whole else found[half:-half]:
        account.take(span.number)
    entries = overflows = 0
    for part in parts:
        for span in part:
            account.take(span.number)
        before = account.taken
        entries += sum(leaf.entries for leaf in check_leaves(pages, part, account, booked))
        overflows += account.taken - before
    counted = replace(tree, branches=branches, leaves=len(found))
    if whole:
        counted = replace(counted, entries=entries, overflows=overflows)
    return counted, whole


def _free_tree(pages: PageFile, tree: Tree, account: Account) -> Tree:
    """The tree of free pages counted, the lists in it checked.

    LMDB takes pages from these lists: one that is in use would be written over, one beyond the
    file's end would extend it, the roots' would be the end of the store.
    """
    before = account.taken
    found = spans(pages, tree, account, order_of_free)
    branches = account.taken - before
    for span in found:
        account.take(span.number)
    before = account.taken
    leaves = list(check_leaves(pages, found, account, booked_by_header(pages), order_of_free))
    overflows = account.taken - before
    for node in pages.nodes(tree.root, _refuse):
        for number in _listed(pages.value(node)):
            account.take(number)
    entries = sum(leaf.entries for leaf in leaves)
    return replace(tree, branches=branches, leaves=len(found), overflows=overflows, entries=entries)


def _listed(raw: bytes) -> Iterator[int]:
    """The page numbers in a list of free pages, which is in falling order."""
    if len(raw) < NUMBER_BYTES or len(raw) % NUMBER_BYTES:
        raise StoreDamaged("a list of free pages cannot be read")
    numbers = memoryview(raw).cast("Q" if NUMBER_BYTES == 8 else "I")
    if numbers[0] >= len(numbers):
        raise StoreDamaged("a list of free pages is cut short")
    before = numbers[1] + 1 if numbers[0] else 0
    for number in numbers[1 : numbers[0] + 1]:
        if number >= before:
            raise StoreDamaged("a list of free pages is out of order")
        before = number
        yield number


def _mend(data: Path, root: Root, page_bytes: int) -> None:
    """Write a root as it should be, which is one sector, and let it reach the card."""
    fd = os.open(data, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, root.meta.encode(root.slot), root.slot * page_bytes)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    logger.warning("%s: mended what was damaged, nothing is lost: %s", data, root.mended)


def _refuse(problem: str) -> None:
    raise StoreDamaged(problem)
