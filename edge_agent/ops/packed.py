"""Answers of the people's port packed with gzip, for who takes that: one bound and one level.

What is made anew for each question is packed quickly; files that stay the same are packed once, as
small as they get (``page/files.py``).
"""

from __future__ import annotations

import gzip
from typing import Final

from starlette.requests import Request

#: Less fits into one packet of Ethernet as it is.
PACKED_FROM: Final = 1400
#: The quickest that gzip has: who asks waits for it.
_QUICK: Final = 1


def takes_gzip(request: Request) -> bool:
    """Whether who asks can unpack."""
    accepted = request.headers.get("accept-encoding", "")
    return any(part.strip() == "gzip" for part in accepted.split(","))


def packed(body: bytes) -> bytes:
    """``body`` as gzip: half a millisecond for a chart's figures, which no ack is to wait for."""
    return gzip.compress(body, _QUICK, mtime=0)
