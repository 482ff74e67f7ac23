"""Orders to send an upstream once more what it may lack; what they do is in
``tests/forward/lanes/test_resend.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edge_agent.config import Config, MqttTable, Upstream
from edge_agent.errors import EdgeAgentError, StoreFailed
from edge_agent.forward import LogRecall, RecallSurvey, ResendOrder
from edge_agent.ops.orders.orders import ConsumerOrder, Orders
from edge_agent.ops.orders.resends import ResendGiven
from edge_agent.store import Block, Gap, Position
from tests.forward.support import Station, running_station, settings_for, upstream
from tests.rules.support import in_force

HUB = upstream("ws://hub:1/forward")


def orders(station: Station, *given: Upstream, recall: LogRecall | None = None) -> Orders:
    config = Config(upstream=given or (HUB,))
    return Orders(station.log, config, station.clock, rules=in_force(), recall=recall)


@pytest.mark.parametrize(
    "more, told",
    [
        ({"upstream": "other"}, "there are: hub"),
        ({"streams": ()}, "1 to 100 patterns"),
        ({"streams": ("a*",)}, "whole parts"),
        ({"since": "-1h", "until": "-2h"}, "expected a time behind"),
        ({"since": "yesterday"}, "from"),
        ({"log": "bulk"}, "no log 'bulk'; it has: main"),
        ({"cancel": True}, "nothing to cancel"),
        ({"agent": "someone"}, "the order is for agent someone"),
    ],
)
async def test_what_cannot_be_done_says_what_can(
    tmp_path: Path, more: dict[str, Any], told: str
) -> None:
    async with running_station(tmp_path) as station:
        await station.put(1)
        given = structs.replace(ResendGiven("hub", ("**",)), **more)
        with pytest.raises(EdgeAgentError, match=told):
            await orders(station).resend(given)


async def test_an_upstream_that_lets_a_device_have_one_connection_is_told(tmp_path: Path) -> None:
    cloud = upstream("mqtts://x.azure-devices.net", mqtt=MqttTable(profile="azure"))
    own = upstream("spool:///x")
    async with running_station(tmp_path) as station:
        await station.put(1)
        for one, told in ((cloud, "consumer rewind hub"), (own, "a package brings")):
            with pytest.raises(EdgeAgentError, match=told):
                await orders(station, one).resend(ResendGiven("hub", ("**",)))


async def test_looking_changes_nothing_and_says_what_is_gone(tmp_path: Path) -> None:
    small = settings_for(size=1024 * 1024)
    async with running_station(tmp_path, settings=small) as station:
        giving = orders(station)
        with pytest.raises(EdgeAgentError, match="nothing of that time"):
            await giving.resend(ResendGiven("hub", ("**",), look=True))
        await station.put(1)
        (row,) = await giving.resend(ResendGiven("hub", ("**",), look=True))
        assert (row["first"], row["last"], row["held_since"]) == (1, 1, None) and not row["renamed"]
        n = 1
        while station.log.first_seq("main") == 1:
            n = await station.put(2000, start=n)
        (row,) = await giving.resend(ResendGiven("hub", ("**",), look=True))
        assert row["first"] == station.log.first_seq("main") > 1 and row["held_since"]
        assert await giving.resends() == []


async def test_an_order_is_durable_at_once_and_goes_with_the_upstream(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station:
        await station.put(5)
        await station.log.acknowledge(Position("upstream/hub", "main", 2))
        await orders(station).resend(ResendGiven("hub", ("a/**", "t/*"), since="start"))
    async with running_station(tmp_path) as station:
        giving = orders(station)
        (row,) = await giving.resends()
        assert (row["upstream"], row["state"], row["left"]) == ("hub", "under way", 5)
        assert row["streams"] == ["a/**", "t/*"]
        with pytest.raises(EdgeAgentError, match=r"1 to 5 of log main once more; .*--cancel"):
            await giving.resend(ResendGiven("hub", ("**",)))
        (row,) = await giving.resend(ResendGiven("hub", cancel=True))
        assert row["state"] == "cancelled"
        await giving.resend(ResendGiven("hub", ("**",)))
        gone = orders(station, upstream("ws://hub:1/forward", name="else"))
        await gone.move(ConsumerOrder("forget", "hub"))
        names = {one.consumer for one in await station.log.consumers()}
        assert names == set()


class Surveyed:
    """History that says what it has; reading it is for lanes."""

    def __init__(self, told: RecallSurvey | StoreFailed | None) -> None:
        self.told, self.asked = told, list[tuple[str, int]]()

    async def survey(
        self, log: str, upto: int, order: ResendOrder, within_s: float
    ) -> RecallSurvey | None:
        self.asked.append((log, upto))
        if isinstance(self.told, StoreFailed):
            raise self.told
        return self.told

    async def read(self, *given: object) -> list[Block | Gap]:
        raise AssertionError


async def trimmed(station: Station) -> int:
    """The first seq that the log still holds."""
    n = 1
    while station.log.first_seq("main") == 1:
        n = await station.put(2000, start=n)
    return station.log.first_seq("main")


@pytest.mark.parametrize(
    "told, first, shown",
    [
        (RecallSurvey(40, 7, 3, 2), 7, (40, 3, 2)),
        (RecallSurvey(0, 0, 9, 0), None, (0, 9, 0)),
        (None, 1, (None, 0, 0)),
    ],
)
async def test_an_order_begins_with_what_history_has(
    tmp_path: Path,
    told: RecallSurvey | None,
    first: int | None,
    shown: tuple[int | None, int, int],
) -> None:
    async with running_station(tmp_path, settings=settings_for(size=1024 * 1024)) as station:
        held, history = await trimmed(station), Surveyed(told)
        (row,) = await orders(station, recall=history).resend(ResendGiven("hub", ("**",)))
        assert history.asked == [("main", held - 1)]
        assert row["first"] == (first or held) and row["held_since"]
        assert (row["from_history"], row["coarse"], row["damaged_parts"]) == shown


async def test_history_is_not_asked_for_what_the_log_holds(tmp_path: Path) -> None:
    history = Surveyed(StoreFailed("it is not to be asked"))
    async with running_station(tmp_path) as station:
        await station.put(5)
        (row,) = await orders(station, recall=history).resend(ResendGiven("hub", ("**",)))
        assert (row["first"], row["from_history"]) == (1, 0)


async def test_where_history_cannot_be_read_nothing_is_ordered(tmp_path: Path) -> None:
    history = Surveyed(StoreFailed("history: a key is missing"))
    async with running_station(tmp_path, settings=settings_for(size=1024 * 1024)) as station:
        await trimmed(station)
        giving = orders(station, recall=history)
        told = "a key is missing; nothing was ordered; what the log holds begins at 2026"
        with pytest.raises(EdgeAgentError, match=told):
            await giving.resend(ResendGiven("hub", ("**",)))
        assert await giving.resends() == []
