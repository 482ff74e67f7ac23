"""URLs of upstreams and proxies: what is wrong with one, and how one is shown to people.

A URL may hold secrets: a password before the host, a key in the query, and with many services a
key in the path (``https://hooks.example/services/T0/B0/KEY``). `shown_url` is the one way in which
status, journal, metrics, pages and errors show a URL.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_SCHEMES = ("ws", "wss", "http", "https")
#: What a part of a path may be to be shown: a word that services use, or a version. Whatever else
#: stands there could be a key; no rule can tell a password from a word.
_PLAIN = re.compile(
    r"v?\d{1,2}(\.\d{1,2})?|_?(api|batch|bulk|collector|data|events?|forward|hooks?|http|in|ingest"
    r"|inputs?|intake|json|logs?|loki|measurements?|metrics?|otlp|post|push|raw|records?|sensors?"
    r"|series|services?|streams?|telemetry|upload|webhooks?|write)",
)


def shown_url(url: str) -> str:
    """``url`` for people: scheme, host, port, and of the path what cannot be a secret.

    ``https://me:pw@hub.example/services/T0/KEY?k=1`` is shown as
    ``https://hub.example/services/…/…?…``.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "…"
    if not parts.scheme or not host:
        # Not a URL; a mistake of this kind is told by its beginning.
        return "…"
    path = "/".join(
        part if not part or _PLAIN.fullmatch(part) else "…" for part in parts.path.split("/")
    )
    shown = f"{parts.scheme}://{host}{path}" + ("?…" if parts.query else "")
    return "".join(c if c.isprintable() else "…" for c in shown)


def upstream_url_problem(url: str) -> str | None:
    """What was expected instead of an upstream's ``url``; None where it is good."""
    parts = _parts(url)
    if (
        not parts.hostname
        or parts.scheme not in _SCHEMES
        or parts.fragment
        or not url.isprintable()
    ):
        return '"wss://HOST:PORT/forward" for another agent or "https://HOST/PATH"'
    if parts.username is not None or parts.password is not None:
        return "a URL without user and password (a token belongs into token_file)"
    if parts.scheme in ("ws", "wss") and (parts.path != "/forward" or parts.query):
        return f'"{parts.scheme}://{parts.netloc}/forward", another agent\'s port for agents'
    return None


def proxy_problem(proxy: str) -> str | None:
    """What was expected instead of a ``proxy``; None where it is good."""
    parts = _parts(proxy)
    if parts.username is not None or parts.password is not None:
        return "a proxy without user and password (they belong into proxy_auth_file)"
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    if proxy != "environment" and not (parts.hostname and parts.scheme == "http" and plain):
        return '"http://HOST:PORT", or "environment" for what HTTPS_PROXY and its like say'
    return None


def _parts(url: str) -> SplitResult:
    """An empty one where it is no URL."""
    try:
        parts = urlsplit(url)
        _ = parts.hostname, parts.port  # what is wrong with these is found only now
    except ValueError:
        return urlsplit("")
    return parts
