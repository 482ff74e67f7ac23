"""A folder as the far side of the contract test."""

from __future__ import annotations

import errno
import gzip
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.forward.sinks.file import folder as folder_module
from edge_agent.forward.sinks.file import sink as sink_module
from tests.forward.contract import FarSide
from tests.patience import PATIENCE_S


def lines_in(folder: Path) -> list[dict[str, Any]]:
    """Every record of every file that is there as a whole, file by file as names sort."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.ndjson*")):
        if not path.name.startswith("."):
            text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found += [json.loads(line) for line in text.splitlines()]
    return found


@asynccontextmanager
async def file_side(path: Path) -> AsyncIterator[FarSide]:
    folder = path / "stick"
    folder.mkdir(parents=True)
    # A disk cannot be told to hang or to fail once it has everything; here it does both.
    free, fails = threading.Event(), threading.Event()
    free.set()

    def write_whole(descriptor: int, name: str, data: bytes) -> None:
        free.wait(PATIENCE_S)
        folder_module.write_whole(descriptor, name, data)
        if fails.is_set():
            fails.clear()
            raise OSError(errno.EIO, "failed after all")

    class FolderSide:
        url = folder.as_uri()
        options: dict[str, Any]
        nobody = (path / "nowhere").as_uri()
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
            return [(line["id"], line["fields"]["n"]) for line in lines_in(folder)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sink_module, "write_whole", write_whole)
        try:
            yield FolderSide()
        finally:
            free.set()
