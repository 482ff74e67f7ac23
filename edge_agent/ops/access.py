"""The rules of access to the people's port, about Host, Origin and tokens, as pure functions.

`admit` says what may be read, `identity` as whom: a token's bearer, or where none is asked for the
address, has a place of its own beside others; who proved nothing has not.

On loopback everybody on this machine may look, and the danger is a browser: a page from elsewhere
that asks `127.0.0.1` on behalf of its author (foreign ``Origin``), or a name of the attacker's
that suddenly means 127.0.0.1 (DNS rebinding: foreign ``Host``). Off loopback a token with the
scope ``read`` is needed instead, and then the name that the agent was called by does not matter.

A token that is presented counts everywhere: it narrows what may be read to its streams, and a
wrong one is refused even on loopback. A session (`edge_agent.ops.sign_in`) stands for the token
that it began with, but only for what the agent's own page asks for, or a person by an address: the
browser brings its cookie along by itself, and sites differ less than origins (a page from another
port of this machine is of the same site).

**Orders** (POST, `ORDER_PATHS`) change what is kept or sent, so more is asked. No other page's
script may give one: they carry a header that a browser sends to another origin only after asking,
and the answer to that is no; origins listed for looking do not count. Where tokens are configured
one with the scope ``admin`` is needed, on loopback too. Without tokens only who is on this machine
may: a port that is ``insecure`` off loopback takes no orders at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_agent.net.access import (
    Readable,
    bearer_secret,
    everything,
    host_name,
    is_loopback,
    is_ours,
    nothing,
)

#: Paths that tell nothing about data: the pages ask for a token themselves, what they are made of
#: is the same everywhere, and a supervisor's probe has none.
OPEN_PATHS = frozenset({"/", "/healthz"})
OPEN_BELOW = ("/static/", "/stream/")
#: Paths that take a form of the agent's own page, by POST, and let look for nothing.
FORM_PATHS = frozenset({"/login", "/logout"})
#: Paths that take orders, by POST with this header.
ORDER_PATHS = frozenset({"/api/consumers", "/api/quarantine", "/api/resends", "/api/sources"})
#: Paths that only who may order, or read everything, may ask for.
OWNERS_PATHS = ORDER_PATHS | {"/api/tokens"}
ORDER_HEADER = "edge-agent-order"


@dataclass(frozen=True, slots=True)
class AccessRefusal:
    """What is answered instead: HTTP status, code for programs, sentence for people."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says.

    Attributes:
        loopback: whether the port listens on loopback only.
        needs_token: whether a token is asked of everybody.
        hosts: further names that the agent may be called by.
        origins: browser origins that may ask, beside the agent's own page.
        access: what the bearer of a token may read; None where the token is not known or may
            not read. None in place of the function: no tokens are configured.
        may_order: whether the bearer of a token has the scope admin; None likewise.
    """

    loopback: bool
    needs_token: bool
    hosts: frozenset[str]
    origins: frozenset[str]
    access: Callable[[str], Readable | None] | None
    may_order: Callable[[str], bool] | None = None

    @classmethod
    def of(
        cls,
        host: str,
        hosts: Iterable[str],
        origins: Iterable[str],
        access: Callable[[str], Readable | None] | None,
        *,
        insecure: bool,
        may_order: Callable[[str], bool] | None = None,
    ) -> Rules:
        """The rules for a port that listens on ``host``."""
        loopback = is_loopback(host)
        return cls(
            loopback=loopback,
            needs_token=not loopback and not (insecure and access is None),
            hosts=frozenset(hosts) | (frozenset() if loopback else {host}),
            origins=frozenset(origin.lower() for origin in origins),
            access=access,
            may_order=may_order,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that the rules look at; header values or None."""

    method: str
    path: str
    scheme: str
    host: str | None
    origin: str | None
    authorization: str | None
    fetch_site: str | None
    order: str | None = None
    upgrade: str | None = None
    #: The secret of the token behind the session that it belongs to.
    session: str | None = None


