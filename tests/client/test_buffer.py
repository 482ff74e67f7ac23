"""One contract, both buffers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.client.buffer import Buffer, MemoryBuffer
from edge_agent.client.disk_buffer import DiskBuffer


@pytest.fixture
async def buffer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Buffer]:
    made: Buffer
    if request.param == "memory":
        made = MemoryBuffer()
    else:
        made = await DiskBuffer.open(tmp_path / "buffer", source="me", form="msgpack")
    yield made
    await made.aclose()


both = pytest.mark.parametrize("buffer", ["memory", "disk"], indirect=True)


@both
async def test_numbers_begin_at_one_and_have_no_holes(buffer: Buffer) -> None:
    assert (buffer.first, buffer.next, buffer.size) == (1, 1, 0)
    assert await buffer.append([b"a", b"bb"]) == 2
    assert await buffer.append([b"ccc"]) == 3
    assert (buffer.first, buffer.next, buffer.size) == (1, 4, 6)


@both
async def test_reading_is_bounded_by_records_and_bytes_but_gives_one_at_least(
    buffer: Buffer,
) -> None:
    await buffer.append([b"a", b"bb", b"ccc", b"d" * 100])
    assert await buffer.read(1, 2, 1000) == [b"a", b"bb"]
    assert await buffer.read(2, 10, 5) == [b"bb", b"ccc"]
    assert await buffer.read(4, 10, 5) == [b"d" * 100]
    assert await buffer.read(5, 10, 1000) == []


@both
async def test_what_is_acknowledged_is_forgotten_and_no_more(buffer: Buffer) -> None:
    await buffer.append([b"a", b"bb", b"ccc"])
    await buffer.acknowledge(3)
    assert (buffer.first, buffer.next, buffer.size) == (3, 4, 3)
    await buffer.acknowledge(2)
    assert buffer.first == 3
    await buffer.acknowledge(99)
    assert (buffer.first, buffer.next, buffer.size) == (4, 4, 0)
    assert await buffer.append([b"e"]) == 4
    assert await buffer.read(4, 10, 1000) == [b"e"]


@both
async def test_the_epoch_is_remembered(buffer: Buffer) -> None:
    assert buffer.epoch is None
    await buffer.remember("e1", -3)
    assert (buffer.epoch, buffer.shift) == ("e1", -3)
