"""The close marker is a file beside the store's that says which commit was the last at closing.

A root that the card said it had written, and had not, leaves a file that looks like one whose last
commit a power cut kept from being made: the root of the commit before is the newest, and nothing in
the file says that there was another. So a store that is closed leaves the number of its last commit
beside it, and one whose roots say less at the next start has lost a root: it is salvaged, which
finds what the root led to.

Nothing rests on the note being there. An older one says nothing, as numbers only rise; one that is
torn is none.
"""

from __future__ import annotations

import errno
import logging
import os
import zlib
from pathlib import Path

from edge_agent.system.files import open_plain

logger = logging.getLogger(__name__)

CLOSED = "closed"
_NOTE_BYTES_MAX = 64


def note_closed(folder: Path, commit: int) -> None:
    """Leave the number of the last commit in ``folder``, where the disk takes it."""
    number = b"%d" % commit
    note = b"%s %08x\n" % (number, zlib.crc32(number))
    made = folder / f"{CLOSED}.new"
    try:
        # Left by a power cut, or put there by somebody: neither is written through.
        made.unlink(missing_ok=True)
        fd = open_plain(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            if os.write(fd, note) != len(note):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
        made.rename(folder / CLOSED)
    except OSError as error:
        text = (
            "%s: which commit was the last could not be noted: %s. Nothing is lost by that; what"
            " is not the agent's there should be taken away"
        )
        logger.warning(text, error.filename or made, error.strerror)


def closed_at(folder: Path) -> int:
    """The number of the last commit when the store in ``folder`` was closed; 0 where there is no
    word of it.
    """
    try:
        fd = open_plain(folder / CLOSED, os.O_RDONLY)
    except OSError:
        return 0
    with os.fdopen(fd, "rb") as file:
        number, _, crc = file.read(_NOTE_BYTES_MAX).rstrip(b"\n").partition(b" ")
    return int(number) if number.isdigit() and crc == b"%08x" % zlib.crc32(number) else 0
