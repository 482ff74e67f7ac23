from __future__ import annotations

import logging

from edge_agent.system.journal_tail import CHARACTERS_MAX, KEPT, JournalTail

NAME = "edge_agent.test_journal_tail"
logger = logging.getLogger(NAME)


def test_the_newest_lines_are_kept_and_the_newest_is_first() -> None:
    tail = JournalTail()
    logger.setLevel(logging.DEBUG)
    with tail.attached(NAME):
        for number in range(KEPT + 5):
            logger.info("line %d", number)
        logger.debug("a detail")
        logger.warning("evil\x1b[2J\nline")
    logger.warning("after it")
    found = tail.newest_first()
    assert len(found) == KEPT and found[1].text == f"line {KEPT + 4}"
    assert found[0].level == "WARNING" and "\x1b" not in found[0].text
    assert "\n" not in found[0].text and found[0].when_ns > 1_700_000_000 * 10**9


def test_a_long_line_and_one_that_cannot_be_written_harm_nobody() -> None:
    tail = JournalTail()
    tail.handleError = lambda record: None  # type: ignore[method-assign] # it would print
    bad = logging.LogRecord(NAME, logging.ERROR, "f", 1, "%d", ("no number",), None)
    tail.handle(bad)
    tail.handle(logging.LogRecord(NAME, logging.ERROR, "f", 1, "x" * 10_000, (), None))
    (line,) = tail.newest_first()
    assert len(line.text) == CHARACTERS_MAX and line.text.endswith("…")
