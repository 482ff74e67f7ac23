"""What LMDB and the operating system raise, in our own words; the only such place."""

from __future__ import annotations

import lmdb

from edge_agent.errors import StoreDamaged, StoreError, StoreFailed

#: What may come out of an LMDB call that is not our own mistake.
TROUBLE = (lmdb.Error, OSError)

_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
)


def translated(error: BaseException, doing: str) -> StoreError:
    """The error to raise from ``error``: StoreDamaged where the file is wrong, else StoreFailed
    (the disk refused; after a failed meta page write LMDB answers everything with a panic until
    the environment is opened anew).
    """
    if isinstance(error, _DAMAGED):
        return StoreDamaged(f"{doing}: the store file is damaged: {error}")
    return StoreFailed(f"{doing}: {error}")
