"""How an upstream is asked: what does not fit of its URL, headers, proxy, certificate and accept.

Of the headers that a person adds, a name that belongs to the request itself (its length, its form,
the key of its batch) is refused: a second one would make two readers on the way see two requests.
So is a line break in a value, which would write headers of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from edge_agent.config.shape import Upstream
from edge_agent.config.urls import proxy_problem, shown_url, upstream_url_problem

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


class Problem(NamedTuple):
    """What does not fit: the key within the table, what was expected, what was found."""

    key: str
    expected: str
    found: str


def request_problems(upstream: Upstream) -> Iterator[Problem]:
    """All that does not fit of how an upstream is asked. No text repeats what may be a secret."""
    if problem := upstream_url_problem(upstream.url):
        yield Problem("url", problem, f'"{shown_url(upstream.url)}"')
    if upstream.proxy is not None and (problem := proxy_problem(upstream.proxy)):
        yield Problem("proxy", problem, f'"{shown_url(upstream.proxy)}"')
    if upstream.proxy_auth_file and not upstream.proxy:
        yield Problem("proxy", "a proxy for proxy_auth_file", "nothing")
    for given, missing in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        if getattr(upstream, given) and not getattr(upstream, missing):
            yield Problem(missing, "a file, as certificate and key go together", "nothing")
    yield from _accept_problems(upstream, is_agent=upstream.url.startswith(("ws:", "wss:")))
    yield from _header_problems(upstream)


def _accept_problems(upstream: Upstream, *, is_agent: bool) -> Iterator[Problem]:
    accept = upstream.accept
    kind, _, word = accept.partition(":")
    if accept not in ("auto", "json", "status") and not (kind == "text" and word.strip()):
        expected = '"auto", "json", "status" or "text:WORD", such as "text:ok"'
        yield Problem("accept", expected, f'"{accept}"')
    elif accept != "auto" and is_agent:
        yield Problem("accept", '"auto", as another agent acknowledges by number', f'"{accept}"')


def _header_problems(upstream: Upstream) -> Iterator[Problem]:
    seen: set[str] = set()
    for name, value in upstream.headers.items():
        key = f"headers.{name}"
        if problem := header_name_problem(name):
            yield Problem(key, problem, f'"{name}"')
        if name.lower() in seen:
            yield Problem(key, "each name once, whatever its case", "two")
        if name.lower() == "authorization" and upstream.token_file:
            yield Problem(key, "either this header or token_file", "both")
        if isinstance(value, str) and (problem := header_value_problem(value)):
            yield Problem(key, problem, "something else")
        seen.add(name.lower())
