"""What the commands share: options, logging, the way to say no, and HTTP to a running agent.

Standard library and click only, so that every command starts quickly.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import ssl
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import click

Raised = TypeVar("Raised", bound=Exception)
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Where the agent of this machine shows itself when nothing else is configured.
DEFAULT_URL = "http://127.0.0.1:8766"
_TIMEOUT_S = 10.0
_ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Failure(click.ClickException):
    """One line for a person and an exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        # click declares it as a class variable and reads it from the instance.
        vars(self)["exit_code"] = exit_code


def config_options(function: Decorated) -> Decorated:
    """``--config FILE`` and ``--data DIR``, given to the command as ``config`` and ``data``."""
    function = click.option(
        "--data",
        metavar="DIR",
        help="Keep the store in DIR, whatever the configuration says.",
    )(function)
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="EDGE_AGENT_CONFIG",
        help="TOML file. Without it: every default, and EDGE_AGENT__SECTION__KEY.",
    )(function)


def url_options(function: Decorated) -> Decorated:
    """``--url``, ``--token-file`` and ``--ca-file`` of the people's port."""
    return port_options(
        function,
        url=DEFAULT_URL,
        variable="EDGE_AGENT_URL",
        port="The agent's people's port.",
        token="the scope read",
        scheme="https",
    )


def port_options(
    function: Decorated, *, url: str | None, variable: str, port: str, token: str, scheme: str
) -> Decorated:
    """``--url``, ``--token-file`` and ``--ca-file`` of a port of the agent, told in its words."""
    function = click.option(
        "--ca-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help=f"Trust this certificate authority ({scheme}).",
    )(function)
    function = click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"File that holds a token with {token}.",
    )(function)
    return click.option("--url", default=url, envvar=variable, show_default=True, help=port)(
        function
    )


def set_up_logging(verbose: int) -> None:
    """Diagnostics go to stderr; under systemd with its priorities and without a second time.

    ``verbose`` 0: warnings; 1: what happens; 2: details; 3: what libraries say, too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JournalFormatter() if _goes_to_journal() else _PLAIN)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    if verbose < 3:
        for name in ("trio-websocket", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)


def first_of(group: BaseExceptionGroup[Raised]) -> Raised:
    """The first error in a group, however deep."""
    error: Raised | BaseExceptionGroup[Raised] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


_PLAIN = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class JournalFormatter(logging.Formatter):
    """``<priority>name: message`` on every line, as sd-daemon(3) wants it."""

    _PRIORITIES = (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
    )

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record, each of its lines with its priority."""
        priority = next((p for level, p in self._PRIORITIES if record.levelno >= level), 7)
        text = super().format(record)
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines() or [""])


def request(
    url: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    token_file: Path | None = None,
    ca_file: str | None = None,
) -> tuple[int, bytes]:
    """Ask the people's port: status code and body.

    Raises:
        Failure: nobody answers there, or the answer is not HTTP; says what to do.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failure(f"--url: expected http://HOST:PORT, found {url!r}", 2)
    target = parts.path.rstrip("/") + path
    headers = {"Accept": "application/json", **(headers or {})}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {token_file.read_text().strip()}"
    connection = _connection(parts.scheme, parts.hostname, parts.port, ca_file)
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        told = answer.read(_ANSWER_BYTES_MAX)
    except ssl.SSLCertVerificationError as error:
        raise Failure(
            f"{url}: its certificate is not trusted ({error.verify_message});"
            " --ca-file names the authority that made it (ca.pem of `edge-agent tls init`)"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Failure(
            f"no agent answers at {url} ({error}). Is it running (edge-agent run), is http.address"
            " off, or does --url need another port?"
        ) from error
    finally:
        connection.close()
    return answer.status, told


def get_json(
    url: str, path: str, *, parameters: dict[str, str] | None = None, **options: Any
) -> Any:
    """Like `request_json`, with ``parameters`` behind the path."""
    return request_json(url, path + ("?" + urlencode(parameters) if parameters else ""), **options)


def request_json(url: str, path: str, **options: Any) -> Any:
    """Like `request`, decoded.

    Raises:
        Failure: also where the answer is an error or not JSON.
    """
    code, body = request(url, path, **options)
    if code in (401, 403):
        raise Failure(f"{url} refuses ({code}): {_error_text(body)}. Try --token-file.")
    if code >= 400 and code != 503:
        raise Failure(f"{url}{path} answered {code}: {_error_text(body)}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise Failure(f"{url} answers, but not as an edge_agent does: is it one?") from error


def holds_store(path: Path) -> bool:
    """Whether there is a store in the agent's folder ``path``.

    Raises:
        Failure: we may not look, or the disk does not answer. "None" would be a wrong answer.
    """
    try:
        return stat.S_ISDIR((path / "store").stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise Failure(
            f"{path}: {error.strerror}. Run it as the agent's user (sudo -u edge-agent …), or as"
            " root"
        ) from error
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from error


def quit_if_no_store(path: Path) -> None:
    """Raises Failure where ``path`` is no agent's folder with a store in it."""
    if not holds_store(path):
        raise Failure(f"{path} holds no store; --config or --data names another")


def to_terminal() -> bool:
    """Whether a person watches stdout."""
    return sys.stdout.isatty()


def _connection(
    scheme: str, host: str, port: int | None, ca_file: str | None
) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    context = ssl.create_default_context(cafile=ca_file)
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)


def _error_text(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip() or "no reason given"


def _goes_to_journal() -> bool:
    # systemd sets JOURNAL_STREAM to device:inode of the stderr that it connected, so that a
    # shell below a service that redirects stderr is not mistaken for it.
    wanted = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return wanted == f"{found.st_dev}:{found.st_ino}"
