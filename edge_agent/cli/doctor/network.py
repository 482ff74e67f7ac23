"""The findings of `doctor` about ports, certificates and upstreams.

An upstream is asked as the agent would ask: its name, a connection, TLS with the authority that is
configured, and, if it is another agent, the upgrade with our token. Nothing is sent to it.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.cli.doctor.verdict import Finding, fail, ok, warn
from edge_agent.config import Config, Upstream, format_address, parse_address
from edge_agent.errors import SinkUnavailable
from edge_agent.forward import (
    CredentialFiles,
    Credentials,
    Proxy,
    is_out_of_date,
    proxy_of,
    proxy_refusal,
    unused,
)
from edge_agent.net.dial import tls_reason
from edge_agent.output.printable import why
from edge_agent.security.certificate_life import AUTHORITY_SOON_S, CertificateLife, certificate_life
from edge_agent.session import MSGPACK_SESSION
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import DAY_S, format_time

TIMEOUT_S = 10.0
#: A certificate that ends sooner is worth a person's attention.
SOON_DAYS = 21.0
#: What to do where a step of asking an upstream failed.
FIXES = {
    "name": "is the name right, and does this machine reach a name server?",
    "connection": "is it running, is the port right, does a firewall stand between?",
    "certificate": "its certificate has to name this host and come from the authority in"
    " ca_file, and this machine's clock has to be right",
    "credentials": "the files that upstream.NAME.token_file and ca_file name have to be there, for"
    " the agent's user to read; then `systemctl reload edge-agent`, or it tries only later",
}
_SAID_BYTES = 300


@dataclass(frozen=True, slots=True)
class UpstreamProbe:
    """How far asking an upstream came: ``step`` failed with ``error``, or all went well.

    ``status`` is what the upgrade was answered, 0 where none was asked for; ``days`` are left to
    its certificate, None without TLS. ``said`` is the answer's text where it was refused.
    """

    step: str = ""
    error: str = ""
    status: int = 0
    days: float | None = None
    said: str = ""


def judge_upstream(name: str, asked: UpstreamProbe) -> Finding:
    """Whether records would get there."""
    what = f"upstream {name}"
    if asked.step:
        return fail(what, f"{asked.step}: {asked.error}", FIXES.get(asked.step, "see above"))
    said = f": {asked.said}" if asked.said else ""
    if "speaks TLS" in asked.said:
        return fail(what, f"it refuses a connection without TLS{said}", "wss:// in its url")
    if asked.status in (401, 403):
        return fail(
            what,
            f"it refuses our token ({asked.status}){said}",
            "there: edge-agent token add NAME --forward; here: its secret in token_file",
        )
    if asked.status not in (0, 101):
        return fail(
            what,
            f"what answers there is no agent's port (HTTP {asked.status}){said}",
            "the URL wants the sensors' port of an edge-agent: wss://HOST:8765/forward",
        )
    found = "reached, token accepted" if asked.status == 101 else "reached"
    if asked.days is not None and asked.days < SOON_DAYS:
        return warn(what, f"{found}; its certificate ends in {asked.days:.0f} days", "renew it")
    return ok(what, found)


def judge_port(name: str, address: str, holder: str) -> Finding:
    """``holder``: "" free, "agent" ours, else who or why not."""
    if holder in ("", "agent"):
        return ok(name, f"{address} is {'free' if not holder else 'held by the agent'}")
    return fail(name, f"{address}: {holder}", f"stop what holds it, or change {name}")


def judge_certificate(file: str, life: CertificateLife | None, error: str = "") -> Finding:
    """Our own certificate."""
    name = "certificate"
    again = "edge-agent tls init, or renew it where it came from"
    if life is None:
        return fail(name, f"{file}: {error or 'it cannot be read'}", again)
    days, left_s = life.ends_in_s / DAY_S, life.authority_ends_in_s
    if left_s is not None and left_s <= AUTHORITY_SOON_S:
        told = f"its authority, ca.pem beside it, ends in {left_s / DAY_S:.0f} days"
        return warn(name, f"{file}: {told}", "make another in time: docs/certificates.md")
    if life.is_overdue and days > SOON_DAYS:
        told = f"{file} ends in {days:.0f} days and should have been renewed by now"
        return warn(name, told, "systemctl enable --now edge-agent-renew.timer")
    if days <= 0:
        return fail(name, f"{file} ended {-days:.0f} days ago: nobody connects any more", again)
    if days < SOON_DAYS:
        return warn(name, f"{file} ends in {days:.0f} days", again)
    return ok(name, f"{file} is good for {days:.0f} days")


def network_findings(config: Config, *, running: bool, upstreams: bool) -> list[Finding]:
    """All of it; ``running``: an agent holds the store."""
    found = [_port("listen.address", config.listen.address, running=running)]
    if config.http.address != "off":
        found.append(_port("http.address", config.http.address, running=running))
    if config.listen.tls_certificate is not None:
        found.append(_certificate(config.listen.tls_certificate))
    if not config.upstream:
        return [*found, warn("upstream", "none: what is received stays here", "add [[upstream]]")]
    hints = [unused(one, os.environ) for one in config.upstream]
    found += [warn("proxy", hint, "set proxy, or unset the variable") for hint in hints if hint]
    if upstreams:
        found += map(_asked, config.upstream)
    return found


def _asked(upstream: Upstream) -> Finding:
    if place_of(upstream) is not None:
        return judge_upstream(upstream.name, ask(upstream))
    told = f"is no place in a network: edge-agent upstream test {upstream.name} tries it"
    return ok(f"upstream {upstream.name}", told)


def ask(upstream: Upstream) -> UpstreamProbe:
    """Ask one upstream, as far as it goes; see the module."""
    found = place_of(upstream)
    if found is None:
        return UpstreamProbe()
    host, port = found
    try:
        credentials = CredentialFiles(upstream).read()
        proxy = proxy_of(upstream, credentials.proxy_authorization)
    except SinkUnavailable as error:
        return UpstreamProbe("credentials", str(error))
    if proxy is not None:
        # Where a name is looked up, and what can be reached, is the proxy's matter.
        return _ask_through(proxy, upstream, credentials)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return UpstreamProbe("name", f"{host}: {error.strerror or error}")
    try:
        plain = socket.create_connection((host, port), TIMEOUT_S)
    except OSError as error:
        return UpstreamProbe("connection", f"{host}:{port}: {error.strerror or error}")
    with plain:
        return _ask_over(plain, upstream, credentials)


def place_of(upstream: Upstream) -> tuple[str, int] | None:
    """Host and port of its URL; None for what is no place in a network, or several ones."""
    try:
        host, port = urlsplit(upstream.url).hostname, upstream.port
    except (ValueError, KeyError):
        return None
    return (host, port) if host and port else None


def _ask_through(proxy: Proxy, upstream: Upstream, credentials: Credentials) -> UpstreamProbe:
    host, port = urlsplit(upstream.url).hostname or "", upstream.port
    where = f"proxy {proxy.host}:{proxy.port}"
    try:
        plain = socket.create_connection((proxy.host, proxy.port), TIMEOUT_S)
    except OSError as error:
        return UpstreamProbe("connection", f"{where}: {error.strerror or error}")
    with plain:
        if upstream.scheme == "http":
            return UpstreamProbe()
        target = format_address(host, port)
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        lines += [f"{name}: {value}" for name, value in proxy.headers]
        try:
            plain.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = http.client.HTTPResponse(plain, method="CONNECT")
            answer.begin()
        except (OSError, http.client.HTTPException) as error:
            return UpstreamProbe("connection", f"{where}: it does not answer as HTTP does: {error}")
        if not 200 <= answer.status < 300:
            return UpstreamProbe("connection", proxy_refusal(proxy, answer.status, target))
        return _ask_over(plain, upstream, credentials)


def _ask_over(plain: socket.socket, upstream: Upstream, credentials: Credentials) -> UpstreamProbe:
    if credentials.tls is None:
        return _greet(plain, upstream, credentials, None)
    host = urlsplit(upstream.url).hostname or ""
    try:
        with credentials.tls.wrap_socket(plain, server_hostname=host) as stream:
            return _greet(stream, upstream, credentials, _days_left(stream.getpeercert()))
    except ssl.SSLCertVerificationError as error:
        return UpstreamProbe("certificate", error.verify_message.rstrip(".") + _whose_clock(error))
    except (ssl.SSLError, OSError) as error:
        return UpstreamProbe("connection", f"TLS: {tls_reason(error)}")


def _whose_clock(error: ssl.SSLCertVerificationError) -> str:
    """Where a certificate's dates are what is wrong: by whose clock."""
    if not is_out_of_date(error):
        return ""
    now = SystemClock().read()
    says = f"this machine's clock says {format_time(now.wall_ns)}"
    if now.synced:
        return f"; {says} and was set, so it is the certificate that has to be renewed there"
    return f"; {says} and was not set since the start, so it may be the clock that is wrong"


