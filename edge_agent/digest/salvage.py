"""Reads back what a damaged file of history still holds, into a new one.

Of the two roots that LMDB keeps, the one counts whose tree is whole; what came later is digested
again from the log, as the positions in its header are older. Where neither is, it is the newest
that has its header, without the pages that cannot be read. Never both together: a part of one may
be joined with others in the other, and its records would be there twice.

Every value has its checksum under its key, so what is read back is what was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.digest.new_file import write_new
from edge_agent.digest.owner import HistoryOwner
from edge_agent.errors import StoreDamaged
from edge_agent.history import HistoryHeader, checked, decode_header
from edge_agent.history.keys import LEVELS, META, SERIES
from edge_agent.store import DATA, PageFile

_KINDS = frozenset({SERIES, *(bytes((level,)) for level in LEVELS)})


@dataclass(slots=True)
class ReadBack:
    """What was read back: parts, and how many pages or values could not be."""

    parts: int = 0
    lost: int = 0


def salvage_history(folder: Path, target: Path, owner: HistoryOwner, map_size: int) -> ReadBack:
    """Write what the file in ``folder`` holds of its owner into a new one in ``target``, synced.

    Raises:
        StoreDamaged: nothing can be read back; the text says why.
        StoreSealed: a key is missing; nothing was written.
        OSError, lmdb.Error: the disk refuses.
    """
    with PageFile(folder / DATA) as pages:
        root, header = _chosen(pages, owner)
        header = msgspec.structs.replace(header, store_id=owner.store_id, epoch=owner.epoch)
        found = ReadBack()
        values = (one for one in _sound(pages, root, found) if one[0] != META)
        found.parts, nameless = write_new(target, map_size, header, values)
        found.lost += nameless
    return found


def _chosen(pages: PageFile, owner: HistoryOwner) -> tuple[int, HistoryHeader]:
    """The root whose tree is read, and the header in it."""
    best: tuple[int, int, HistoryHeader] | None = None
    metas = [meta for meta in pages.metas if meta is not None]
    why = "neither of its roots leads to its header"
    for meta in sorted(metas, key=lambda meta: meta.txn, reverse=True):
        found = ReadBack()
        header: HistoryHeader | None = None
        for key, raw in _sound(pages, meta.main.root, found):
            if key == META:
                header = decode_header(memoryview(raw))
        if header is None:
            continue
        try:
            owner.check(header)
        except StoreDamaged as error:
            why = str(error)
            continue
        if best is None or found.lost < best[0]:
            best = found.lost, meta.main.root, header
        if best[0] == 0:
            break
    if best is None:
        raise StoreDamaged(why)
    return best[1:]


def _sound(pages: PageFile, root: int, found: ReadBack) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values as stored, rising; what cannot be read is counted."""

    def lost(_: str) -> None:
        found.lost += 1

    last = b""
    for node in pages.nodes(root, lost):
        if node.key != META and node.key[:1] not in _KINDS:
            continue
        try:
            raw = pages.value(node)
            checked(node.key, memoryview(raw))
        except StoreDamaged:
            found.lost += 1
            continue
        if node.key <= last:
            # A page of another commit than the one that leads to it.
            found.lost += 1
            continue
        last = node.key
        yield node.key, raw
