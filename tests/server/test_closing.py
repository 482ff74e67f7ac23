"""How connections end."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from edge_agent.commit import Closed
from edge_agent.errors import ProtocolError, StoreFailed, StoreFull
from edge_agent.server.closing import (
    RETURN_FIRST_S,
    RETURN_LAST_S,
    RETURNS_PER_S,
    End,
    Ending,
    close_of,
    not_now,
    quarantined,
    return_last_s,
)
from edge_agent.wire import Reject
from tests.patience import PATIENCE_S


def test_a_full_store_passes_its_hint_on() -> None:
    told = not_now(StoreFull("log main is full", 12.5), random.Random(1), 1)
    assert (told.code, told.message) == ("store_full", "log main is full")
    assert told.retry_after >= 12.5


def test_a_disk_that_refused_is_worth_another_try() -> None:
    told = not_now(StoreFailed("EIO"), random.Random(1), 1)
    assert (told.code, told.message) == ("store_failed", "EIO")
    assert told.retry_after > 0


@pytest.mark.parametrize("refused", [StoreFull("log main is full", 12.5), StoreFailed("EIO")])
def test_all_who_are_refused_at_one_moment_are_told_other_times(
    refused: StoreFull | StoreFailed,
) -> None:
    dice = random.Random(1)
    hints = [not_now(refused, dice, 100).retry_after for _ in range(100)]
    assert (
        len(set(hints)) == 100 and max(hints) > 1.8 * min(hints) and max(hints) < 2.1 * min(hints)
    )


def test_a_planned_stop_asks_each_peer_to_return_at_another_time() -> None:
    dice = random.Random(1)
    hints = {not_now(Closed("stopping"), dice, 500).retry_after for _ in range(500)}
    assert len(hints) == 500
    assert min(hints) >= RETURN_FIRST_S and 2.2 < max(hints) <= 2.5
    # Nobody is asked to come before there can be somebody, and no crowd comes within one second.
    within = max(sum(1 for hint in hints if since <= hint < since + 1) for since in hints)
    assert within < 1.5 * RETURNS_PER_S


@pytest.mark.parametrize(
    "peers, last", [(0, 1.0), (1, 1.0), (500, 2.5), (1000, 5.0), (6000, 30.0), (10**6, 30.0)]
)
def test_the_more_peers_there_are_the_longer_they_take_to_return(peers: int, last: float) -> None:
    assert return_last_s(peers) == last
    assert RETURN_LAST_S[0] > RETURN_FIRST_S


@pytest.mark.parametrize(
    "end, failure, code",
    [
        ("peer", None, 1000),
        ("idle", None, 1001),
        ("taken_over", None, 4409),
        ("too_big", None, 1009),
        ("too_big", ProtocolError("too_big_message", "big", 1009), 1009),
        (None, ProtocolError("undecodable", "what?", 1007), 1007),
        (None, ProtocolError("forbidden", "no"), 1008),
    ],
)
def test_every_end_has_its_code(end: End | None, failure: ProtocolError | None, code: int) -> None:
    found, reason = close_of(end, failure)
    assert found == code
    if failure is not None:
        assert reason == failure.message


def test_a_reject_keeps_its_number_and_reason() -> None:
    kept = quarantined(Reject(7, "bad_time", "noon", b"\x81", "a/b"), "pi", 123)
    assert (kept.number, kept.code, kept.reason) == (7, "bad_time", "noon")
    assert (kept.source, kept.stream, kept.arrival_ns, kept.body) == ("pi", "a/b", 123, b"\x81")


async def test_the_first_reason_is_the_one_that_counts() -> None:
    ending = Ending()
    assert ending.end is None
    ending.set_end("peer")
    ending.set_end("broken")
    assert ending.end == "peer"


async def test_scopes_are_cancelled_at_the_end_and_at_once_after_it() -> None:
    ending = Ending()
    cancelled: list[bool] = []

    async def wait() -> None:
        with ending.until_end() as scope:
            await trio.sleep(60)
        cancelled.append(scope.cancelled_caught)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        ending.set_end("idle")
    await wait()
    assert cancelled == [True, True, True]


async def test_a_scope_that_was_left_is_not_cancelled() -> None:
    ending = Ending()
    with ending.until_end() as scope:
        pass
    ending.set_end("idle")
    assert not scope.cancel_called


async def test_who_waits_is_stirred_by_hand_or_by_the_end() -> None:
    ending = Ending()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ending.wait_stirred)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        ending.stir()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ending.wait_stirred)
        await trio.testing.wait_all_tasks_blocked()
        ending.set_end("peer")
    with trio.fail_after(PATIENCE_S):
        await ending.wait_stirred()
    ending.stir()
