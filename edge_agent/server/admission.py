"""This module decides who may come in, as whom, how many and how fast.

It is pure: it is told the time and the headers.

Order of judgement: who bears a known token is let in by what that allows (403). Everybody else
meets the address rules (Host, Origin: 403), so that nobody learns more than needed, and then 401.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.config import Listen
from edge_agent.net.access import bearer_secret, host_name, is_bearer, is_ours, nothing
from edge_agent.security.tokens import Token, Tokens
from edge_agent.server.handshake import HandshakeRefusal, Head

#: Buckets of peers that have been quiet long enough to be full again are forgotten at this many.
BUCKETS_MAX = 4096
#: A sender may save up this many seconds of its rate.
BURST_S = 1.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: an IP address or "", and whether it came in over loopback."""

    address: str
    loopback: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """What a connection may do. Without a tokens file everybody may do everything.

    Attributes:
        name: of the token, or the peer's address; the key of rate limits, shown in status.
        identity: the token's name; "" where no tokens are asked for, and so nobody proved a name.
        may_write, may_be, may_read: by stream, source and stream; None allows all.
        may_bring: by agent, whose records it may forward; None allows all.
        forward, admin: the scopes of those names.
        token: that it came by; None without a tokens file.
    """

    name: str
    identity: str = ""
    may_write: Callable[[str], bool] | None = None
    may_be: Callable[[str], bool] | None = None
    may_read: Callable[[str], bool] | None = None
    may_bring: Callable[[str], bool] | None = None
    forward: bool = True
    admin: bool = True
    token: Token | None = None

    def require_write(self, stream: str) -> None:
        """Refusal 403 where the stream may not be written."""
        if self.may_write is not None and not self.may_write(stream):
            raise self._forbidden(f"The token does not allow writing {stream[:200]!r}.", "--write")

    @property
    def may_pass(self) -> Callable[[str], bool] | None:
        """Which streams may come by forwarding: those that may be written, where the token says
        which; None allows all.
        """
        return None if self.may_write is nothing else self.may_write

    def require_read(self) -> None:
        """Refusal 403 where nothing may be read."""
        if self.may_read is not None and self.may_read is nothing:
            raise self._forbidden("The token does not allow reading.", "--read")

    def require_forward(self) -> None:
        """Refusal 403 where the scope ``forward`` is missing."""
        if not self.forward:
            raise self._forbidden("The token has no scope 'forward'.", "--forward")

    def _forbidden(self, sentence: str, option: str) -> HandshakeRefusal:
        cure = f"It is {self.name!r}; edge-agent token add {option} makes one that does."
        return HandshakeRefusal(403, sentence, "forbidden", cure=cure)


def admit(
    upgrade: Head, offered: str | None, peer: Peer, listen: Listen, tokens: Tokens | None
) -> Grant:
    """Judge a request; ``offered`` is the token that came as a subprotocol (as browsers do).

    Raises:
        Refusal: 401 or 403, with a sentence.
    """
    secret = offered if upgrade.authorization is None else bearer_secret(upgrade.authorization)
    by_url = secret is None and upgrade.url_secret is not None
    secret = upgrade.url_secret if by_url else secret
    token = None if tokens is None or secret is None else tokens.find(secret)
    if token is not None and by_url and not token.in_url:
        token = None
    if token is not None:
        # Whoever knows a secret is no page that somebody happened to open.
        return grant(token)
    name = host_name(upgrade.host)
    fixed = is_ours(name, listen.hosts, loopback=peer.loopback)
    if peer.loopback and not fixed:
        unknown = tokens is not None and secret is not None
        more = ", and the token is not known here" if unknown else ""
        sentence = f"The host {name[:200]!r} is not listed in listen.hosts{more}."
        raise HandshakeRefusal(403, sentence, "host")
    # No page can make a browser send this header.
    if tokens is not None or not is_bearer(upgrade.authorization):
        # Such a Host, or a token that has to come with it, keeps DNS rebinding out; then an origin
        # that is this very port is no stranger.
        own = upgrade.host if fixed or tokens is not None else None
        check_origin(upgrade, listen, own=own)
    if tokens is None:
        return Grant(name=peer.address or "local")
    if secret is None:
        raise HandshakeRefusal(
            401,
            "This port needs a token: 'Authorization: Bearer TOKEN'.",
            "no_token",
            cure="edge-agent token add makes one.",
        )
    raise HandshakeRefusal(
        401,
        "The token is not known here, or was revoked.",
        "bad_token",
        cure="edge-agent token list shows those there are, edge-agent token add makes one.",
    )


