"""Signing in: a token given once, in a form, becomes a cookie that a browser brings along.

The cookie names a session and holds no secret; scripts cannot read it (``HttpOnly``), no other site
makes a browser send it (``SameSite=Strict``), and where the port speaks TLS it goes nowhere else
(``Secure``). A session ends `SESSION_S` after it began, when somebody signs out, when the agent
ends, and with its token: what may be read is asked of the tokens anew at each request.

A session lets look and nothing more: orders are given with a token (`edge_agent.ops.access`).
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from urllib.parse import parse_qs

import trio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge_agent.errors import ProtocolError
from edge_agent.ops.access import Rules
from edge_agent.ops.facts import Sources
from edge_agent.ops.page.files import answer_page
from edge_agent.ops.page.frame import HEADERS
from edge_agent.ops.page.page import render_locked

SESSION_S = 7 * 86_400
#: Beyond, the one that began first ends.
SESSIONS_MAX = 1_000
_FORM_BYTES_MAX = 4 * 1024


class Sessions:
    """The sessions of one port, in memory. ``now`` is a clock that nobody sets."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, secret: str) -> str:
        """One for whoever has the token ``secret``; its key."""
        key = secrets.token_urlsafe(32)
        self._open[key] = (secret, self._now() + SESSION_S)
        if len(self._open) > SESSIONS_MAX:
            self._open.popitem(last=False)
        return key

    def secret(self, key: str) -> str | None:
        """The token's secret behind a session; None where it is over."""
        secret, end = self._open.get(key, ("", 0.0))
        if secret and self._now() < end:
            return secret
        self._open.pop(key, None)
        return None

    def end(self, key: str) -> None:
        """It is over."""
        self._open.pop(key, None)


class SignIn:
    """The routes, and what is behind a cookie."""

    def __init__(self, sources: Sources, rules: Rules) -> None:
        self._sources, self._rules = sources, rules
        self._sessions = Sessions()
        # Browsers tell cookies of two agents on one machine apart by their names alone.
        self._name = f"edge-agent-{sources.log.identity.agent_id}"

    def secret_of(self, cookies: str | None) -> str | None:
        """The token's secret behind a header Cookie; None without a session."""
        key = self._key(cookies)
        return None if key is None else self._sessions.secret(key)

    async def login(self, request: Request) -> Response:
        """Begin a session with the token of a form, and go on to what was to be seen."""
        form = await _form(request)
        then, secret = _own_path(form.get("then", "")), form.get("token", "").strip()
        access, tokens = self._rules.access, self._sources.tokens
        if access is None:
            return RedirectResponse(then, 303)  # Nobody needs a token here.
        if access(secret) is None and tokens is not None:
            # It may have been made a moment ago.
            await tokens.refresh()
        if access(secret) is None:
            trouble = "This token is not known, or may not read."
            address = request.client.host if request.client else ""
            self._sources.refused.note("http.address", address, "bad_token", trouble)
            return answer_page(request, render_locked(then, trouble), HEADERS, 401)
        key = self._sessions.begin(secret)
        return self._going_on(request, then, f"{self._name}={key}; Max-Age={SESSION_S}")

    async def logout(self, request: Request) -> Response:
        """End the session."""
        key = self._key(request.headers.get("cookie"))
        if key is not None:
            self._sessions.end(key)
        return self._going_on(request, "/", f"{self._name}=; Max-Age=0")

    def _going_on(self, request: Request, then: str, cookie: str) -> Response:
        secure = "; Secure" if request.scope["scheme"] == "https" else ""
        headers = {"Set-Cookie": f"{cookie}; Path=/; HttpOnly; SameSite=Strict{secure}"}
        return RedirectResponse(then, 303, headers)

    def _key(self, cookies: str | None) -> str | None:
        # By hand: the library's parser gives nothing at all where another program's cookie on this
        # machine is not as it should be.
        for one in (cookies or "").split(";"):
            name, _, value = one.strip().partition("=")
            if name == self._name:
                return value
        return None


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > _FORM_BYTES_MAX:
                raise ProtocolError("bad_form", f"a form has at most {_FORM_BYTES_MAX} bytes")
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=10)
    except ValueError:
        raise ProtocolError("bad_form", "expected token and then, as a form sends them") from None
    return {name: values[0] for name, values in fields.items()}


def _own_path(text: str) -> str:
    """A path of this port; never another site, whatever a link made of the form."""
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_own else "/"
