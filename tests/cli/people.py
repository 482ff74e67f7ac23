"""A people's port that answers from a list, for what asks it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


def record(seq: int, log: str = "main", **fields: Any) -> dict[str, Any]:
    told = {
        "seq": seq, "stream": "a/b", "time": "2026-01-01T00:00:00Z", "source": "s", "fields": fields
    }  # fmt: skip
    return told if log == "main" else told | {"log": log}


class People:
    """Attributes: records to find; live ones to tell; page size; questions and headers seen."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.live: list[dict[str, Any]] = []
        self.page = 1000
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.refuse: tuple[int, bytes] | None = None
        self.status: dict[str, Any] = {}
        self.table: dict[str, Any] = {}

    def answer(self, path: str, given: dict[str, str]) -> bytes:
        if path == "/api/status":
            return json.dumps(self.status).encode()
        self.asked.append(given)
        if path == "/api/subscribe":
            return b"\n" + b"".join(json.dumps(each).encode() + b"\n" for each in self.live)
        if "step" in given or "fields" in given:
            begin, rows = int(given.get("next", "0:0").partition(":")[2]), self.table["rows"]
            end = begin + min(self.page, int(given.get("limit", "10000")))
            told = {"rows": rows[begin:end], "next": None if end >= len(rows) else f"0:{end}"}
            return json.dumps(self.table | (told if "step" not in given else {})).encode()
        if "aggregate" in given:
            aggregates = {"a/b": {"count": len(self.records), "min": 1, "max": 2}}
            return json.dumps(
                {"records": [], "aggregates": aggregates, "truncated": False, "next": None}
            ).encode()
        begin = int(given.get("next", "main:0").partition(":")[2])
        end = begin + min(self.page, int(given["limit"]))
        more = end < len(self.records)
        return json.dumps(
            {
                "records": self.records[begin:end],
                "aggregates": {},
                "truncated": more,
                "next": f"main:{end}" if more else None,
            }
        ).encode()


@contextmanager
def people_port() -> Iterator[tuple[People, str]]:
    people = People()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            people.headers.append(dict(self.headers))
            status, body = people.refuse or (200, b"")
            if status == 200:
                body = people.answer(parts.path, dict(parse_qsl(parts.query)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield people, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