def _greet(
    stream: socket.socket, upstream: Upstream, credentials: Credentials, days: float | None
) -> UpstreamProbe:
    parts = urlsplit(upstream.url)
    if upstream.kind != "agent":
        # What it is asked beyond a connection only its kind knows (`edge_agent.forward.probing`).
        return UpstreamProbe(days=days)
    parts = urlsplit(upstream.url)
    lines = [
        f"GET {parts.path.rstrip('/') or '/forward'} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        f"Sec-WebSocket-Protocol: {MSGPACK_SESSION}",
        *(f"{name}: {value}" for name, value in credentials.headers),
    ]
    try:
        stream.settimeout(TIMEOUT_S)
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(stream)
        answer.begin()
        said = b"" if answer.status == 101 else answer.read(_SAID_BYTES)
    except (OSError, http.client.HTTPException) as error:
        told = tls_reason(error) if isinstance(error, ssl.SSLError) else why(error)
        return UpstreamProbe("connection", f"it does not answer as HTTP does: {told}", days=days)
    return UpstreamProbe(status=answer.status, days=days, said=_sentence(said))


def _sentence(answer: bytes) -> str:
    """What a refusal says, also in the JSON of the people's port, on one line."""
    try:
        text = str(json.loads(answer)["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        text = answer.decode(errors="replace")
    return " ".join(text.split()).removesuffix(".")


def _port(name: str, address: str, *, running: bool) -> Finding:
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            # Whoever holds the store holds its ports, too.
            taken = running and error.errno == 98
            return judge_port(name, address, "agent" if taken else error.strerror or str(error))
    return judge_port(name, address, "")


def _certificate(file: str) -> Finding:
    try:
        life = certificate_life(Path(file), time.time())
    except (OSError, ValueError) as error:
        return judge_certificate(file, None, str(error))
    return judge_certificate(file, life)


def _days_left(certificate: object) -> float | None:
    if not isinstance(certificate, dict) or "notAfter" not in certificate:
        return None
    end: float = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return (end - time.time()) / DAY_S
