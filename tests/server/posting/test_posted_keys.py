from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from edge_agent.log import Log
from edge_agent.server.posting.posted_keys import HeldKey, PostedKeys, source_of
from edge_agent.store import POSTED_PREFIX, Entry
from tests.forward.support import running_station


@asynccontextmanager
async def log_in(path: Path) -> AsyncIterator[Log]:
    async with running_station(path) as station:
        yield station.log


async def post(keys: PostedKeys, log: Log, who: str, key: str) -> int | None:
    """As a request does; what was stored under the key before."""
    async with keys.held(who, "s", key) as held:
        if held.stored is None:
            entry = Entry(numbering=held.numbering(3), sources=held.forget)
            await (await log.append(entry)).wait()
            held.is_kept = True
        return held.stored


def test_a_key_is_not_to_be_read_from_its_name_and_nobody_elses() -> None:
    name = source_of("pump", "secret-key")
    assert name.startswith(POSTED_PREFIX) and "secret" not in name
    assert name != source_of("tank", "secret-key") and name == source_of("pump", "secret-key")
    assert name != source_of("pump", "secret-key", "a") != source_of("pump", "secret-key", "b")


async def test_a_key_that_an_earlier_version_wrote_is_known_whatever_the_stream(
    tmp_path: Path,
) -> None:
    async with log_in(tmp_path) as log:
        numbering = HeldKey(source_of("a", "0")).numbering(3)
        await (await log.append(Entry(numbering=numbering))).wait()
        keys = PostedKeys(log, 1000)
        assert await post(keys, log, "a", "0") == 3
        assert await post(keys, log, "a", "1") is None


async def test_keys_of_others_give_way_only_to_who_has_fewer(tmp_path: Path) -> None:
    async with log_in(tmp_path) as log:
        keys = PostedKeys(log, 160)  # 16 keys, 4 of one identity
        for who in "abcd":
            for number in range(4):
                assert await post(keys, log, who, str(number)) is None
        assert await post(keys, log, "a", "4") is None
        assert await post(keys, log, "b", "0") == 3 and await post(keys, log, "a", "1") == 3
        assert await post(keys, log, "e", "0") is None
        assert len([one for one in await log.sources() if one.name.startswith(POSTED_PREFIX)]) == 16
        assert await post(keys, log, "a", "0") is None


async def test_they_are_read_from_the_store_after_a_start(tmp_path: Path) -> None:
    async with log_in(tmp_path) as log:
        keys = PostedKeys(log, 1000)
        assert await post(keys, log, "a", "0") is None
        again = PostedKeys(log, 1000)
        assert await post(again, log, "a", "0") == 3


async def test_what_was_not_kept_is_no_repeat(tmp_path: Path) -> None:
    async with log_in(tmp_path) as log:
        keys = PostedKeys(log, 1000)
        async with keys.held("a", "s", "0") as held:
            assert held.stored is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, keys, log, "a", "0")
        assert await post(keys, log, "a", "0") == 3
