"""This module opens a store for reading alone where the disk refuses writes.

So answers and forwarding go on.

Nothing is written, not even the marker, so what may be told is what is durable without it:

- Records: while running, those up to the last synced commit, which the engine remembers. Behind
  them may lie a group whose sync failed. It looks stored and may be gone after a power cut; its
  seqs would be given to other records, and an upstream that has the first would drop those.
- At a start there is no memory. But if the last opening that wrote to the file was of an earlier
  boot, all of it comes from the device and none of it from a cache: everything is ``certain``. That
  is a board that comes up with a read-only card. Otherwise questions are answered, and nothing is
  forwarded; nor from a copy, as long as its new identity cannot be written.
- The number that a source is to send next is never told: taking anything is over until the disk
  takes writes again.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lmdb

from edge_agent.errors import StoreDamaged, StoreFailed
from edge_agent.store.create import DATA, STORE, open_to_read
from edge_agent.store.identity import Entropy, opened_header
from edge_agent.store.lmdb_errors import TROUBLE, translated, why_refused
from edge_agent.store.lmdb_file.preflight import preflight
from edge_agent.store.opening import (
    FolderCheck,
    OpenStore,
    load,
    open_or_salvage,
    salvage_note,
    where,
)
from edge_agent.store.process_lock import LOCK
from edge_agent.store.read.cursor import last_dated
from edge_agent.store.repair.salvage import told_of
from edge_agent.store.settings import StoreClock, StoreSettings

logger = logging.getLogger(__name__)


def open_or_read(
    path: Path,
    settings: StoreSettings,
    clock: StoreClock,
    entropy: Entropy,
    known: str | None = None,
    running: bytes = b"",
) -> tuple[OpenStore, dict[str, Any] | None]:
    """As `open_or_salvage`; where the disk refuses, what can be read is opened for that alone, and
    ``refusal`` of the answer says why.

    Raises:
        StoreFailed: the disk refuses, and there is nothing that could be read either.
    """
    try:
        return open_or_salvage(path, settings, clock, entropy, known, running)
    except StoreFailed as refusal:
        try:
            opened = _open(path, settings, clock, entropy)
        except (StoreFailed, StoreDamaged, OSError):
            raise refusal from None
        opened.refusal = why_refused(path, str(refusal))
        return opened, told_of(opened.salvaged)


def _open(path: Path, settings: StoreSettings, clock: StoreClock, entropy: Entropy) -> OpenStore:
    # Of no size, so that nothing is reserved.
    preflight(path / STORE, 0)
    try:
        env = open_to_read(path / STORE, settings.map_size)
    except TROUBLE as error:
        raise translated(error, f"reading {path}") from error
    try:
        with env.begin() as txn:
            header, state, _ = load(txn, settings)
            salvaged = salvage_note(txn)
        with env.begin(buffers=True) as seeing:
            state.newest_ns, state.unset_boots = last_dated(seeing, state.logs.values())
        here = where(path, settings, header)
        anew = opened_header(header, here, entropy)
        if anew.agent_id != header.agent_id:
            raise StoreFailed("it comes from another board, and its new identity must be written")
        is_copy = anew.store_id != header.store_id
        page_bytes: int = env.stat()["psize"]
        place = FolderCheck((path / STORE / DATA, path / LOCK))
    except lmdb.Error as error:
        env.close()
        raise translated(error, f"reading {path}") from error
    except BaseException:
        env.close()
        raise
    # A copy that cannot write its new identity yet has no ids to send anything under.
    certain = header.boot not in (b"", clock.read().boot_id) and not is_copy
    return OpenStore(env, header, state, page_bytes, place, salvaged, certain=certain)
