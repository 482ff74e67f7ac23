"""Questions to a running agent's people's port: pages of records, and live ones.

The standard library's ``http.client`` does it: these commands ask one thing at a time, and an
HTTP client library would cost more to import than the question takes.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from edge_agent.cli.common import Failure

#: One page of a long answer, in records.
PAGE_RECORDS = 10_000
#: A live view without records says something every 15 s; three times that is silence.
_SILENCE_S = 45.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom to ask, as the options ``--url``, ``--token-file`` and ``--ca-file`` say.

    Raises:
        Failure: in each method, where nobody answers or the answer is an error; says what to do.
    """

    url: str
    token_file: Path | None = None
    ca_file: str | None = None

    def page(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """One answer of ``/api/query`` in JSON, decoded."""
        connection, answer = self._get("/api/query", {**parameters, "format": "json"}, 60.0)
        try:
            decoded: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failure(f"the answer of {self.url} broke off: {error}") from error
        finally:
            connection.close()
        return decoded

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

    def live(self, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Records (or ``{"missed": n}``) as they become durable, until the agent goes away."""
        connection, answer = self._get("/api/subscribe", parameters, _SILENCE_S)
        try:
            while line := answer.readline():
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failure(f"{self.url} went away: {error}") from error
        finally:
            connection.close()

    def _get(
        self, path: str, parameters: Mapping[str, str], timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"--url: expected http://HOST:PORT, found {self.url!r}", 2)
        headers = {}
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {self.token_file.read_text().strip()}"
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca_file)
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        target = f"{parts.path.rstrip('/')}{path}?{urlencode(parameters)}"
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise Failure(self._refusal(answer.status, answer.read(65536)))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Failure(
                f"no agent answers at {self.url} ({error}). Is it running, is http.address off, or"
                " does --url need another port?"
            ) from error
        return connection, answer

    def _refusal(self, status: int, body: bytes) -> str:
        try:
            told = json.loads(body)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            told = f"HTTP {status}, and not as an edge_agent answers: is it one?"
        hint = " Try --token-file." if status in (401, 403) else ""
        return f"{told}{hint}"


def question(**given: str | None) -> dict[str, str]:
    """Parameters of a query, those left out that are None; ``from_`` is ``from``."""
    return {name.rstrip("_"): value for name, value in given.items() if value is not None}
