"""Secrets and trust from files, read anew at each connect so that a person can replace them.

A token or a CA that cannot be read is a mistake only a person can mend, but not one that may stop
the agent: everything is kept, the reason shows in status, and the next attempt reads again.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from edge_agent.errors import SinkUnavailable

#: Longer is not a token but the wrong file.
_TOKEN_BYTES_MAX = 4096


def read_token(path: str | None) -> str | None:
    """The token in the file's first line, or None where no file is configured.

    Raises:
        SinkUnavailable: slow; the file cannot be read or holds no token.
    """
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            text = file.read(_TOKEN_BYTES_MAX + 1)
        token = text.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SinkUnavailable(f"token_file {path}: {error}", slow=True) from error
    # Anything else would let a file with a line break write headers of its own.
    if not token or len(text) > _TOKEN_BYTES_MAX or not token.isprintable() or " " in token:
        raise SinkUnavailable(f"token_file {path}: expected one line with a token", slow=True)
    return token


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Trust for a TLS connection: the CA in the file alone, or the system's CAs.

    Raises:
        SinkUnavailable: slow; the file cannot be read or is no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SinkUnavailable(f"ca_file {ca_file}: {error}", slow=True) from error
