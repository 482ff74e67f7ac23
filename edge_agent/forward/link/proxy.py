"""This module finds the HTTP proxy to an upstream and opens the tunnel (``CONNECT``) through it.

Only what the configuration says is used: where data and tokens go must not depend on who started
the agent. ``proxy = "environment"`` says to take what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
NO_PROXY say; without it they are not used, which is told once (`unused`), because whoever set them
will look for the reason.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import h11
import trio

from edge_agent.config import TLS_SCHEMES, Upstream, format_address, shown_url
from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import basic_authorization
from edge_agent.forward.lanes.failures import http_words, innermost
from edge_agent.net.dial import Dial, secure

_VARIABLES = ("https_proxy", "http_proxy", "all_proxy")
#: What can go through a proxy.
_KINDS = ("agent", "http", "influx")
_PORT = 3128
_RECEIVE_BYTES = 4096
#: Answers before the answer (1xx); nobody sends more than one or two.
INTERIM_MAX = 16


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; ``authorization`` is the value of ``Proxy-Authorization``, or None."""

    host: str
    port: int
    authorization: str | None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What it is told beside the request."""
        if self.authorization is None:
            return []
        return [("Proxy-Authorization", self.authorization)]


def proxy_of(upstream: Upstream, authorization: str | None) -> Proxy | None:
    """The proxy of an upstream; ``authorization`` is from its file.

    Raises:
        SinkUnavailable: slow; the environment names one that cannot be used.
    """
    url = upstream.proxy
    if url == "environment":
        url = _from_environment(upstream.url)
    if url is None:
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if not host or parts.scheme != "http":
        raise SinkUnavailable(
            f"proxy: expected http://HOST:PORT, found {shown_url(url)}", slow=True
        )
    if authorization is None and parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = basic_authorization(user)
    return Proxy(host, port or _PORT, authorization)


def unused(upstream: Upstream, env: Mapping[str, str]) -> str | None:
    """A hint where the environment names a proxy that is not used; None where there is none."""
    names = [name for name in env if name.lower() in _VARIABLES and env[name]]
    if upstream.proxy is not None or not names or upstream.kind not in _KINDS:
        return None
    return (
        f"upstream {upstream.name}: {', '.join(sorted(names))} is set and not used;"
        ' proxy = "environment" in its [[upstream]] would use it'
    )


def tunnel(dial: Dial, proxy: Proxy) -> Dial:
    """A dial that goes through ``proxy``, whatever is spoken behind it.

    It raises SinkUnavailable where the proxy refuses.
    """

    async def through(host: str, port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
        stream = await dial_proxy(dial, proxy)
        try:
            await _connect(stream, proxy, format_address(host, port))
        except BaseException:
            # Also on Cancelled: nobody else holds this stream yet.
            await trio.aclose_forcefully(stream)
            raise
        return stream if tls is None else await secure(stream, host, tls)

    return through


def tunnelled(upstream: Upstream, authorization: str | None, dial: Dial) -> Dial:
    """``dial``, or the tunnel of the upstream's proxy.

    Raises:
        SinkUnavailable: as `proxy_of`.
    """
    proxy = proxy_of(upstream, authorization)
    return dial if proxy is None else tunnel(dial, proxy)


async def dial_proxy(dial: Dial, proxy: Proxy) -> trio.abc.Stream:
    """A connection to the proxy itself. Raises OSError, which says that it was the proxy."""
    try:
        return await dial(proxy.host, proxy.port, None)
    except OSError as error:
        reason = error.strerror or f"{proxy.host}:{proxy.port}: {error}"
        raise OSError(error.errno, f"proxy {reason}") from error


def proxy_refusal(proxy: Proxy, status: int, target: str) -> str:
    """What is told where the proxy answers ``status`` and opens no way to ``target``."""
    wanted = " (it wants proxy_auth_file, or another one)" if status == 407 else ""
    return f"proxy {proxy.host}:{proxy.port}: HTTP {status} for {target}{wanted}"


async def _connect(stream: trio.abc.Stream, proxy: Proxy, target: str) -> None:
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", target), *proxy.headers]
    request = connection.send(h11.Request(method="CONNECT", target=target, headers=headers))
    await stream.send_all((request or b"") + (connection.send(h11.EndOfMessage()) or b""))
    for _ in range(INTERIM_MAX):
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
        except h11.RemoteProtocolError as error:
            told = http_words(str(error))
            raise OSError(f"proxy {proxy.host}:{proxy.port}: {told}") from error
        except trio.BrokenResourceError as error:
            raise OSError(f"proxy {proxy.host}:{proxy.port}: {innermost(error)}") from error
        if isinstance(event, h11.InformationalResponse):
            continue
        if not isinstance(event, h11.Response):
            raise OSError(f"proxy {proxy.host}:{proxy.port}: it hung up")
        if 200 <= event.status_code < 300:
            return
        status, slow = event.status_code, 400 <= event.status_code < 500
        raise SinkUnavailable(proxy_refusal(proxy, status, target), slow=slow)
    raise OSError(f"proxy {proxy.host}:{proxy.port}: it does not come to an answer")


def _from_environment(url: str) -> str | None:
    # Imported here: it brings much along that nobody else needs.
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxies = getproxies()
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    scheme = "https" if parts.scheme in TLS_SCHEMES else "http"
    return proxies.get(scheme) or proxies.get("all")
