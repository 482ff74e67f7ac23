"""All groups of cases, in the order of the page."""

from __future__ import annotations

from tests.abuse import frames, http, messages, tcp
from tests.abuse.cases import Cases

GROUPS: dict[str, Cases] = {
    part.group: part
    for part in (tcp.CASES, http.CASES, frames.CASES, messages.JSON_CASES, messages.MSGPACK_CASES)
}
