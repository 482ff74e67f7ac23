"""What an agent answers that ``top`` draws."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from edge_agent.ops import Status
from tests.ops.pictures import STATUS


def stream(name: str, rate: float, age_s: int = 3, /, **last: float) -> dict[str, Any]:
    """One stream, as ``/api/streams`` shows it."""
    return {
        "stream": name,
        "rate": rate,
        "last_stored": f"2026-11-22T09:59:{60 - age_s:02}.123456789Z",
        "last": last,
        "spark": [1, 2, 3, 8],
    }


def answers(status: Status = STATUS, *streams: dict[str, Any]) -> dict[str, Any]:
    """The answers by path."""
    told = json.loads(status.to_json())
    told["agent"]["time"] = "2026-11-22T10:00:00Z"
    return {"/api/status": told, "/api/streams": {"streams": list(streams)}}


@contextmanager
def answering(
    found: dict[str, Any],
) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A people's port that gives ``found`` by path; its URL, and what it was asked."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked.append((parts.path, dict(parse_qsl(parts.query))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(found[parts.path]).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