def admit(request: Request, rules: Rules) -> Readable | AccessRefusal:
    """What the sender of ``request`` may read, or why it is refused."""
    refusal = (
        _method(request) or _upgrade(request) or _host(request, rules) or _origin(request, rules)
    )
    if refusal is not None:
        return refusal
    if request.method == "OPTIONS":
        return nothing
    if request.method == "POST":
        return _form(request) if request.path in FORM_PATHS else _order(request, rules)
    if request.path in OWNERS_PATHS and _may_order(request, rules):
        # Who may settle it may see what it is about.
        return everything
    if request.authorization is not None:
        return _bearer(bearer_secret(request.authorization), rules)
    readable = _by_session(request, rules)
    if readable is not None:
        return readable
    if not rules.needs_token:
        return everything
    if _is_open(request.path):
        return nothing
    return AccessRefusal(401, "token_needed", "a token with the scope read is needed")


def identity(request: Request, rules: Rules, readable: Readable, address: str) -> str | None:
    """Who sent a ``request`` that may read ``readable``; None where that is not known."""
    if readable is nothing:
        return None
    secret = bearer_secret(request.authorization)
    if secret is None and _by_session(request, rules) is readable:
        secret = request.session
    return address if rules.access is None or secret is None else f"token {secret}"


def _method(request: Request) -> AccessRefusal | None:
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    if request.method == "POST" and request.path in ORDER_PATHS | FORM_PATHS:
        return None
    told = "this port answers questions: GET only. Records go to the sensors' port"
    return AccessRefusal(405, "bad_method", told)


def _order(request: Request, rules: Rules) -> Readable | AccessRefusal:
    own = f"{request.scheme}://{request.host}".lower()
    if request.order is None or (request.origin or own).lower() != own:
        return AccessRefusal(403, "no_order", f"an order carries the header {ORDER_HEADER}: yes")
    if rules.may_order is None:
        if rules.loopback:
            return everything
        text = "without tokens, orders are taken on loopback only; set http.address or tokens"
        return AccessRefusal(403, "no_tokens", text)
    if not _may_order(request, rules):
        return AccessRefusal(401, "token_needed", "a token with the scope admin is needed")
    return everything


def _form(request: Request) -> Readable | AccessRefusal:
    # Where it came from has been judged, if it is said; browsers say it with every form.
    if request.origin is None:
        return _foreign("an unknown site")
    return nothing


def _by_session(request: Request, rules: Rules) -> Readable | None:
    """What the bearer of the session's token may read; None without one that counts."""
    if request.session is None or rules.access is None:
        return None
    if request.fetch_site not in (None, "same-origin", "none"):
        return None
    return rules.access(request.session)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_BELOW)


def _may_order(request: Request, rules: Rules) -> bool:
    """Whether the request bears a token with the scope admin."""
    secret, known = bearer_secret(request.authorization), rules.may_order
    return known is not None and secret is not None and known(secret)


def _upgrade(request: Request) -> AccessRefusal | None:
    if (request.upgrade or "").lower() != "websocket":
        return None
    return AccessRefusal(
        400, "wrong_port", "this is the people's port; WebSockets connect to listen.address"
    )


def _host(request: Request, rules: Rules) -> AccessRefusal | None:
    if rules.needs_token:
        return None
    name = host_name(request.host)
    if is_ours(name, rules.hosts, loopback=rules.loopback):
        return None
    return AccessRefusal(
        403,
        "foreign_host",
        f"{name[:100]!r} is not a name of this agent; add it to http.hosts if it should be",
    )


def _origin(request: Request, rules: Rules) -> AccessRefusal | None:
    origin = request.origin
    if origin is None:
        # Browsers send no Origin with a plain GET, as an <img> or <script> makes it; newer ones
        # say where it came from. A person who follows a link to the page is welcome.
        if request.fetch_site == "cross-site" and not _is_open(request.path):
            return _foreign("another site")
        return None
    own = f"{request.scheme}://{request.host}"
    if origin.lower() in (own.lower(), *rules.origins):
        return None
    return _foreign(origin[:100])


def _foreign(origin: str) -> AccessRefusal:
    return AccessRefusal(
        403,
        "foreign_origin",
        f"a page from {origin} may not ask; add it to http.origins if it should",
    )


def _bearer(secret: str | None, rules: Rules) -> Readable | AccessRefusal:
    if rules.access is None:
        # Nothing to check it against; whoever may look without a token may look with one.
        return everything
    if not secret:
        return AccessRefusal(401, "bad_token", "expected Authorization: Bearer TOKEN")
    readable = rules.access(secret)
    if readable is None:
        return AccessRefusal(401, "bad_token", "this token is not known, or may not read")
    return readable
