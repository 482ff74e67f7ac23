"""A look at the file before LMDB may open it: whatever would make LMDB crash is found here.

Structure only, as far as a bounded number of pages goes, so that starting stays quick; the
checksums of blocks are checked whenever they are read.
"""

from __future__ import annotations

import logging
from pathlib import Path

from edge_agent.errors import StoreDamaged, StoreFailed, StoreTooNew
from edge_agent.store import keys
from edge_agent.store.create import DATA, reserve
from edge_agent.store.pages import DATA_VERSION, Node, PageFile
from edge_agent.store.values import FORMAT, StoreHeader, decode

logger = logging.getLogger(__name__)

#: Nodes that one look visits in each tree: about half a second on a small board.
NODES_MAX = 100_000


def look(folder: Path, map_size: int) -> None:
    """Whether LMDB may open the store in ``folder``.

    A file shorter than ``map_size`` whose pages in use are all there gets its space back.

    Raises:
        StoreDamaged: it may not; what can be read has to be salvaged.
        StoreTooNew: a newer version wrote it; nothing was changed.
        OSError: the disk refuses.
    """
    try:
        with PageFile(folder / DATA) as pages:
            _check_roots(pages)
            _check_version(pages)
            _check_trees(pages)
            size = pages.size
    except FileNotFoundError as error:
        raise StoreDamaged(f"{folder} has no {DATA}") from error
    if size < map_size:
        try:
            reserve(folder / DATA, map_size)
        except StoreFailed as error:
            # What is there can be read and, while the disk has room, written.
            logger.warning("%s", error)


def _check_roots(pages: PageFile) -> None:
    first, second = pages.metas
    if first is None or second is None:
        raise StoreDamaged("one of the file's two roots cannot be read")
    if first.version != DATA_VERSION and first.version == second.version:
        raise StoreTooNew(
            f"the file has LMDB's format {first.version}, this version reads {DATA_VERSION};"
            " install the version that wrote it"
        )
    if first.version != second.version:
        raise StoreDamaged("the file's two roots contradict each other")


def _check_version(pages: PageFile) -> None:
    for node in pages.nodes(pages.meta.main_root, _refuse):
        if node.key != keys.STORE:
            raise StoreDamaged("the store has no header")
        header = decode(node.key, pages.value(node), StoreHeader)
        if header.format > FORMAT:
            raise StoreTooNew(
                f"the store has format {header.format}, this version reads up to {FORMAT};"
                " install the version that wrote it"
            )
        return
    raise StoreDamaged("the store is empty")


def _check_trees(pages: PageFile) -> None:
    meta = pages.meta
    previous = b""
    for number, node in enumerate(pages.nodes(meta.main_root, _refuse)):
        if number >= NODES_MAX:
            break
        if node.key <= previous:
            raise StoreDamaged(f"key {node.key[:20].hex()} is out of order")
        previous = node.key
    for number, node in enumerate(pages.nodes(meta.free_root, _refuse)):
        if number >= NODES_MAX:
            break
        _check_free(pages, node, meta.last)


def _check_free(pages: PageFile, node: Node, last: int) -> None:
    """A list of free pages names pages that exist: writing to others would extend the file, or
    overwrite the roots.
    """
    raw = pages.value(node)
    width = len(node.key)
    if width not in (4, 8) or not raw or len(raw) % width:
        raise StoreDamaged("a list of free pages cannot be read")
    numbers = memoryview(raw).cast("Q" if width == 8 else "I")
    listed = numbers[1 : numbers[0] + 1]
    if numbers[0] >= len(numbers):
        raise StoreDamaged("a list of free pages is cut short")
    if listed and not 2 <= min(listed) <= max(listed) <= last:
        raise StoreDamaged("a list of free pages names a page that does not exist")


def _refuse(problem: str) -> None:
    raise StoreDamaged(problem)
