from __future__ import annotations

from edge_agent.config import sink_package


def test_a_scheme_that_no_package_brings_is_none() -> None:
    assert sink_package("gopher") is None
    assert sink_package("") is None
