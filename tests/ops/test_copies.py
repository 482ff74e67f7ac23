from __future__ import annotations

from edge_agent.copied_sources import CopiesSeen
from edge_agent.ops.copies import about_copies, copies_status
from edge_agent.ops.status import CopiesStatus
from edge_agent.store import Identity
from edge_agent.store.format.values import CopyNote

NOW_NS = 1_795_341_600_000_000_000
WEEK_NS = 7 * 86_400 * 1_000_000_000
PLAIN = Identity("5" * 32, "e" * 16, "a" * 12, 0)
COPY = Identity("5" * 32, "e" * 16, "a" * 12, 0, copied=CopyNote(2, NOW_NS, "it moved", "f" * 16))
SEEN = CopiesSeen(3, "pi/a", NOW_NS)


def test_nothing_is_told_where_nothing_was_noticed() -> None:
    assert copies_status(PLAIN, CopiesSeen()) == CopiesStatus()
    assert not list(about_copies(PLAIN, CopiesSeen(), NOW_NS))


def test_both_kinds_are_told_while_they_are_news_and_kept_in_status() -> None:
    own, source = about_copies(COPY, SEEN, NOW_NS + WEEK_NS - 1)
    assert own.code == "store_copied"
    assert "it moved" in own.message and "e" * 16 in own.message
    assert source.code == "source_copied"
    assert "3 times" in source.message and "pi/a" in source.message
    assert not list(about_copies(COPY, SEEN, NOW_NS + WEEK_NS))
    at = "2026-11-22T10:00:00Z"
    assert copies_status(COPY, SEEN) == CopiesStatus(2, at, "it moved", 3, "pi/a", at)
