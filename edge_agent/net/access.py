"""The checks of a request that both ports share: its Host is this machine's, and its secret.

Two attacks come by way of a browser on the same machine or network: a page from elsewhere that
connects here on behalf of its author (a foreign ``Origin``), and a name of the attacker's that
suddenly means this machine (DNS rebinding, a foreign ``Host``). Each port says for itself what it
asks of whom (`edge_agent.server.admission`, `edge_agent.ops.access`).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable

Readable = Callable[[str], bool]
"""Whether a stream may be read."""


def everything(stream: str) -> bool:
    """May read any stream."""
    return True


def nothing(stream: str) -> bool:
    """May read no stream."""
    return False


def is_bearer(authorization: str | None) -> bool:
    """Whether the header Authorization has the form that tokens have."""
    return (authorization or "").partition(" ")[0].lower() == "bearer"


def bearer_secret(authorization: str | None) -> str | None:
    """The secret of ``Authorization: Bearer SECRET``; None where the header says something else."""
    if authorization is None or not is_bearer(authorization):
        return None
    return authorization.partition(" ")[2].strip()


def host_name(host: str | None) -> str:
    """The name or address of a Host header, without port and brackets, in lower case."""
    name = (host or "").strip().lower().rpartition("@")[2]
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return (name.rpartition(":")[0] if ":" in name else name).rstrip(".")


def is_ours(name: str, hosts: Iterable[str], *, loopback: bool) -> bool:
    """Whether a Host's ``name`` can only mean this port: one of ``hosts``, or where it is not
    reached over ``loopback`` this machine's own, or an address in numbers. DNS rebinding needs a
    name of the attacker's.
    """
    if is_loopback(name) or name in {each.lower().rstrip(".") for each in hosts}:
        return True
    machine = socket.gethostname().lower()
    return not loopback and (name in (machine, f"{machine}.local") or is_address(name))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; a name other than localhost is not trusted."""
    if host.lower() in ("localhost", "127.0.0.1", "::1"):
        return True
    found = _address(host)
    # On a socket for both families, IPv4 looks like ::ffff:127.0.0.1.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return found is not None and (mapped or found).is_loopback


def is_address(host: str) -> bool:
    """Whether it is an IP address and no name."""
    return _address(host) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
