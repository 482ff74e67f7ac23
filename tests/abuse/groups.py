"""All groups of cases, in the order of the page."""

from __future__ import annotations

from tests.abuse import (
    frames,
    growth,
    http,
    hubs,
    local_files,
    messages,
    people,
    protocol,
    secured,
    tcp,
    upstreams,
)
from tests.abuse.cases import Cases

_ALL = (
    tcp.CASES, secured.TLS, http.CASES, frames.CASES, messages.JSON_CASES, messages.MSGPACK_CASES,
    protocol.CASES, protocol.NAMES, secured.TOKENS, secured.RATES, hubs.CASES, growth.CASES, people.CASES, upstreams.CASES, upstreams.HUBS,
    local_files.CASES,
)  # fmt: skip
GROUPS: dict[str, Cases] = {part.group: part for part in _ALL}
#: Those whose agent speaks TLS and asks for tokens.
SECURED = tuple(
    part.group for part in (secured.TLS, secured.TOKENS, secured.RATES, local_files.CASES)
)
