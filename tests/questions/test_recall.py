"""What a log no longer has, given back from a real history by its real process."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.config import Config, Http, Size, StoreConfig
from edge_agent.digest import digester
from edge_agent.errors import StoreFailed
from edge_agent.forward import RecallSurvey, Resend, ResendOrder
from edge_agent.forward.lanes.resend import ResendLog
from edge_agent.forward.lanes.split import Split
from edge_agent.forward.lanes.turns import LanePlace, LaneTurns
from edge_agent.history import Recall
from edge_agent.questions.asking import HistoryAnswer
from edge_agent.questions.recall import HistoryRecall
from edge_agent.seal import KeyRing
from edge_agent.store import Block
from edge_agent.values.record import TIME_NS_MAX
from edge_agent.values.stream_names import compile_pattern
from tests.asked import Asked, asked
from tests.forward.support import upstream

EVERYTHING = ResendOrder(1, ("**",), -TIME_NS_MAX, TIME_NS_MAX, 1, 2**40, 0)


@asynccontextmanager
async def small(tmp_path: Path) -> AsyncIterator[Asked]:
    """A store so small that its log is trimmed soon."""
    store = StoreConfig(path=str(tmp_path), size=Size(1 << 20))
    config = Config(http=Http(address="127.0.0.1:0"), store=store)
    async with asked(tmp_path, config=config) as history:
        yield history


async def fill(history: Asked, *, flushed: bool = True) -> int:
    """Records ``{"n": seq}``, by turns of two streams, until the oldest 500 are gone; the last."""
    log = history.parts.log
    last: int = log.last_seq("main")
    dice = random.Random(last)
    first = log.first_seq("main")
    while log.first_seq("main") < first + 500:
        for stream in ("a/1", "b"):
            rows = [{"n": last + n + 1, "pad": dice.randbytes(400)} for n in range(100)]
            await history.keep(stream, rows)
            last += len(rows)
        while await history.digester.catch_up():
            pass
    if flushed:
        await history.flush()
    return last


def seen_by(history: Asked, order: ResendOrder) -> ResendLog:
    """The log as the lane of an order sees it."""
    log, clock, hub = history.parts.log, history.parts.clock, upstream("ws://hub:1/forward")
    resend = Resend(hub, log, "main")
    resend.order = order
    place = LanePlace(LaneTurns(), 0, is_backlog=False, is_resend=True)
    split = Split(hub, log, "main", clock)
    return ResendLog(log, split, resend, place, HistoryRecall(history.asker))


async def test_each_record_comes_once_from_the_log_or_from_history(tmp_path: Path) -> None:
    async with small(tmp_path) as history:
        last = await fill(history)
        log = history.parts.log
        assert 1 < log.first_seq("main") < last
        order = replace(EVERYTHING, last=last)
        whole = seen_by(history, order)
        assert (whole.first_seq("main"), whole.last_seq("main")) == (1, last)
        found, cursor, recalled, seam = [], 0, 0, log.first_seq("main")
        while cursor < last:
            items = await whole.read("main", cursor, 100_000)
            assert items[0].first <= cursor + 1
            for item in items:
                if isinstance(item, Block):
                    recalled += item.recalled
                    found += [one for one in item.records() if cursor < one.seq <= last]
                    cursor = item.last
            if recalled == 2 and log.first_seq("main") == seam:
                await fill(history, flushed=False)  # The seam moves, and so may the records.
        assert recalled > 2 and log.first_seq("main") > seam
        assert [one.seq for one in found] == list(range(1, last + 1))
        assert [one.fields["n"] for one in found] == list(range(1, last + 1))
        assert {one.stream for one in found} == {"a/1", "b"}


async def test_an_order_is_surveyed_and_its_streams_alone_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hurried() -> int:
        raise AssertionError("what was digested long ago hurries nobody")

    async with small(tmp_path) as history:
        await fill(history)
        monkeypatch.setattr(history.digester, "catch_up", hurried)
        held = history.parts.log.first_seq("main")
        recall = HistoryRecall(history.asker)
        order = replace(EVERYTHING, streams=("b",))
        survey = await recall.survey("main", held - 1, order, 60.0)
        # Hundreds come by turns, and a block may end among them.
        expected = [seq for seq in range(1, held) if (seq - 1) // 100 % 2]
        assert survey == RecallSurvey(len(expected), 101, 0, 0)
        items, cursor = [], 0
        while cursor < held - 1:
            items += await recall.read("main", cursor, held - 1, order, 50_000)
            cursor = items[-1].last
        assert (items[0].first, items[-1].last) == (1, held - 1)
        assert all(one.last + 1 == two.first for one, two in pairwise(items))
        blocks = [item for item in items if isinstance(item, Block)]
        matches = compile_pattern("b")
        assert [one.seq for block in blocks for one in block.records(matches)] == expected


async def test_a_survey_that_takes_long_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asked(tmp_path) as history:
        for _ in range(3):
            await history.keep("a/1", [{"n": 1}])
            history.parts.clock.advance(3600)
        await history.flush()
        recall = HistoryRecall(history.asker)
        steps = 0

        async def unfinished(wanted: Recall) -> HistoryAnswer:
            nonlocal steps
            steps += 1
            answer = await ask(wanted)
            return answer if steps > 2 else HistoryAnswer([], 0, 0.0, {"unfinished": True})

        ask = history.asker.recall
        monkeypatch.setattr(history.asker, "recall", unfinished)
        assert await recall.survey("main", 3, EVERYTHING, 0.0) is None
        assert await recall.survey("main", 3, EVERYTHING, 60.0) == RecallSurvey(3, 1, 0, 0)


async def test_history_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digester, "CATCH_UP_S", 0.01)
    async with asked(tmp_path, digests=False) as history:
        await history.keep("a/1", [{"n": 1}])
        history.digester.trouble = "history: a key is missing"
        with pytest.raises(StoreFailed, match="a key is missing"):
            await HistoryRecall(history.asker).read("main", 0, 1, EVERYTHING, 1000)


async def test_what_history_has_not_taken_up_yet_is_told(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/1", [{"n": 1}])
        await history.flush()
        with pytest.raises(StoreFailed, match="log main to 1 of 7"):
            await HistoryRecall(history.asker).read("main", 0, 7, EVERYTHING, 1000)


async def test_where_the_process_has_ended_the_next_one_answers(tmp_path: Path) -> None:
    async with asked(tmp_path) as history:
        await history.keep("a/1", [{"n": n} for n in range(10)])
        recall = HistoryRecall(history.asker)
        before = await recall.read("main", 0, 10, EVERYTHING, 1000)
        pid = history.pid
        history.kill()
        # Whether its end is noticed before it is asked is a matter of luck.
        try:
            after = await recall.read("main", 0, 10, EVERYTHING, 1000)
        except StoreFailed:
            after = await recall.read("main", 0, 10, EVERYTHING, 1000)
        assert after == before and history.pid != pid


async def test_sealed_history_is_opened_for_it(tmp_path: Path) -> None:
    async with asked(tmp_path, seals=KeyRing((bytes(32),), os.urandom)) as history:
        await history.keep("a/1", [{"n": n} for n in range(3)])
        await history.flush()
        recall = HistoryRecall(history.asker)
        (block,) = await recall.read("main", 0, 3, EVERYTHING, 1000)
        assert isinstance(block, Block)
        assert [one.fields["n"] for one in block.records()] == [0, 1, 2]
