"""An SQLite database, reached by a package of somebody else's, as the far side."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import SinkUnavailable
from tests.forward.contract import FarSide
from tests.own_sink.installed import MODULE, installed
from tests.patience import PATIENCE_S


@asynccontextmanager
async def spool_side(path: Path) -> AsyncIterator[FarSide]:
    path.mkdir(parents=True)
    free, fails = threading.Event(), threading.Event()
    free.set()
    with installed(path / "site"), pytest.MonkeyPatch.context() as patch:
        kind = import_module(MODULE).SpoolSink
        write = kind._write

        def writes(sink: Any, rows: list[Any]) -> None:
            if rows:
                free.wait(PATIENCE_S)
            write(sink, rows)
            if rows and fails.is_set():
                fails.clear()
                raise SinkUnavailable("failed after all")

        patch.setattr(kind, "_write", writes)

        class SpoolSide:
            url = f"spool://{path}/spool.db"
            options: dict[str, Any]
            nobody = f"spool://{path}/nowhere/spool.db"
            is_once = True

            def __init__(self) -> None:
                self.options = {}

            def hold(self) -> None:
                free.clear()

            def release(self) -> None:
                free.set()

            def break_down(self) -> None:
                fails.set()

            async def durable(self) -> list[tuple[str, int]]:
                with closing(sqlite3.connect(path / "spool.db")) as database:
                    rows = database.execute("SELECT id, fields FROM records ORDER BY rowid")
                    return [(name, json.loads(fields)["n"]) for name, fields in rows]

        try:
            yield SpoolSide()
        finally:
            free.set()
