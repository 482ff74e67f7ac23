from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.ops import stream_answers
from edge_agent.ops.stream_answers import stream_pieces
from edge_agent.ops.streams import Directory
from tests.ops.real import agent


async def test_a_long_list_is_made_in_pieces_that_are_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_answers, "_PIECE_STREAMS", 2)
    async with agent(tmp_path, serve=False) as running:
        directory = Directory(running.log)
        assert json.loads(b"".join(stream_pieces(directory, []))) == {
            "streams": [], "since": {}, "skipped": 0, "forgotten": 0
        }  # fmt: skip
        for number in range(5):
            await running.keep(f"a/{number}", [number])
        for item in await running.log.read("main", 0):
            directory.note(item)
        pieces = list(stream_pieces(directory, directory.listing(lambda _: True)))
        assert len(pieces) == 5
        told = json.loads(b"".join(pieces))["streams"]
        assert [(one["stream"], one["last"]) for one in told] == [
            (f"a/{number}", {"t": number}) for number in range(5)
        ]


async def test_a_stream_whose_values_had_no_room_is_listed_without(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        directory = Directory(running.log)
        await running.keep("a", [1])
        for item in await running.log.read("main", 0):
            directory.note(item)
        directory.last_of("a")
        directory.last.forget("a")
        (stream,) = json.loads(b"".join(stream_pieces(directory, directory.listing(bool))))[
            "streams"
        ]
        assert (stream["last"], stream["time"], stream["spark"]) == ({}, None, [])
