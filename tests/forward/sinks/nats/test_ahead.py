"""Messages that are packed while the first of them are published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar, TypeVarTuple

import pytest
import trio

from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.nats.ahead import packing_ahead
from edge_agent.forward.sinks.nats.packing import PackedMessage, PackedPart
from tests.forward.support import inline

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def message(first: int, last: int) -> PackedMessage:
    return PackedMessage("s", b"", first, last)


def part(*ranges: tuple[int, int], refused: int = 0) -> PackedPart:
    records = sum(last - first + 1 for first, last in ranges)
    reasons = {refused: "too large"} if refused else {}
    return PackedPart([message(*one) for one in ranges], records + bool(refused), reasons)


async def test_the_first_messages_are_there_before_the_last_are_packed() -> None:
    steps: list[str] = []

    def parts() -> Iterator[PackedPart]:
        yield part((1, 2), (3, 4))
        steps.append("packs on")
        yield part((5, 6), refused=7)

    goes_on = trio.Event()

    async def packed(work: Callable[[*Ts], T], /, *given: *Ts) -> T:
        if steps:
            await goes_on.wait()
        steps.append("asked")
        return work(*given)

    async with packing_ahead(parts(), packed) as ahead:
        await ahead.until(1)
        assert ahead.settled(1) and not ahead.settled(2)
        steps.append("one is settled")
        goes_on.set()
        await ahead.until(9)
        assert [one.last for one in ahead.messages] == [2, 4, 6]
        assert (ahead.records, ahead.refused) == (7, {7: "too large"})
    assert steps == ["asked", "one is settled", "asked", "packs on", "asked"]


async def test_a_record_that_cannot_be_said_ends_the_messages_and_says_why() -> None:
    def parts() -> Iterator[PackedPart]:
        yield part((1, 2))
        raise SinkRefused("cannot be written")

    async with packing_ahead(parts(), inline) as ahead:
        await ahead.until(2)
        assert len(ahead.messages) == 1
        assert str(ahead.refusal) == "cannot be written"


async def test_what_the_upstream_does_not_take_is_raised_as_it_is_and_ends_the_packing() -> None:
    begun = 0

    def parts() -> Iterator[PackedPart]:
        nonlocal begun
        while True:
            begun += 1
            yield part((begun, begun))

    async def publish() -> None:
        async with packing_ahead(parts(), inline) as ahead:
            await ahead.until(3)
            raise SinkUnavailable("gone")

    with pytest.raises(SinkUnavailable, match="gone"):
        await publish()
    ended_at = begun
    await trio.testing.wait_all_tasks_blocked()
    assert begun == ended_at
