"""Checks of upstreams that are databases. No text repeats what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from edge_agent.config.databases import PRECISIONS, InfluxTable, PostgresTable
from edge_agent.config.upstreams import Upstream

Found = tuple[str, str, str]
"""The key within the upstream's table, what was expected, what was found."""

_TAGS: Final = ("agent", "source", "stream")
_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")
SSL_MODES: Final = ("disable", "require", "verify-ca", "verify-full")


def database_problems(upstream: Upstream) -> Iterator[Found]:
    """All that does not fit of an ``influx`` or a ``postgres`` upstream; none of any other."""
    if upstream.kind == "influx":
        yield from _influx_problems(upstream, upstream.influx or InfluxTable())
    elif upstream.kind == "postgres":
        yield from _postgres_problems(upstream, upstream.postgres or PostgresTable())


def postgres_url_problem(parts: SplitResult) -> str | None:
    """What was expected instead of a URL of PostgreSQL; None where it is good."""
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.password is not None:
        return "a URL without a password (it belongs into password_file)"
    if not re.fullmatch(r"/[^/]+", parts.path) or set(query) - {"sslmode"}:
        return '"postgresql://USER@HOST:PORT/DATABASE", with "?sslmode=…" where it is needed'
    if query and query["sslmode"][-1] not in SSL_MODES:
        return f"sslmode as one of {', '.join(SSL_MODES)}"
    return None


def _influx_problems(upstream: Upstream, table: InfluxTable) -> Iterator[Found]:
    name = table.measurement
    if not name.strip() or not name.isprintable() or "\\" in name or name.startswith("#"):
        expected = "a name without a backslash, and not with # in front"
        yield "influx.measurement", expected, f'"{name}"'
    for tag in table.tags:
        if tag not in _TAGS or table.tags.count(tag) > 1:
            yield "influx.tags", f"each of {', '.join(_TAGS)} at most once", f'"{tag}"'
    if "{stream}" not in name and "stream" not in table.tags:
        expected = '"stream" among them, as influx.measurement does not name it'
        yield "influx.tags", expected, "none"
    precision = _parameter(upstream.url, "precision") or "ns"
    if precision not in PRECISIONS:
        yield "url", f"precision as one of {', '.join(PRECISIONS)}", f'"{precision}"'
    elif PRECISIONS[precision] > 1 and table.unique_times and not table.victoria:
        expected = "precision=ns in the URL, or false"
        yield "influx.unique_times", expected, f"true with precision={precision}"
    if upstream.compression == "zstd":
        yield "compression", '"gzip" or "none"', '"zstd"'
    if upstream.accept not in ("auto", "status"):
        yield "accept", '"auto" or "status"', f'"{upstream.accept}"'


def _postgres_problems(upstream: Upstream, table: PostgresTable) -> Iterator[Found]:
    if not _TABLE.fullmatch(table.table):
        expected = "TABLE or SCHEMA.TABLE, of letters, digits and _"
        yield "postgres.table", expected, f'"{table.table}"'
    for key in ("proxy", "token_file", "headers"):
        if getattr(upstream, key):
            yield key, "nothing, as PostgreSQL has no such thing", "something"
    in_url = urlsplit(upstream.url).username is not None
    if in_url == bool(upstream.user):
        found = "both" if in_url else "none"
        yield "user", "a user, in the URL or here", found


def _parameter(url: str, name: str) -> str | None:
    """The last one of that name in the query of ``url``."""
    return parse_qs(urlsplit(url).query).get(name, [None])[-1]