def grant(token: Token) -> Grant:
    """What ``token`` allows."""
    return Grant(
        name=token.name,
        identity=token.name,
        may_write=token.may_write if token.write else nothing,
        may_be=token.may_be if token.sources else nothing,
        may_read=token.may_read if token.read else nothing,
        may_bring=token.may_bring if token.agents else None,
        forward=token.forward,
        admin=token.admin,
        token=token,
    )


def check_origin(upgrade: Head, listen: Listen, *, own: str | None = None) -> None:
    """Browsers name the page's origin; only listed pages may connect, and those of the port
    itself (``own``, its Host). 403 otherwise.

    Without this, any page that somebody on this network opens could write into the store.
    """
    origin = upgrade.origin
    if origin is None or not may_be_page(origin, upgrade.user_agent):
        return
    allowed = {each.lower() for each in listen.origins}
    if own is not None:
        allowed |= {f"http://{own}".lower(), f"https://{own}".lower()}
    if origin.lower() not in allowed:
        raise HandshakeRefusal(
            403, f"The origin {origin[:200]!r} is not listed in listen.origins.", "origin"
        )


def may_be_page(origin: str, user_agent: str | None) -> bool:
    """Whether a browser might send ``origin`` for a page.

    Many clients that are no browsers send one all the same: ``file://``, ``ws://HOST``, a URL
    with a path, a bare name. A page's origin is ``null`` (sandboxed frames) or scheme, host and
    port, and nothing else. ``file://`` is what some browsers send for a file that was opened from
    the disk; that, and whatever else a browser may come up with, is known by its User-Agent, which
    no page can change.
    """
    if (user_agent or "").startswith(_BROWSERS):
        return True
    found = _ORIGIN.fullmatch(origin.strip())
    return origin.strip() == "null" or (found is not None and found[1].lower() not in _NO_PAGES)


_BROWSERS = ("Mozilla/", "Opera/")
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^/?#@\s]+")
_NO_PAGES = ("ws", "wss", "tcp", "file")


class RateLimits:
    """Token buckets: records per second for each name.

    How many records a message holds is known only once it was read. So whoever is not in debt may
    send, is charged for what it turns out to be, and has to pay off the debt before the next.

    Args:
        per_second: records; 0 means no limit.

    Attributes:
        is_limited: whether there is any.
    """

    def __init__(self, per_second: float) -> None:
        self.is_limited = per_second > 0
        self._rate = per_second
        self._burst = max(1.0, per_second * BURST_S)
        self._buckets: dict[str, tuple[float, float]] = {}  # name: level, at which time

    def wait(self, name: str, now: float) -> float:
        """0 where ``name`` may send at ``now`` (seconds, monotonic), else seconds to wait."""
        if self._rate <= 0 or (level := self._level(name, now)) > 0:
            return 0.0
        return max(-level, 1.0) / self._rate

    def charge(self, name: str, records: int, now: float) -> None:
        """``name`` has sent ``records``; the bucket may go into debt."""
        if self._rate <= 0:
            return
        level = self._level(name, now)
        if name not in self._buckets and len(self._buckets) >= BUCKETS_MAX:
            self._forget(now)
        self._buckets[name] = (level - records, now)

    def _level(self, name: str, now: float) -> float:
        level, since = self._buckets.get(name, (self._burst, now))
        return min(self._burst, level + (now - since) * self._rate)

    def _forget(self, now: float) -> None:
        for name in [each for each in self._buckets if self._level(each, now) >= self._burst]:
            del self._buckets[name]
        # All in use at once: those known longest lose their debt rather than memory growing.
        while len(self._buckets) > BUCKETS_MAX * 3 // 4:
            del self._buckets[next(iter(self._buckets))]
