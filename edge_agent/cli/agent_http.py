"""The people's port of a running agent, for all commands that ask it, and the options that name it.

The standard library's ``http.client`` does it: these commands ask one thing at a time, and an
HTTP client library would cost more to import than the question takes.
"""

from __future__ import annotations

import heapq
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlencode, urlsplit

import click

from edge_agent.cli.common import (
    STREAM_PATTERN,
    TOKEN_VARIABLE,
    Failure,
    certificate_advice,
    config_option,
    local_token,
    port_options,
    sudo_advice,
)
from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.output.printable import ended, why
from edge_agent.system.files import read_secret_line, secret_line, trusting
from edge_agent.values.record import NANOSECONDS

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Where an agent that nobody has configured listens.
DEFAULT_URL = "http://127.0.0.1:8766"
DEFAULT_SENSOR_URL = "ws://127.0.0.1:8765"
#: How far back newest records are looked for, before everything is asked for.
AGES = ("-1m", "-1h", "-1d")
#: One page of a long answer, in records.
PAGE_RECORDS = 10_000
_TIMEOUT_S = 10.0
#: A whole page of records may take longer.
_PAGE_TIMEOUT_S = 60.0
#: A live view without records says something every 15 s; three times that is silence.
_SILENCE_S = 45.0
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_UPGRADE_REQUIRED = 426


def url_options(function: Decorated) -> Decorated:
    """``--url``, ``--token-file`` and ``--ca-file`` of the people's port, which are looked up in
    the configuration where they are not given; the command gets them as an `AgentAddress`.
    """

    def with_address(
        *given: Any, url: str, token_file: Path | None, ca_file: str | None, **others: Any
    ) -> Any:
        return function(*given, agent=AgentAddress(url, token_file, ca_file), **others)

    found = port_options(
        _looked_up(function, with_address, DEFAULT_URL),
        variable="EDGE_AGENT_URL",
        port="The agent's people's port. [the one of this machine]",
        token="the scope read",
        scheme="https",
    )
    return config_option(found)


def filter_option(function: Decorated) -> Decorated:
    """``--filter``, given as ``wanted``."""
    help_text = 'Such as: t > 20 and site == "north".'
    return click.option("--filter", "wanted", metavar="EXPRESSION", help=help_text)(function)


def question_options(function: Decorated) -> Decorated:
    """``--stream``, ``--from``, ``--to`` and ``--filter``, for `question`."""
    function = click.option("--to", metavar="TIME", help="Before this time.")(
        filter_option(function)
    )
    function = click.option(
        "--from", "from_", metavar="TIME", help="RFC 3339, seconds since 1970, or -1h."
    )(function)
    return click.option(
        "--stream",
        metavar="PATTERN",
        type=STREAM_PATTERN,
        default="**",
        show_default=True,
        help="Which streams; * is one part of a name, ** any number.",
    )(function)


def sensor_options(
    function: Decorated,
    flag: str = "--url",
    port: str = "The agent's sensor port; a path /ingest/STREAM may follow. [the one of this"
    " machine]",
) -> Decorated:
    """The same of the sensors' port, for commands that take ``url``, ``token`` and ``ca_file``."""
    flags = {"url": flag, "ca_file": "--ca-file", "source": "--source"}

    def with_token(*given: Any, token_file: Path | None, **others: Any) -> Any:
        try:
            return function(*given, token=read_token(token_file), **others)
        except ConfigError as error:
            # What the client library calls its arguments.
            if error.where not in flags:
                raise
            raise ConfigError(flags[error.where], error.expected, error.found) from error

    found = port_options(
        _looked_up(function, with_token, DEFAULT_SENSOR_URL),
        variable="EDGE_AGENT_SENSOR_URL",
        port=port,
        token="the scope that this needs",
        scheme="wss",
        flag=flag,
    )
    return config_option(found)


