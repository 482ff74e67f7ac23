"""What the commands share: options, logging, the way to say no, and HTTP to a running agent.

Standard library and click only, so that every command starts quickly.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import ssl
import stat
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlencode, urlsplit

import click

from edge_agent.files import refuse_pipes
from edge_agent.printable import ended, printable, printable_lines, why

Raised = TypeVar("Raised", bound=Exception)
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Where README puts the configuration of this machine's agent.
SYSTEM_CONFIG = Path("/etc/edge-agent/edge-agent.toml")
#: Where an agent that nobody has configured listens.
DEFAULT_URL = "http://127.0.0.1:8766"
DEFAULT_SENSOR_URL = "ws://127.0.0.1:8765"
#: A token, for who would rather not have a file of it.
TOKEN_VARIABLE = "EDGE_AGENT_TOKEN"
_TIMEOUT_S = 10.0
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_UPGRADE_REQUIRED = 426


class Failure(click.ClickException):
    """One line for a person and an exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        # click declares it as a class variable and reads it from the instance.
        vars(self)["exit_code"] = exit_code

    def format_message(self) -> str:
        """The message; what a peer wrote in it cannot move the cursor."""
        return printable_lines(self.message)


def config_options(function: Decorated) -> Decorated:
    """``--config FILE`` and ``--data DIR``, given to the command as ``config`` and ``data``: of the
    agent of this machine where none is named.
    """
    return _data_option(config_option(function))


def run_options(function: Decorated) -> Decorated:
    """The same for `run`, which takes no file that it was not told: another agent may be running
    with that one, and its upstreams are not for whoever tries something.
    """
    help_text = "TOML file. Without it: every default, and EDGE_AGENT__SECTION__KEY."
    return _data_option(_config_option(help_text, None)(function))


def config_option(function: Decorated) -> Decorated:
    """``--config FILE``: the configuration of this machine's agent, where there is one."""
    help_text = (
        f"TOML file. [{SYSTEM_CONFIG} where it is there; else every default, and"
        " EDGE_AGENT__SECTION__KEY]"
    )
    return _config_option(help_text, system_config)(function)


def _config_option(
    help_text: str, default: Callable[[], Path | None] | None
) -> Callable[[Decorated], Decorated]:
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="EDGE_AGENT_CONFIG",
        default=default,
        help=help_text,
    )


def _data_option(function: Decorated) -> Decorated:
    help_text = "Keep the store in DIR, whatever the configuration says."
    return click.option("--data", metavar="DIR", help=help_text)(function)


def system_config() -> Path | None:
    """The configuration of this machine's agent, if there is one that we may read."""
    return SYSTEM_CONFIG if os.access(SYSTEM_CONFIG, os.R_OK) else None


def url_options(function: Decorated) -> Decorated:
    """``--url``, ``--token-file`` and ``--ca-file`` of the people's port, which are looked up in
    the configuration where they are not given.
    """
    found = port_options(
        _looked_up(function, DEFAULT_URL),
        variable="EDGE_AGENT_URL",
        port="The agent's people's port. [the one of this machine]",
        token="the scope read",
        scheme="https",
    )
    return config_option(found)


def sensor_options(function: Decorated) -> Decorated:
    """The same of the sensors' port."""
    found = port_options(
        _looked_up(function, DEFAULT_SENSOR_URL),
        variable="EDGE_AGENT_SENSOR_URL",
        port="The agent's sensor port; a path /ingest/STREAM may follow. [the one of this machine]",
        token="the scope that this needs",
        scheme="wss",
    )
    return config_option(found)


def port_options(
    function: Decorated, *, variable: str, port: str, token: str, scheme: str
) -> Decorated:
    """``--url``, ``--token-file`` and ``--ca-file`` of a port of the agent, told in its words."""
    function = click.option(
        "--ca-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help=f"Trust this certificate authority ({scheme}). [this machine's agent's]",
    )(function)
    function = click.option(
        "--token-file",
        metavar="FILE",
        envvar="EDGE_AGENT_TOKEN_FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"File that holds a token with {token}. [the token in {TOKEN_VARIABLE}]",
    )(function)
    return click.option("--url", envvar=variable, help=port)(function)


def _looked_up(function: Decorated, default: str) -> Decorated:
    """``function``, called with the ``url`` and ``ca_file`` of the agent of ``config`` where none
    are given.
    """

    @wraps(function)
    def with_agent(
        *given: Any, config: Path | None, url: str | None, ca_file: str | None, **others: Any
    ) -> Any:
        own_url, own_ca_file = _of_this_machine(config, sensors=default == DEFAULT_SENSOR_URL)
        url = url or own_url or default
        # A foreign agent's certificate was not made here.
        if own_url is not None and urlsplit(url).hostname == urlsplit(own_url).hostname:
            ca_file = ca_file or own_ca_file
        return function(*given, url=url, ca_file=ca_file, **others)

    return cast("Decorated", with_agent)


