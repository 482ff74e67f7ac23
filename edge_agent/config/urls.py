"""URLs of upstreams and proxies: what is wrong with one, and how one is shown to people.

A URL may hold secrets: a password before the host, a key in the query, and with many services a
key in the path (``https://hooks.example/services/T0/B0/KEY``). `shown_url` is the one way in which
status, journal, metrics, pages and errors show a URL.

How an upstream is asked stands here too: what does not fit of its headers, proxy, certificate and
accept. Of the headers that a person adds, a name that belongs to the request itself (its length,
its form, the key of its batch) is refused: a second one would make two readers on the way see two
requests. So is a line break in a value, which would write headers of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from edge_agent.config.body_template import TemplateProblem, envelope_parts, template_parts
from edge_agent.config.check_mqtt import mqtt_mistakes
from edge_agent.config.database_problems import database_problems, postgres_url_problem
from edge_agent.config.packages import sink_package
from edge_agent.config.queue_tables import kafka_mistakes, nats_mistakes
from edge_agent.config.upstreams import FORMATS, KINDS, SEVERAL, Upstream

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
    for one, other, what in (
        ("tls_certificate", "tls_key", "a file, as certificate and key go together"),
        ("user", "password_file", "this key, as user and password go together"),
    ):
        for given, missing in ((one, other), (other, one)):
            if missing == "user" and upstream.kind == "postgres":
                continue  # It may stand in the URL.
            if getattr(upstream, given) and not getattr(upstream, missing):
                yield Problem(missing, what, "nothing")
    if upstream.user and upstream.token_file:
        yield Problem("user", "either this key or token_file", "both")
    if upstream.user and (":" in upstream.user or not upstream.user.isprintable()):
        yield Problem("user", "a name of printable characters without a colon", "another one")
    yield from _accept_problems(upstream, is_agent=upstream.kind == "agent")
    yield from _header_problems(upstream)
    yield from _kind_problems(upstream)


def _kind_problems(upstream: Upstream) -> Iterator[Problem]:
    """A table of another kind than the URL's, and what a kind's own settings hold."""
    for name in upstream.tables:
        if name == "influx" != upstream.kind:
            yield Problem(name, 'format = "line", and a URL with http:// or https://', "another")
        elif name != upstream.kind:
            kinds = " or ".join(f"{scheme}://" for scheme, kind in KINDS.items() if kind == name)
            expected = f"a URL with {kinds}"
            yield Problem(name, expected, f"one with {upstream.scheme}://")
    if upstream_url_problem(upstream.url) is None:
        yield from (Problem(*one) for one in database_problems(upstream))
    known = FORMATS.get(upstream.kind)
    if known is not None and upstream.format not in known:
        expected = " or ".join(f'"{name}"' for name in known)
        yield Problem("format", expected, f'"{upstream.format}"')
    if upstream.options and upstream.kind in KINDS.values():
        yield Problem("options", "a URL whose scheme a package brings", f"{upstream.scheme}://")
    yield from _body_problems(upstream)
    mistakes = [("nats", one) for one in nats_mistakes(upstream.nats)] if upstream.nats else []
    if upstream.kafka:
        mistakes += [("kafka", one) for one in kafka_mistakes(upstream.kafka)]
    for table, (key, expected, found) in mistakes:
        yield Problem(f"{table}.{key}", expected, found)
    if upstream.kind == "mqtt":
        yield from (Problem(*mistake) for mistake in mqtt_mistakes(upstream))


def _body_problems(upstream: Upstream) -> Iterator[Problem]:
    """What is wrong with a template and what stands around it."""
    http = upstream.http
    if http is None:
        return
    for key, text, read in (
        ("http.template", http.template, template_parts),
        ("http.envelope", http.envelope, envelope_parts),
    ):
        try:
            if text is not None:
                read(text)
        except TemplateProblem as problem:
            yield Problem(key, problem.expected, problem.found)
    if http.envelope is not None and http.template is None:
        yield Problem("http.template", "a template for the records of the envelope", "nothing")
    if http.template is not None and upstream.format not in ("ndjson", "json"):
        expected = 'format = "ndjson" or "json", as a template says itself what a record is'
        yield Problem("format", expected, f'"{upstream.format}"')
    if http.content_type is not None and (wrong := header_value_problem(http.content_type)):
        yield Problem("http.content_type", wrong, "something else")


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
        if name.lower() == "authorization" and upstream.user:
            yield Problem(key, "either this header or user", "both")
        if isinstance(value, str) and (problem := header_value_problem(value)):
            yield Problem(key, problem, "something else")
        seen.add(name.lower())


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
    scheme, mark, rest = url.partition("://")
    if mark and KINDS.get(scheme.lower()) in SEVERAL:
        # One by one: what is right between brackets and commas is not the same in all Pythons.
        each = rest.rpartition("@")[2].split(",")
        shown = (_shown_place(f"{scheme}://{one}") for one in each)
        return f"{scheme}://{','.join(one.removeprefix(f'{scheme}://') for one in shown)}"
    return _shown_place(url)


def _shown_place(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "…"
    if parts.scheme == "file":
        # A folder is no secret.
        return "".join(c if c.isprintable() else "…" for c in f"file://{host}{parts.path}")
    if not parts.scheme or not host:
        # Not a URL, or one that a package knows: what stands behind the scheme may be a secret.
        return (
            f"{parts.scheme}://…" if parts.scheme and url[len(parts.scheme) :][:3] == "://" else "…"
        )
    path = "/".join(
        part if not part or _PLAIN.fullmatch(part) else "…" for part in parts.path.split("/")
    )
    shown = f"{parts.scheme}://{host}{path}" + ("?…" if parts.query else "")
    return "".join(c if c.isprintable() else "…" for c in shown)


def upstream_url_problem(url: str) -> str | None:
    """What was expected instead of an upstream's ``url``; None where it is good."""
    if KINDS.get(url.partition("://")[0].lower()) in SEVERAL:
        return _servers_problem(url)
    parts = _parts(url)
    if parts.scheme == "file":
        plain = parts.netloc in ("", "localhost") and not parts.query and not parts.fragment
        is_folder = plain and unquote(url).isprintable() and parts.path.startswith("/")
        return None if is_folder else '"file:///FOLDER", such as file:///mnt/usb/edge'
    if parts.scheme and sink_package(parts.scheme) is not None:
        return None if url.isprintable() else "a URL of printable characters"
    if not parts.hostname or parts.scheme not in KINDS or parts.fragment or not url.isprintable():
        return (
            '"wss://HOST:PORT/forward" for another agent, or a URL with https://, mqtts://,'
            " postgresql://, nats://, kafka:// or file://, or with the scheme of a package that is"
            " installed beside the agent (docs/own-sink.md)"
        )
    if KINDS[parts.scheme] == "postgres":
        return postgres_url_problem(parts)
    if parts.username is not None or parts.password is not None:
        return "a URL without user and password (a token belongs into token_file)"
    if parts.scheme in ("ws", "wss") and (parts.path != "/forward" or parts.query):
        return f'"{parts.scheme}://{parts.netloc}/forward", another agent\'s port for agents'
    if KINDS[parts.scheme] == "mqtt" and (parts.path not in ("", "/") or parts.query):
        return f'"{parts.scheme}://{parts.netloc}" (the topic stands in its table mqtt)'
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


