from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.metrics import Metrics
from edge_agent.ops import stream_answers
from edge_agent.ops.prometheus import render
from edge_agent.ops.stream_answers import SERIES_MAX, Exposed, stream_pieces
from edge_agent.ops.streams import Directory
from edge_agent.store.types import Entry
from edge_agent.values.record import NANOSECONDS, Run
from tests.manual_clock import ManualClock
from tests.ops.pictures import STATUS
from tests.ops.real import Agent, agent, run_of


def run_with(clock: ManualClock, fields: dict[str, object]) -> Run:
    now_ns = clock.read().wall_ns
    return Run("a/1", "s", 0, now_ns, True, 1, msgpack.packb(fields), now_ns, now_ns)


async def seen_by(running: Agent) -> Directory:
    """A list of all that there is."""
    directory, at = Directory(running.log), 0
    while items := await running.log.read("main", at):
        for item in items:
            directory.note(item)
            at = item.last
    return directory


async def test_a_long_list_is_made_in_pieces_that_are_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_answers, "_PIECE_STREAMS", 2)
    async with agent(tmp_path, serve=False) as running:
        directory = Directory(running.log)
        assert json.loads(b"".join(stream_pieces(directory, []))) == {
            "streams": [], "since": {}, "skipped": 0, "forgotten": 0, "values_forgotten": 0
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


async def test_last_values_are_exposed_with_their_age_as_far_as_they_may_be_read(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("greenhouse/1", [21.5])
        await running.keep("greenhouse/2", [22])
        await running.keep("attic/1", [9])
        await running.keep("greenhouse/3", ["no number"])
        exposed = Exposed(await seen_by(running), ["greenhouse/*", "cellar/**"])
        now_ns = running.clock.read().wall_ns + 90 * NANOSECONDS
        assert exposed.samples(lambda name: name != "greenhouse/2", now_ns) == [
            ("stream_age_seconds", ("greenhouse/1",), 90),
            ("stream_value", ("greenhouse/1", "t"), 21.5),
            ("stream_series_left_out", (), 0),
        ]
        text = render(Metrics(), STATUS, exposed.samples(lambda _: True, now_ns)).decode()
        assert 'edge_agent_stream_value{field="t",stream="greenhouse/2"} 22.0\n' in text
        assert 'edge_agent_stream_age_seconds{stream="greenhouse/1"} 90.0\n' in text
        assert "\nedge_agent_stream_series_left_out 0.0\n" in text


async def test_nothing_is_exposed_where_nothing_is_said_of_it(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1])
        assert Exposed(await seen_by(running), []).samples(lambda _: True, 0) == []


async def test_names_of_fields_are_escaped(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        ticket = await running.log.append(
            Entry((run_with(running.clock, {'a "b"\\\n\x1b[0m': 1, "big": 2**64 - 1}),))
        )
        await ticket.wait()
        exposed = Exposed(await seen_by(running), ["**"])
        text = render(Metrics(), STATUS, exposed.samples(lambda _: True, 0)).decode()
        families = list(text_string_to_metric_families(text))
        fields = [
            sample.labels["field"]
            for family in families
            for sample in family.samples
            if sample.name == "edge_agent_stream_value"
        ]
        assert fields[1] == "big" and "\x1b" not in text and fields[0].startswith('`a "b"')


async def test_there_are_only_so_many_series_and_what_is_beyond_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent(tmp_path, serve=False) as running:
        for number in range(SERIES_MAX // 2 + 20):
            run = run_of(running.clock, f"s/{number:04}", [number])
            ticket = await running.log.append(Entry((run,)))
        await ticket.wait()
        exposed = Exposed(await seen_by(running), ["s/*"])
        for _ in range(3):
            *samples, left_out = exposed.samples(lambda _: True, 0)
        assert len(samples) == SERIES_MAX and left_out[2] == 40
        assert {labels[0] for _, labels, _ in samples} == {
            f"s/{number:04}" for number in range(SERIES_MAX // 2)
        }
        assert caplog.text.count("more than 1000 series; 40 are left out") == 1