def _of_this_machine(config: Path | None, *, sensors: bool) -> tuple[str | None, str | None]:
    """URL and authority of the agent that ``config`` and the environment describe; None where
    nothing does.
    """
    if config is None and not any(name.startswith("EDGE_AGENT__") for name in os.environ):
        return None, None
    # Imported here: without a configuration these commands start quickly.
    from edge_agent.config import authority_file, load_config, people_url, sensor_url

    settings = load_config(config, env=os.environ, overrides={})
    if sensors:
        return sensor_url(settings), authority_file(settings)
    url = people_url(settings)
    if url is None:
        raise Failure(f"{config or 'the environment'}: http.address is off; --url names another")
    return url, authority_file(settings)


def read_token(token_file: Path | None) -> str | None:
    """The token in the file, or the one in the environment; None without either.

    Raises:
        Failure: the file cannot be read.
    """
    if token_file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        refuse_pipes(token_file)
        return token_file.read_text().strip()
    except (OSError, ValueError) as error:
        raise Failure(f"--token-file: {token_file}: {why(error)}") from error


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
        logging.getLogger("trio-websocket").setLevel(logging.WARNING)


def first_of(group: BaseExceptionGroup[Raised]) -> Raised:
    """The first error in a group, however deep."""
    error: Raised | BaseExceptionGroup[Raised] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class OneLineFormatter(logging.Formatter):
    """A message is one line, whatever a peer wrote in it; a traceback's lines are indented, so that
    none of them looks like a message.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The message with its heading."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        """The traceback."""
        text = super().formatException(ei)
        return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


_PLAIN = OneLineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class JournalFormatter(OneLineFormatter):
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
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


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
    connection, answer = open_answer(
        url, path, method=method, body=body, headers=headers,
        token_file=token_file, ca_file=ca_file,
    )  # fmt: skip
    try:
        return answer.status, answer.read(_ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"the answer of {url} broke off: {error}") from error
    finally:
        connection.close()


def open_answer(
    url: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    token_file: Path | None = None,
    ca_file: str | None = None,
    timeout: float = _TIMEOUT_S,
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """As `request`, up to the answer's head; the caller reads the rest, and closes."""
    parts, port = urlsplit(url), None
    try:
        port = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        wrong = " (ws:// is for sensors)" if parts.scheme in ("ws", "wss") else ""
        raise Failure(f"--url: expected http://HOST:PORT, found {url!r}{wrong}", 2)
    headers = {"Accept": "application/json", **(headers or {})}
    token = read_token(token_file)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = _connection(parts.scheme, parts.hostname, port, ca_file, timeout)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body, headers)
        answer = connection.getresponse()
        if answer.status == _UPGRADE_REQUIRED:
            told = answer.read(500).decode(errors="replace").strip()
            raise Failure(f"{url} is the sensors' port, and people's is another: {told}")
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise Failure(_no_answer(url, error)) from error
    except BaseException:
        connection.close()
        raise
    return connection, answer


def _no_answer(url: str, error: Exception) -> str:
    parts = urlsplit(url)
    place = url.partition("://")[2]
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{url}: its certificate is not trusted ({error.verify_message});"
            " --ca-file names the authority that made it (ca.pem of `edge-agent tls init`)"
        )
    if isinstance(error, ssl.SSLError):
        return f"{url}: this port speaks no TLS ({error.reason or error}): try http://{place}"
    answered = isinstance(error, (http.client.HTTPException, ConnectionError))
    refused = isinstance(error, ConnectionRefusedError)
    if parts.scheme == "http" and answered and not refused and _speaks_tls(parts):
        return f"{url}: this port speaks TLS: try https://{place}"
    return (
        f"no agent answers at {url} ({error}). Is it running (edge-agent run), is http.address"
        " off, or does --url need another port?"
    )


def _speaks_tls(parts: SplitResult) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 80), 3.0) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except OSError:
        return False


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
        raise Failure(
            ended(f"{url} refuses ({code}): {_error_text(body)}")
            + f" Try --token-file, or {TOKEN_VARIABLE}."
        )
    parts = urlsplit(url)
    if code == 400 and parts.scheme == "http" and _speaks_tls(parts):
        raise Failure(f"{url}: this port speaks TLS: try https://{url.partition('://')[2]}")
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
    scheme: str, host: str, port: int | None, ca_file: str | None, timeout: float
) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        if ca_file is not None:
            refuse_pipes(Path(ca_file))
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Failure(f"--ca-file: {ca_file}: {why(error)}") from error
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


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
