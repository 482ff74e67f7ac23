"""Questions to a running agent's people's port: pages of records, and live ones.

The standard library's ``http.client`` does it: these commands ask one thing at a time, and an
HTTP client library would cost more to import than the question takes.
"""

from __future__ import annotations

import heapq
import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edge_agent.cli.common import TOKEN_VARIABLE, Failure, open_answer
from edge_agent.errors import ProtocolError
from edge_agent.printable import ended
from edge_agent.record import NANOSECONDS

#: How far back newest records are looked for, before everything is asked for.
AGES = ("-1m", "-1h", "-1d")
#: One page of a long answer, in records.
PAGE_RECORDS = 10_000
#: A live view without records says something every 15 s; three times that is silence.
_SILENCE_S = 45.0


@dataclass(frozen=True, slots=True)
class AgentAddress:
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
        connection, answer = open_answer(
            self.url,
            f"{path}?{urlencode(parameters)}",
            token_file=self.token_file,
            ca_file=self.ca_file,
            timeout=timeout,
        )
        if answer.status != 200:
            with closing(connection):
                raise Failure(self._refusal(answer.status, answer.read(65536)))
        return connection, answer

    def _refusal(self, status: int, body: bytes) -> str:
        try:
            told = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            told = f"HTTP {status}, and not as an edge_agent answers: is it one?"
        if status not in (401, 403):
            return told
        return f"{ended(told)} Try --token-file, or {TOKEN_VARIABLE}."


def _starts(parameters: Mapping[str, str], ages: Sequence[str | None]) -> list[str | None]:
    """From when on to ask: as ``from`` says; else longer and longer before ``to``, or now."""
    from edge_agent.live.moments import parse_moment, parse_position

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
