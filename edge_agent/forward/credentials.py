"""This module reads an upstream's secrets and trust from files that may be replaced at any time.

Each attempt looks whether a file has changed, and reads what has, in a thread: neither a slow card
nor the building of a TLS context (20 ms on a Pi) keeps anybody waiting. A token, a certificate or
an authority that was renewed is so used from the next request on, without a restart.

A file that cannot be read is a mistake only a person can mend, but not one that may stop the
agent: everything is kept, the reason shows in status, and the next attempt looks again.
"""

from __future__ import annotations

import base64
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import TLS_SCHEMES, SecretFile, Upstream, header_value_problem
from edge_agent.errors import SinkUnavailable
from edge_agent.system.files import (
    FileState,
    file_state,
    load_pair,
    read_secret_line,
    refuse_pipes,
    trusting,
    why_unreadable,
)

#: A file changed this recently may change once more within the same tick of the file system's
#: clock, which nothing would show; until then it is read each time.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request is made with.

    Attributes:
        headers: configured ones and ``Authorization``.
        tls: trust and our own certificate; None where the URL asks for no TLS.
        proxy_authorization: for the proxy's header of that name, or None.
        token, password: of ``token_file`` and ``password_file``, for kinds that send no headers.
        secrets: what must not be shown, should an answer repeat it.
    """

    headers: tuple[tuple[str, str], ...]
    tls: ssl.SSLContext | None
    proxy_authorization: str | None
    secrets: tuple[str, ...]
    token: str | None = None
    password: str | None = None


class CredentialFiles:
    """The credentials of one upstream, as its files are now."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._is_tls = upstream.scheme in TLS_SCHEMES
        own = (upstream.ca_file or _system_authorities(), upstream.tls_certificate)
        trust = [*own, upstream.tls_key] if self._is_tls else []
        self._trust = tuple(path for path in trust if path is not None)
        secret = [value.file for value in upstream.headers.values() if not isinstance(value, str)]
        files = (*self._trust, *secret, upstream.token_file, upstream.password_file)
        files = (*files, upstream.proxy_auth_file)
        self._files = tuple(path for path in files if path is not None)
        self._states: tuple[FileState | None, ...] = ()
        self._settled = False
        self._known: Credentials | None = None
        self._trusted: tuple[bytes, ...] = ()

    def read(self) -> Credentials:
        """What to use now. Blocks for as long as files take: to be called in a thread.

        Raises:
            SinkUnavailable: slow; a file cannot be read, or does not hold what it should.
        """
        states = tuple(_state(path) for path in self._files)
        if self._known is not None and self._settled and states == self._states:
            return self._known
        now = time.time_ns()
        try:
            known = self._read()
        except SinkUnavailable as error:
            error.obstacle = "here"
            raise
        # From before the reading: what changes meanwhile is seen at the next look.
        self._known, self._states = known, states
        self._settled = all(
            one and now - max(one.written_ns, one.changed_ns) > _SETTLED_NS for one in states
        )
        return known

    def _read(self) -> Credentials:
        upstream, secrets = self._upstream, []
        headers: list[tuple[str, str]] = []
        for name, value in upstream.headers.items():
            if isinstance(value, SecretFile):
                value = _header_value(name, value.file)
                secrets.append(value)
            headers.append((name, value))
        token = read_token(upstream.token_file)
        if token is not None:
            word = "Token" if upstream.kind == "influx" else "Bearer"
            headers.append(("Authorization", f"{word} {token}"))
            secrets.append(token)
        password = read_secret("password_file", upstream.password_file)
        if password is not None:
            basic = basic_authorization(f"{upstream.user}:{password}")
            headers.append(("Authorization", basic))
            secrets += [password, basic.partition(" ")[2]]
        proxy = read_secret("proxy_auth_file", upstream.proxy_auth_file)
        if proxy is not None:
            secrets.append(proxy.partition(":")[2])
        return Credentials(
            tuple(headers),
            self._context() if self._is_tls else None,
            None if proxy is None else basic_authorization(proxy),
            tuple(secret for secret in secrets if len(secret) >= 4),
            token,
            password,
        )

    def _context(self) -> ssl.SSLContext:
        """The same context for the same files: an open connection is known by it."""
        upstream = self._upstream
        try:
            refuse_pipes(*map(Path, self._trust))
            trusted = tuple(Path(path).read_bytes() for path in self._trust)
        except OSError as error:
            text = f"{error.filename}: {why_unreadable(error, error.filename)}"
            raise SinkUnavailable(text, slow=True) from error
        if self._known is not None and self._known.tls is not None and trusted == self._trusted:
            return self._known.tls
        certificate = upstream.tls_certificate, upstream.tls_key
        context = client_context(upstream.ca_file, *certificate)
        self._trusted = trusted
        return context


def read_token(path: str | None) -> str | None:
    """The token in the file's first line, or None where no file is configured.

    Raises:
        SinkUnavailable: slow; the file cannot be read or holds no token.
    """
    token = read_secret("token_file", path)
    if token is not None and " " in token:
        raise SinkUnavailable(f"token_file {path}: expected one line with a token", slow=True)
    return token


def read_secret(key: str, path: str | None) -> str | None:
    """The one line that the file at ``path`` holds; None where none is configured.

    Raises:
        SinkUnavailable: slow; the file cannot be read or holds something else. The text names
            ``key`` and ``path`` and nothing of what was found.
    """
    if path is None:
        return None
    try:
        return read_secret_line(Path(path))
    except OSError as error:
        text = f"{key} {path}: {why_unreadable(error, path)}"
        raise SinkUnavailable(text, slow=True) from error
    except ValueError as error:
        what = " with a token" if key == "token_file" and "line" in str(error) else ""
        raise SinkUnavailable(f"{key} {path}: {error}{what}", slow=True) from None


def basic_authorization(user_and_password: str) -> str:
    """``user:password`` as a header's value."""
    return "Basic " + base64.b64encode(user_and_password.encode()).decode()


def client_context(
    ca_file: str | None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """Trust for a TLS connection: the CA in the file alone, or the system's CAs; and what we show.

    Raises:
        SinkUnavailable: slow; a file cannot be read or is not what it should be.
    """
    try:
        context = trusting(ca_file)
    except (OSError, ssl.SSLError) as error:
        text = f"ca_file {ca_file}: {why_unreadable(error, str(ca_file))}"
        raise SinkUnavailable(text, slow=True) from error
    if certificate is not None:
        try:
            load_pair(context, certificate, key)
        except (OSError, ssl.SSLError) as error:
            # Not slow: whoever renews a pair replaces one file after the other.
            reason = why_unreadable(error, key or certificate)
            text = f"tls_certificate {certificate} with tls_key {key}: {reason}"
            raise SinkUnavailable(text) from error
    return context


def _header_value(name: str, path: str) -> str:
    value = read_secret(f"headers.{name}", path)
    problem = header_value_problem(value or "")
    if value is None or problem is not None:
        raise SinkUnavailable(f"headers.{name} {path}: expected {problem}", slow=True)
    return value


def _system_authorities() -> str | None:
    """The file of the system's CAs, which an update replaces; a folder is looked into as needed."""
    return ssl.get_default_verify_paths().cafile


def _state(path: str) -> FileState | None:
    try:
        return file_state(Path(path))
    except OSError:
        return None
