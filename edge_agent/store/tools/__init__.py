"""This package has what is done to a whole store: check, scrub, backup, rewrite, replace.

`rewrite` copies a store value by value, with the `changes` that are asked for; backup, compaction,
restoring and erasing (`replace`) are made of it. `check` and what is named after it are a
second opinion that shares as little as possible with the writer.
"""

from __future__ import annotations

from edge_agent.store.tools.backup import (
    MANIFEST,
    Manifest,
    look_inside,
    read_manifest,
    take_backup,
    verify,
)
from edge_agent.store.tools.changes import Erasing
from edge_agent.store.tools.check import Report, check_store
from edge_agent.store.tools.check_deep import Deep, look_deep
from edge_agent.store.tools.replace import compact_store, erase_streams, require_room, restore_store
from edge_agent.store.tools.rewrite import Progress

__all__ = [
    "MANIFEST",
    "Deep",
    "Erasing",
    "Manifest",
    "Progress",
    "Report",
    "check_store",
    "compact_store",
    "erase_streams",
    "look_deep",
    "look_inside",
    "read_manifest",
    "require_room",
    "restore_store",
    "take_backup",
    "verify",
]
