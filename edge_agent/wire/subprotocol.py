"""Before the upgrade: which subprotocol, whose token, which endpoint.

Every fault here is answered over HTTP, before there is a WebSocket: `HTTP_STATUS` says with what.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args
from urllib.parse import parse_qsl, unquote

from edge_agent.errors import ProtocolError
from edge_agent.session import JSON_SESSION, MSGPACK_SESSION, PLAIN
from edge_agent.values.stream_names import compile_pattern, stream_problem

TOKEN_PREFIX = "edge-agent.token."
_OURS = "edge-agent."

Kind = Literal["ingest", "forward", "subscribe", "query"]
ConnectionMode = Literal["plain", "json", "msgpack"]

_MODES: Mapping[str, ConnectionMode] = MappingProxyType(
    {PLAIN: "plain", JSON_SESSION: "json", MSGPACK_SESSION: "msgpack"}
)

#: HTTP status for the codes that this module raises.
HTTP_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "bad_stream": 400,
        "bad_pattern": 400,
        "bad_query": 400,
        "bad_subprotocol": 400,
        "bad_token": 401,
        "unknown_path": 404,
    }
)

#: Query keys that each endpoint knows.
_KEYS: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        "ingest": frozenset({"ack"}),
        "forward": frozenset(),
        "subscribe": frozenset({"from", "filter", "step", "fields"}),
        "query": frozenset({"stream", "from", "to", "limit", "filter", "aggregate"}),
    }
)
_TARGET_CHARACTERS_MAX = 4096
_TOKEN_BYTES_MAX = 512


@dataclass(frozen=True, slots=True)
class Choice:
    """What the agent makes of ``Sec-WebSocket-Protocol``.

    Attributes:
        subprotocol: what to answer, None where nothing of ours was offered.
        mode: how the connection speaks.
        token: the token offered in place of an Authorization header; never echoed or logged.
    """

    subprotocol: str | None
    mode: ConnectionMode
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the request asks for.

    Attributes:
        kind: the endpoint.
        name: stream of ingest, pattern of subscribe, "" otherwise.
        ack: ingest, plain mode: whether to tell acks and errors (``?ack=1``).
        options: the other query keys as given, percent-decoded: ``from``, ``filter``, …
    """

    kind: Kind
    name: str = ""
    ack: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def start(self) -> str | None:
        """Where a subscription begins: ``?from=``, None where it is not given."""
        return self.options.get("from")

    @property
    def filter(self) -> str | None:
        """The expression of ``?filter=``, None where it is not given."""
        return self.options.get("filter")


def choose_subprotocol(offered: Sequence[str]) -> Choice:
    """The first of the offered subprotocols that is ours; plain mode where none is.

    Foreign ones (``arduino``) are ignored: who needs one sees that none was chosen (RFC 6455,
    4.2.2), and many clients name one and need nothing.

    Raises:
        ProtocolError: ``bad_subprotocol`` where none of ours is known but one has our prefix, as of
            a version to come, whose hello would be stored as a record; ``bad_token`` where a token
            is not base64url.
    """
    token: str | None = None
    others: list[str] = []
    for name in offered:
        if name.startswith(TOKEN_PREFIX):
            if token is not None:
                raise ProtocolError("bad_token", "more than one token was offered")
            token = decode_token(name)
        else:
            others.append(name)
    for name in others:
        if name in _MODES:
            return Choice(name, _MODES[name], token)
    if any(name.startswith(_OURS) for name in others):
        raise ProtocolError(
            "bad_subprotocol",
            f"none of the offered subprotocols is known; this agent speaks {', '.join(_MODES)}",
        )
    return Choice(None, "plain", token)


def encode_token(token: str) -> str:
    """The subprotocol that carries ``token``, for browsers: base64url without padding."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def decode_token(subprotocol: str) -> str:
    """The token in a token subprotocol. The error never repeats it.

    Raises:
        ProtocolError: ``bad_token``.
    """
    coded = subprotocol.removeprefix(TOKEN_PREFIX).rstrip("=")
    try:
        if not coded or len(coded) > _TOKEN_BYTES_MAX * 4 // 3 + 4:
            raise ValueError("empty or too long")
        padded = coded + "=" * (-len(coded) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        # The cause would show parts of the token in a traceback.
        raise ProtocolError("bad_token", "the token subprotocol is not base64url") from None


def parse_target(target: str) -> Endpoint:
    """The endpoint that a request line names, e.g. ``/ingest/greenhouse/bme280?ack=1``.

    Percent-encoding is undone once, slashes included: ``encodeURIComponent`` writes
    ``greenhouse%2Fbme280`` and means the same stream.

    Raises:
        ProtocolError: ``unknown_path``, ``bad_stream``, ``bad_pattern``, ``bad_query``.
    """
    if len(target) > _TARGET_CHARACTERS_MAX:
        raise ProtocolError(
            "bad_query", f"a target has at most {_TARGET_CHARACTERS_MAX} characters"
        )
    path, _, query = target.partition("?")
    head, _, rest = path.removeprefix("/").partition("/")
    kind = _kind_of(path, head)
    name = _decoded(rest, "bad_stream")
    if kind == "ingest":
        problem = stream_problem(name)
        if problem is not None:
            raise ProtocolError("bad_stream", f"/ingest/STREAM: {problem}")
    elif kind == "subscribe":
        compile_pattern(name)
    elif name:
        raise _unknown_path(path)
    options = _options(kind, query)
    ack = options.pop("ack", "0")
    if ack not in ("0", "1"):
        raise ProtocolError("bad_query", "ack: expected 0 or 1")
    return Endpoint(kind, name, ack == "1", MappingProxyType(options))


def _kind_of(path: str, head: str) -> Kind:
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        if head == kind and path.startswith("/"):
            return kind
    raise _unknown_path(path)


def _unknown_path(path: str) -> ProtocolError:
    return ProtocolError(
        "unknown_path",
        f"{path[:100]!r}: this port knows /ingest/STREAM, /forward, /subscribe/PATTERN and /query",
    )


def _options(kind: Kind, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=16,
        )
    except ValueError:
        # The cause would repeat what was given, and people do put tokens into URLs.
        raise ProtocolError("bad_query", "the query is not key=value&… in UTF-8") from None
    options: dict[str, str] = {}
    for key, value in pairs:
        if key in ("token", "access_token"):
            raise ProtocolError(
                "bad_query",
                "tokens do not go into URLs: use the header Authorization: Bearer TOKEN, or the "
                f"subprotocol {TOKEN_PREFIX}BASE64URL",
            )
        if key not in _KEYS[kind]:
            known = ", ".join(sorted(_KEYS[kind])) or "none"
            raise ProtocolError("bad_query", f"{key[:40]!r}: /{kind} knows these keys: {known}")
        if key in options:
            raise ProtocolError("bad_query", f"{key!r} is given twice")
        options[key] = value
    return options


def _decoded(text: str, code: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ProtocolError(code, "the path is not UTF-8 once percent-decoded") from None
