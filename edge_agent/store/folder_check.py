"""This module checks that the store is still where it was opened.

Folders get deleted under running agents.

A deleted file goes on taking writes and syncs until its last user closes it, and then all of it
is gone. So before every transaction the names are looked up again: what is acked can be found.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path


class FolderCheck:
    """Remembers which files bear these names now; names without a file are not watched."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = {path: which for path in files if (which := _which(path)) is not None}

    def check(self) -> None:
        """Raises OSError (ENOENT) where a name has lost its file."""
        for path, which in self._files.items():
            if _which(path) != which:
                text = "it was deleted or replaced while the agent was running"
                raise FileNotFoundError(errno.ENOENT, text, str(path))


def _which(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
