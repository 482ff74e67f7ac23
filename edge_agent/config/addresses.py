"""The addresses of this machine's agent, read from its configuration for commands beside it."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.config.shape import Config
from edge_agent.config.units import format_address, parse_address
from edge_agent.net.access import is_loopback

#: An address that means every address, and what reaches it from this machine.
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def people_url(config: Config) -> str | None:
    """``http://HOST:PORT`` of the people's port, or ``https``; None where it is off."""
    if config.http.address == "off":
        return None
    # On loopback it speaks http, whatever the sensors' port does (`edge_agent.ops.port`).
    host, _ = parse_address(config.http.address)
    secure = config.listen.tls_certificate is not None and not is_loopback(host)
    return f"{'https' if secure else 'http'}://{_reached(config.http.address)}"


def sensor_url(config: Config) -> str:
    """``ws://HOST:PORT`` of the sensors' port, ``wss`` where it has a certificate."""
    secure = config.listen.tls_certificate is not None
    return f"{'wss' if secure else 'ws'}://{_reached(config.listen.address)}"


def authority_file(config: Config) -> str | None:
    """What to trust there: ``ca.pem`` beside the certificate, as ``tls init`` leaves it, or the
    certificate's own file. None without one that we may read.
    """
    if config.listen.tls_certificate is None:
        return None
    certificate = Path(config.listen.tls_certificate)
    files = (certificate.with_name("ca.pem"), certificate)
    return next((str(file) for file in files if os.access(file, os.R_OK)), None)


def _reached(address: str) -> str:
    host, port = parse_address(address)
    return format_address(_EVERYWHERE.get(host, host), port)