def servers_of(url: str, port: int) -> list[tuple[str, int]]:
    """Host and port of each server that ``url`` names; ``port`` where it says none.

    ``nats://one,two:4223`` and 4222 are one:4222 and two:4223.
    """
    scheme, _, rest = url.partition("://")
    each = [_parts(f"{scheme}://{one}") for one in rest.rstrip("/").split(",")]
    return [(parts.hostname or "", parts.port or port) for parts in each]


def _servers_problem(url: str) -> str | None:
    scheme, _, rest = url.partition("://")
    if "@" in rest:
        return "a URL without user and password (a token belongs into token_file)"
    plain = url.isprintable() and not any(one in rest.rstrip("/") for one in "/?# ")
    if not plain or not all(host for host, _ in servers_of(url, 1)):
        return f'"{scheme}://HOST:PORT", or several: "{scheme}://ONE:PORT,TWO:PORT"'
    return None


def _parts(url: str) -> SplitResult:
    """An empty one where it is no URL."""
    try:
        parts = urlsplit(url)
        # What is wrong with these is found only now; and of a name of a host, what the resolver
        # would find: "a..b" has a part without a letter.
        (parts.hostname or "").encode("idna")
        if parts.port == 0:
            return urlsplit("")
    except ValueError:
        return urlsplit("")
    return parts
