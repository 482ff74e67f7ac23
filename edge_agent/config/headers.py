"""Headers that a person may add to requests: which names and values they may have.

A name that belongs to the request itself (its length, its form, the key of its batch) is refused:
a second one would make two readers on the way see two requests. So is a line break in a value,
which would write headers of its own.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE_BYTES_MAX: Final = 4096
#: What the agent or the protocol says itself.
_TAKEN: Final = frozenset(
    (
        *("connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("content-encoding", "content-length", "content-type", "expect"),
        *("accept-encoding", "idempotency-key"),
    )
)
_TAKEN_PREFIXES: Final = ("proxy-", "sec-websocket-")


def header_name_problem(name: str) -> str | None:
    """What was expected instead of a header's ``name``; None where it is good."""
    if not _NAME.fullmatch(name):
        return "the name of a header, such as X-Api-Key"
    if name.lower() in _TAKEN or name.lower().startswith(_TAKEN_PREFIXES):
        return "a header that the agent does not send itself"
    return None


def header_value_problem(value: str) -> str | None:
    """What was expected instead of a header's ``value``; None where it is good."""
    if not value or len(value) > _VALUE_BYTES_MAX or value != value.strip():
        return f"a value of 1 to {_VALUE_BYTES_MAX} characters, without spaces around it"
    if not (value.isascii() and value.isprintable()):
        return "one line of printable ASCII"
    return None
