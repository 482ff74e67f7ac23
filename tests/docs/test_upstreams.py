"""What ``docs/upstreams.md`` shows can be used: each configuration loads and makes its sink."""

from __future__ import annotations

import pytest

from edge_agent.config import parse
from edge_agent.forward import make_sink
from edge_agent.store import Identity
from tests.docs.examples import Example, examples_of
from tests.forward.support import inline
from tests.manual_clock import ManualClock

EXAMPLES = examples_of("upstreams.md", "toml")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: each.title)
def test_each_snippet_makes_an_upstream(example: Example) -> None:
    (upstream,) = parse(example.code, "the page").upstream
    identity = Identity(agent_id="a" * 32, epoch="e" * 32, store_id="s", created_ns=1)
    make_sink(upstream, "main", identity=identity, clock=ManualClock(), run_blocking=inline)
