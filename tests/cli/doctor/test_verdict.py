from __future__ import annotations

from edge_agent.cli.doctor.verdict import Finding, fail, ok, warn


def test_what_is_well_needs_no_fix_and_what_is_not_has_one() -> None:
    assert ok("a", "b") == Finding("a", "ok", "b", "")
    assert warn("a", "b", "c") == Finding("a", "warn", "b", "c")
    assert fail("a", "b", "c") == Finding("a", "fail", "b", "c")
