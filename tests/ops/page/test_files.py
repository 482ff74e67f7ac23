"""The page's files: packed, kept for a year, and what others wrote is as it came."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

from edge_agent.ops.page.files import FOLDER, path_of, static_files
from tests.ops.real import agent

#: What the browser loads for the first view of a page, packed.
FIRST_VIEW_BYTES = 100 * 1024


async def test_a_file_is_packed_and_kept_for_a_year(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        status, head, body = await running.get(path_of("renew.js"), "Accept-Encoding: br, gzip")
        assert status == 200 and gzip.decompress(body) == (FOLDER / "renew.js").read_bytes()
        assert "immutable" in head and "no-store" not in head and "content-encoding: gzip" in head
        assert "text/javascript" in head and "nosniff" in head
        status, head, body = await running.get(path_of("renew.js"))
        assert body == (FOLDER / "renew.js").read_bytes() and "encoding: gzip" not in head
        page = await running.get("/", "Accept-Encoding: gzip")
        assert b"edge-agent" in gzip.decompress(page[2]) and "no-store" in page[1]


async def test_what_is_none_of_the_files_is_not_there(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        version = static_files().version
        for path in ("README.md", "../page.py", "%2e%2e/page.py", "", "no.js", "page.js"):
            assert (await running.get(f"/static/{version}/{path}"))[0] == 404, path
        assert (await running.get("/static/0123456789abcdef/page.js"))[0] == 404


def test_what_others_wrote_is_as_it_came() -> None:
    text = (FOLDER / "README.md").read_text()
    told = re.findall(r"^\| `(.+?)` \| ([0-9a-f]{64}) \|$", text, re.MULTILINE)
    assert {name for name, _ in told} == {path.name for path in FOLDER.glob("uplot.min.*")}
    for name, digest in told:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    assert "MIT" in (FOLDER / "uplot.LICENSE.txt").read_text()


def test_all_of_them_together_are_small() -> None:
    assert sum(map(len, static_files().packed.values())) < FIRST_VIEW_BYTES // 2
