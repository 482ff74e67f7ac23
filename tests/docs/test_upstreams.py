"""What docs/upstreams.md and docs/fleet.md say to write can be written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_agent.config import parse
from edge_agent.forward import make_sink
from edge_agent.store import Identity
from tests.forward.support import inline
from tests.manual_clock import ManualClock

DOCS = Path(__file__).parents[2] / "docs"
SNIPPETS = [
    (page, snippet)
    for page in ("upstreams.md", "fleet.md")
    for snippet in re.findall(
        r"^```toml\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL
    )
]


@pytest.mark.parametrize("page, snippet", SNIPPETS)
def test_a_snippet_is_a_configuration_whose_upstreams_have_sinks(page: str, snippet: str) -> None:
    config = parse(snippet, page)
    assert config.upstream
    for upstream in config.upstream:
        make_sink(
            upstream, "main", identity=Identity("00" * 16, "e0" * 8, "a1" * 6, 0),
            clock=ManualClock(), run_blocking=inline,
        )  # fmt: skip
