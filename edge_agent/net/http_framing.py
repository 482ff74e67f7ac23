"""What both ports read of a request alike: its target, and whether it says in one way alone where
it ends.

h11 reads what RFC 9112 lets a server read, and of two lengths takes the one that counts. But what
two readers on the way might understand differently is how a request is smuggled past the first of
them: a proxy that takes the other length sends us, within a body, what we would take for the next
request of somebody else. No client means such a request, so both ports refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_HOST_END = re.compile(rb"[/?#]")

Headers = Iterable[tuple[bytes, bytes]]
"""Names in small letters, and values."""


def framing_fault(headers: Headers, version: bytes, *, may_have_body: bool = True) -> str | None:
    """What is wrong, as a sentence; None where nothing is.

    ``may_have_body`` False: of an upgrade, behind which frames follow at once, and which says that
    a body does.
    """
    lengths, codings = [], []
    for name, value in headers:
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
    if lengths and codings:
        return "Content-Length and Transfer-Encoding came together."
    if codings and version == b"1.0":
        return "HTTP/1.0 has no Transfer-Encoding."
    if not may_have_body and (codings or any(value.strip() != b"0" for value in lengths)):
        return "An upgrade has no body."
    return None


def origin_form(target: bytes) -> bytes:
    """``/path?query`` of a target; a proxy's request names scheme and host before it."""
    for scheme in (b"http://", b"https://"):
        if target.lower().startswith(scheme):
            # Whatever ends the host, a slash in what is asked begins no path.
            if (end := _HOST_END.search(target, len(scheme))) is None:
                return b"/"
            rest = target[end.start() :]
            return rest if rest[:1] == b"/" else b"/" + rest
    return target
