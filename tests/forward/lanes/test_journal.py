from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from edge_agent.errors import SinkRefused, SinkUnavailable, StoreFull
from edge_agent.forward.lanes.journal import CAUSES_MAX, TOLD_EVERY_S, Journal, cause_of

Clock = trio.testing.MockClock


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.fixture
def journal() -> Journal:
    return Journal(logging.getLogger("edge_agent.test"), "hub")


async def test_changes_of_cause_and_the_recovery_are_a_line_each(
    autojump_clock: Clock, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    for cause in ("refused", "refused", "401", "401", "401", "500"):
        journal.failed(cause, f"it says {cause}")
        await trio.sleep(10)
    journal.recovered()
    journal.recovered()
    said = ["it says refused", "it says 401", "it says 500", "it takes records again, after 60 s"]
    assert lines(caplog) == [f"hub: {one}" for one in said]


async def test_two_causes_by_turns_are_told_now_and_then_with_their_number(
    autojump_clock: Clock, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(200):
        journal.failed("a", "a")
        journal.failed("b", "b")
        await trio.sleep(TOLD_EVERY_S / 80)
    assert lines(caplog) == [
        "hub: a",
        "hub: b",
        "hub: a (79 times more since it was told before)",
        "hub: b (79 times more since it was told before)",
        "hub: a (79 times more since it was told before)",
        "hub: b (79 times more since it was told before)",
    ]


async def test_an_upstream_that_comes_and_goes_fills_no_journal(
    autojump_clock: Clock, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        journal.failed("gone", "gone")
        journal.recovered()
        await trio.sleep(1)
    assert len(lines(caplog)) <= 4


async def test_ever_new_causes_fill_no_journal_either(
    autojump_clock: Clock, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(10 * CAUSES_MAX):
        journal.failed(f"cause {n}", "another one")
        await trio.sleep(1)
    assert len(lines(caplog)) == CAUSES_MAX
    await trio.sleep(TOLD_EVERY_S)
    journal.failed("fresh", "fresh")
    assert lines(caplog)[-1] == "hub: fresh"


def test_a_cause_is_the_status_or_the_words_without_what_changes() -> None:
    def http(status: int, words: str) -> SinkUnavailable:
        error = SinkUnavailable(words)
        error.status = status
        return error

    assert cause_of(http(500, "request 1")) == cause_of(http(500, "another"))
    assert cause_of(http(500, "x")) != cause_of(http(401, "x"))
    one, two = (SinkUnavailable(f"no answer, with {n} of {n} bytes gone") for n in (17, 4711))
    assert cause_of(one) == cause_of(two)
    assert cause_of(SinkRefused("no")) != cause_of(StoreFull("no"))