def _looked_up(function: Decorated, call: Callable[..., Any], default: str) -> Decorated:
    """``call`` in place of ``function``, with the ``url`` and ``ca_file`` of the agent of
    ``config`` where none are given.
    """

    @wraps(function)
    def with_agent(
        *given: Any, config: Path | None, url: str | None, ca_file: str | None, **others: Any
    ) -> Any:
        own_url, own_ca_file = _of_this_machine(config, sensors=default == DEFAULT_SENSOR_URL)
        if url is None and own_url is not None:
            others["token_file"] = others["token_file"] or local_token(config, own_url)
        url = url or own_url or default
        # A foreign agent's certificate was not made here.
        if own_url is not None and _host_of(url) == _host_of(own_url):
            ca_file = ca_file or own_ca_file
        return call(*given, url=url, ca_file=ca_file, **others)

    return cast("Decorated", with_agent)


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None  # Whoever connects says what is wrong.


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
        Failure: the file cannot be read, or what is there is no token.
    """
    given = os.environb.get(TOKEN_VARIABLE.encode(), b"").strip()
    if token_file is None and not given:
        return None
    where = TOKEN_VARIABLE if token_file is None else f"--token-file: {token_file}"
    try:
        return secret_line(given) if token_file is None else read_secret_line(token_file)
    except (OSError, ValueError) as error:
        raise Failure(f"{where}: {why(error)}") from error


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Whom to ask, as the options ``--url``, ``--token-file`` and ``--ca-file`` say.

    Raises:
        Failure: in each method, where nobody answers or the answer is an error; says what to do.
    """

    url: str
    token_file: Path | None = None
    ca_file: str | None = None

    def json(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        told: str | None = None,
        order: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT_S,
    ) -> Any:
        """The answer, decoded, which is a map with ``told`` where that is given. An ``order`` goes
        by POST.
        """
        target = path + ("?" + urlencode(parameters) if parameters else "")
        with self._open(target, timeout, order, headers or {}) as answer:
            try:
                body = answer.read(_ANSWER_BYTES_MAX)
                # A read with a limit says nothing where the answer was cut.
                if answer.length:
                    raise http.client.IncompleteRead(body, answer.length)
            except (OSError, http.client.HTTPException) as error:
                raise Failure(f"the answer of {self.url} broke off: {why(error)}") from error
        try:
            found = json.loads(body)
            if told is not None and not (isinstance(found, dict) and told in found):
                raise ValueError(f"{told} is missing")
            return found
        except (ValueError, RecursionError) as error:
            text = f"{self.url} answers, but not as an edge_agent does: is it one?"
            raise Failure(text) from error

    def page(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """One answer of ``/api/query`` in JSON, decoded."""
        asked = {**parameters, "format": "json"}
        page: dict[str, Any] = self.json(
            "/api/query", asked, told="records", timeout=_PAGE_TIMEOUT_S
        )
        return page

    def table(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Points or figures, as history answers them: ``columns``, ``rows`` and what else."""
        asked = {**parameters, "format": "json"}
        answer: dict[str, Any] = self.json(
            "/api/query", asked, told="columns", timeout=_PAGE_TIMEOUT_S
        )
        return answer

    def points(self, parameters: Mapping[str, str], limit: int) -> dict[str, Any]:
        """As `table`, of points: answer after answer until everything has come, or ``limit``."""
        given = dict(parameters)
        rows: list[Any] = []
        while True:
            given["limit"] = str(min(limit - len(rows), PAGE_RECORDS))
            answer = self.table(given)
            rows += answer["rows"]
            if answer["next"] is None or len(rows) >= limit:
                return {**answer, "rows": rows}
            given["next"] = answer["next"]

    def pages(self, parameters: Mapping[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
        """Answer after answer until everything has come, or ``limit`` records."""
        given, left = dict(parameters), limit
        while True:
            given["limit"] = str(PAGE_RECORDS if left is None else min(left, PAGE_RECORDS))
            page = self.page(given)
            yield page
            if left is not None:
                left -= len(page["records"])
            if page["next"] is None or left == 0:
                return
            given["next"] = page["next"]

    def newest(
        self,
        parameters: Mapping[str, str],
        most: int,
        ages: Sequence[str | None] = (*AGES, None),
    ) -> tuple[list[dict[str, Any]], bool]:
        """The ``most`` newest records by their time, the newest first; and whether there are more.

        Answers come oldest first, so ever longer ages are asked for until there are enough; None
        is any age.
        """
        for start in _starts(parameters, ages):
            seen = 0

            def all_of(start: str | None = start) -> Iterator[dict[str, Any]]:
                nonlocal seen
                given = {**parameters, **({} if start is None else {"from": start})}
                for page in self.pages(given, None):
                    seen += len(page["records"])
                    yield from page["records"]

            found = heapq.nlargest(most, all_of(), key=_age_key)
            if len(found) == most:
                break
        return found, seen > most

    def live(self, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Records (or ``{"missed": n}``) as they become durable, until the agent goes away."""
        with self._open(f"/api/subscribe?{urlencode(parameters)}", _SILENCE_S) as answer:
            try:
                while line := answer.readline():
                    if line.strip():
                        yield json.loads(line)
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                raise Failure(f"{self.url} went away: {why(error)}") from error

    @contextmanager
    def _open(
        self,
        target: str,
        timeout: float,
        order: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer's head; the caller reads the rest."""
        asked = {"Accept": "application/json", **(headers or {})}
        token = read_token(self.token_file)
        if token is not None:
            asked["Authorization"] = f"Bearer {token}"
        parts, connection = self._connection(timeout)
        with closing(connection), ExitStack() as opened:
            try:
                path = parts.path.rstrip("/") + target
                connection.request("GET" if order is None else "POST", path, order, asked)
                answer = opened.enter_context(connection.getresponse())
                if answer.status >= 300:
                    raise self._refusal(parts, answer.status, answer.read(65536))
            except (http.client.InvalidURL, UnicodeError) as error:
                raise self._no_url() from error
            except (OSError, http.client.HTTPException) as error:
                raise Failure(_no_answer(self.url, error)) from error
            yield answer

    def _connection(self, timeout: float) -> tuple[SplitResult, http.client.HTTPConnection]:
        try:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise self._no_url()
            host, port = parts.hostname, parts.port
            if parts.scheme == "http":
                return parts, http.client.HTTPConnection(host, port, timeout=timeout)
            tls = self._context()
            return parts, http.client.HTTPSConnection(host, port, timeout=timeout, context=tls)
        except (ValueError, http.client.InvalidURL) as error:
            raise self._no_url() from error

    def _context(self) -> ssl.SSLContext:
        try:
            return trusting(self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Failure(f"--ca-file: {self.ca_file}: {why(error)}") from error

    def _no_url(self) -> Failure:
        wrong = " (ws:// is for sensors)" if self.url.startswith(("ws://", "wss://")) else ""
        return Failure(f"--url: expected http://HOST:PORT, found {self.url!r}{wrong}", 2)

    def _refusal(self, parts: SplitResult, status: int, body: bytes) -> Failure:
        told = body[:200].decode(errors="replace").strip()
        if status == _UPGRADE_REQUIRED:
            return Failure(f"{self.url} is the sensors' port, and people's is another: {told}")
        if status == 400 and parts.scheme == "http" and _speaks_tls(parts):
            return Failure(_tls_spoken(self.url))
        try:
            told = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            told = f"{told or 'no reason given'} (HTTP {status}, and not as an edge_agent answers)"
        if status in (401, 403):
            tries = f"Try {sudo_advice()}--token-file, or {TOKEN_VARIABLE}."
            told = f"{ended(f'{self.url} refuses: {told}')} {tries}"
        # What it does not understand was an argument.
        return Failure(told, 2 if status == 400 else 1)


def _starts(parameters: Mapping[str, str], ages: Sequence[str | None]) -> list[str | None]:
    """From when on to ask: as ``from`` says; else longer and longer before ``to``, or now."""
    from edge_agent.values.moments import parse_moment, parse_position

    last = parameters.get("to")
    if "from" in parameters or last is None:
        return [parameters["from"]] if "from" in parameters else [*ages]
    try:
        now_ns = time.time_ns()
        end_ns = now_ns if parse_position(last) else min(now_ns, parse_moment(last, now_ns))
        return [age and f"{parse_moment(age, end_ns) / NANOSECONDS:.3f}" for age in ages]
    except ProtocolError:
        # The agent says better what is wrong with it.
        return [None]


def _age_key(record: dict[str, Any]) -> tuple[str, int]:
    # Without its Z a time with a fraction sorts behind the whole second.
    return str(record["time"]).removesuffix("Z"), record["seq"]


def question(**given: str | None) -> dict[str, str]:
    """Parameters of a query, those left out that are None; ``from_`` is ``from``."""
    return {name.rstrip("_"): value for name, value in given.items() if value is not None}


def _no_answer(url: str, error: Exception) -> str:
    parts = urlsplit(url)
    place = url.partition("://")[2]
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = certificate_advice(error.verify_message)
        return f"{url}: its certificate is not trusted ({error.verify_message}); {advice}"
    if isinstance(error, ssl.SSLError):
        return f"{url}: this port speaks no TLS ({error.reason or error}): try http://{place}"
    answered = isinstance(error, (http.client.HTTPException, ConnectionError))
    refused = isinstance(error, ConnectionRefusedError)
    if parts.scheme == "http" and answered and not refused and _speaks_tls(parts):
        return _tls_spoken(url)
    return (
        f"no agent answers at {url} ({why(error)}). Is it running (edge-agent run), is http.address"
        " off, or does --url need another port?"
    )


def _tls_spoken(url: str) -> str:
    return f"{url}: this port speaks TLS: try https://{url.partition('://')[2]}"


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
