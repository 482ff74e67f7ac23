"""Names of files: they sort, and say whose records are in them.

::

    AGENT.LOG.FIRST-LAST.EPOCH.UPSTREAM.COUNT.ndjson.gz
    9b1d….main.0000000000000001-0000000000010000.5f0c….usb.10000.ndjson.gz

``FIRST-LAST`` are the numbers of the log that were looked at, ``COUNT`` how many of them are in the
file: others were left out by the upstream's patterns, or gone. So a file that was cut off is known,
and a folder in which one is missing. Behind ``COUNT`` may stand what tells two files of one range
apart (``moved-1``), as in an ``Idempotency-Key``.

Names of logs and upstreams have capitals with a plus before them, ``+main`` for ``Main``: sticks
with a FAT file system take both for one name.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_DIGITS: Final = 16
_NAME: Final = re.compile(
    r"(?P<agent>[0-9a-f]{1,64})\.(?P<log>[a-z0-9+._-]{1,128})"
    r"\.(?P<first>\d{16,19})-(?P<last>\d{16,19})\.(?P<epoch>[0-9a-f]{1,64})"
    r"\.(?P<upstream>[a-z0-9+._-]{1,128})\.(?P<count>\d{1,9})(?P<variant>(?:\.[a-z]+-\d+)*)"
    r"\.(?P<form>ndjson|csv|parquet)(?P<packed>\.gz|\.zst)?"
)


class FileName(NamedTuple):
    """What a name says."""

    agent: str
    epoch: str
    log: str
    upstream: str
    first: int
    last: int
    records: int
    form: str = "ndjson"
    packed: str = ""
    variant: str = ""

    @property
    def store(self) -> str:
        """The numbering that ``first`` and ``last`` are of."""
        return f"{self.agent}/{self.epoch}/{self.log}"

    def text(self) -> str:
        """The name."""
        numbers = f"{self.first:0{_DIGITS}}-{self.last:0{_DIGITS}}"
        parts = (self.agent, _folded(self.log), numbers, self.epoch, _folded(self.upstream))
        variant = self.variant.replace("/", ".")
        return f"{'.'.join(parts)}.{self.records}{variant}.{self.form}{self.packed}"


def parse_name(text: str) -> FileName | None:
    """What a name says; None for one that no upstream of ours has written."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    return FileName(
        found["agent"],
        found["epoch"],
        _unfolded(found["log"]),
        _unfolded(found["upstream"]),
        int(found["first"]),
        int(found["last"]),
        int(found["count"]),
        found["form"],
        found["packed"] or "",
        found["variant"].replace(".", "/"),
    )


def _folded(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"+{found[0].lower()}", name)


def _unfolded(name: str) -> str:
    return re.sub(r"\+([a-z])", lambda found: found[1].upper(), name)
