"""An HTTP server as the far side of the contract test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.forward.contract import FarSide
from tests.forward.http_upstream import Reply, http_upstream


@asynccontextmanager
async def http_side(_: Path) -> AsyncIterator[FarSide]:
    async with http_upstream() as server:
        kept: dict[str, bytes] = {}
        found: list[tuple[str, int]] = []

        class HttpSide:
            url = server.url
            options: dict[str, Any]
            nobody = "http://127.0.0.1:1/x"
            is_once = True

            def __init__(self) -> None:
                self.options = {}

            def hold(self) -> None:
                server.hold = trio.Event()

            def release(self) -> None:
                assert server.hold is not None
                server.hold.set()
                server.hold = None

            def break_down(self) -> None:
                server.script = [Reply(503)]

            async def durable(self) -> list[tuple[str, int]]:
                return found

        def answer(got: Any) -> Reply:
            # As an upstream that knows keys: the same key is the same bytes, and done once.
            if kept.setdefault(got.key, got.body) is got.body:
                found.extend((record["id"], record["fields"]["n"]) for record in got.records)
            assert kept[got.key] == got.body
            return Reply(204)

        server.answer = answer
        yield HttpSide()
