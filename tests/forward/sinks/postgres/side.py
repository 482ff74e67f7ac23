"""PostgreSQL as the far side of the contract test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.upstreams.servers import Postgres
from tests.forward.contract import FarSide
from tests.forward.relay import Relay, relay_to
from tests.forward.sinks.postgres.server import new_database


class PostgresSide:
    options: dict[str, Any]
    is_once = True

    def __init__(self, server: Postgres, database: str, relay: Relay, secret: Path) -> None:
        self._server, self._database, self._relay = server, database, relay
        self.url = f"postgresql://edge@127.0.0.1:{relay.port}/{database}"
        self.nobody = f"postgresql://edge@127.0.0.1:1/{database}"
        self.options = {"password_file": str(secret)}

    def hold(self) -> None:
        self._relay.hold()

    def release(self) -> None:
        self._relay.release()

    def break_down(self) -> None:
        self._relay.cuts = 1

    async def durable(self) -> list[tuple[str, int]]:
        if not await self._ask("SELECT to_regclass('records')"):
            return []
        places = "SELECT epoch || '/' || log || '/' || seq, fields->'n' FROM records ORDER BY seq"
        lines = [line.split("|") for line in (await self._ask(places)).splitlines()]
        return [(place, int(n)) for place, n in lines]

    async def _ask(self, question: str) -> str:
        ask = partial(self._server.psql, question, database=self._database)
        return await trio.to_thread.run_sync(ask)


def secret_file(folder: Path) -> Path:
    """The password of the server's user, in a file as the agent wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    return secret


@asynccontextmanager
async def postgres_side(path: Path) -> AsyncIterator[FarSide]:
    server, database = await trio.to_thread.run_sync(new_database)
    async with relay_to(server.port) as relay:
        yield PostgresSide(server, database, relay, secret_file(path))
