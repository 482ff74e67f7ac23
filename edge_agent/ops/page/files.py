"""The files that the page is made of, beside its HTML: served under a path with a hash of them all.

A browser keeps them for a year, and asks for others when the agent is another version. They tell
nothing about the agent, so that nobody is asked for a token. Packed once, when the first is asked
for; what one page needs is joined by then, as a page with eight files stands a tenth later than
with four.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge_agent.ops.packed import PACKED_FROM, packed, takes_gzip

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static/"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
#: Files that are joined, those first that others import. Their top-level names differ.
_JOINED = {
    "overview.js": ("renew.js", "page.js"),
    "charts.js": ("words.js", "steps.js", "plot.js", "chart.js"),
    "charts.css": ("page.css", "uplot.min.css"),
}
#: Parts of these that are asked for by themselves, too; the others are not served.
_ALONE = frozenset({"renew.js", "page.css"})
#: What holds modules together while they are files of their own.
_TIES = re.compile(rb"^(?:import [^;]*;\n|export )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StaticFiles:
    """All of them, packed; ``version`` is the hash in their path."""

    version: str
    packed: dict[str, bytes]


@cache
def static_files() -> StaticFiles:
    """The files as they are installed."""
    texts = {p.name: p.read_bytes() for p in sorted(FOLDER.iterdir()) if p.suffix in _TYPES}
    digest = hashlib.sha256()
    for name, text in texts.items():
        digest.update(f"{name} {len(text)}\n".encode() + text)
    for name, parts in _JOINED.items():
        texts[name] = b"\n".join(_TIES.sub(b"", texts[part]) for part in parts)
    only_joined = {part for parts in _JOINED.values() for part in parts} - _ALONE
    smallest = {
        name: gzip.compress(text, 9, mtime=0)
        for name, text in texts.items()
        if name not in only_joined
    }
    return StaticFiles(digest.hexdigest()[:16], smallest)


def path_of(name: str) -> str:
    """Where a page finds the file ``name``."""
    return f"{PREFIX}{static_files().version}/{name}"


async def answer_file(request: Request) -> Response:
    """The file that a path names."""
    files = static_files()
    version, _, name = request.path_params["path"].partition("/")
    if version != files.version or name not in files.packed:
        raise HTTPException(404)
    headers = {
        "Content-Type": _TYPES[Path(name).suffix],
        "Cache-Control": "public, max-age=31536000, immutable",
    }
    body = files.packed[name]
    if takes_gzip(request):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    headers["Vary"] = "Accept-Encoding"
    return Response(body, headers=headers)


def answer_page(
    request: Request, html: bytes, headers: dict[str, str], status: int = 200
) -> Response:
    """A page made just now."""
    headers = {"Content-Type": "text/html; charset=utf-8", "Vary": "Accept-Encoding", **headers}
    if len(html) >= PACKED_FROM and takes_gzip(request):
        headers["Content-Encoding"] = "gzip"
        html = packed(html)
    return Response(html, status, headers)
