"""Long answers: piece by piece, places given back, live views that say they live."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import trio

from edge_agent.errors import ProtocolError
from edge_agent.ops import long_answers
from edge_agent.ops.long_answers import LiveView, Pieces, QueryAnswers
from tests.ops.real import agent
from tests.patience import PATIENCE_S


def everything(stream: str) -> bool:
    return True


class Reader:
    """The server's side of an ASGI response."""

    def __init__(self) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.gone = trio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def test_a_long_answer_is_sent_in_pieces(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", list(range(1000)))
        response = await QueryAnswers(running.live, 1).answer({}, "ndjson", everything)
        reader = Reader()
        await response({}, reader.receive, reader.send)
        assert len(reader.sent) == 1 + 4 + 1 and len(reader.body.splitlines()) == 1000
        assert reader.sent[-1].get("more_body") is not True


async def test_a_place_is_given_back_after_the_last_byte_and_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_answers, "_PATIENCE_S", 0.05)
    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [1])
        places = QueryAnswers(running.live, 1)
        with pytest.raises(ProtocolError, match="limit"):
            await places.answer({"limit": "x"}, "json", everything)
        first = await places.answer({}, "json", everything)
        with pytest.raises(ProtocolError) as caught:  # the first is still being sent
            await places.answer({}, "json", everything)
        assert caught.value.code == "busy"
        reader = Reader()
        await first({}, reader.receive, reader.send)
        await places.answer({}, "json", everything)


async def test_a_reader_that_takes_nothing_loses_its_place(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    done: list[bool] = []

    async def stuck(message: MutableMapping[str, Any]) -> None:
        await trio.sleep_forever()

    response = Pieces(iter([b"x"]), {}, lambda: done.append(True))
    await response({}, Reader().receive, stuck)
    assert done == [True]


async def test_a_live_view_says_at_once_and_then_regularly_that_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_answers, "KEEP_ALIVE_S", 0.05)
    async with agent(tmp_path, serve=False) as running:
        reader = Reader()
        view = LiveView(running.live, {}, everything, events=True, last_event_id=None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(view, {}, reader.receive, reader.send)
            with trio.fail_after(PATIENCE_S):
                while reader.body.count(b":\n\n") < 3:
                    await trio.sleep(0.01)
            await running.keep("a/1", [7])
            with trio.fail_after(PATIENCE_S):
                while b"id: main:1\n" not in reader.body:
                    await trio.sleep(0.01)
            reader.gone.set()


async def test_what_a_view_missed_is_told_before_what_comes_next(tmp_path: Path) -> None:
    from edge_agent.live import LiveBatch

    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [7])
        records = (await running.live.query({})).records
        view = LiveView(running.live, {}, everything, events=True, last_event_id=None)
        text = view._encode(LiveBatch(records, 12)).decode()
        assert text.startswith('event: missed\ndata: {"missed":12}\n\nid: main:1\ndata: {"seq":1,')
        lines = LiveView(running.live, {}, everything, events=False, last_event_id=None)
        assert lines._encode(LiveBatch([], 12)) == b'{"missed":12}\n'


async def test_with_a_step_only_the_last_event_of_all_streams_is_a_place_to_go_on(
    tmp_path: Path,
) -> None:
    from edge_agent.live import LiveBatch

    async with agent(tmp_path, serve=False) as running:
        await running.keep("a/1", [7, 8])
        records = (await running.live.query({})).records
        view = LiveView(running.live, {}, everything, events=True, last_event_id=None)
        whole = view._encode(LiveBatch(records, 0, [3, 4])).decode()
        assert whole.startswith('data: {"seq":1,') and "\n\nid: main:2\ndata: {" in whole
        assert b"id:" not in view._encode(LiveBatch(records, 0, [3, 4], is_whole=False))


async def test_a_format_that_a_live_view_has_not_is_refused(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        given = {"format": "csv"}
        with pytest.raises(ProtocolError, match="format: expected ndjson or sse, got 'csv'"):
            LiveView(running.live, given, everything, events=False, last_event_id=None)


@pytest.mark.parametrize("given", ["nonsense", "main:", ":5", "", "main:x"])
async def test_a_strange_last_event_id_starts_anew(tmp_path: Path, given: str) -> None:
    async with agent(tmp_path, serve=False) as running:
        if given == ":5":
            with pytest.raises(ProtocolError):
                LiveView(running.live, {}, everything, events=True, last_event_id=given)
        else:
            LiveView(running.live, {}, everything, events=True, last_event_id=given)


@pytest.mark.parametrize("records", [0, 1])
async def test_a_live_view_ends_with_the_right_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    monkeypatch.setattr(long_answers, "KEEP_ALIVE_S", 0.05 if not records else PATIENCE_S)
    monkeypatch.setattr(long_answers, "ASK_AGAIN_S", 0.0)
    may = True
    async with agent(tmp_path, serve=False) as running, trio.open_nursery() as nursery:
        reader, done = Reader(), trio.Event()
        view = LiveView(
            running.live, {}, everything, events=False, last_event_id=None, may_still=lambda: may
        )

        async def watch() -> None:
            await view({}, reader.receive, reader.send)
            done.set()

        nursery.start_soon(watch)
        with trio.fail_after(PATIENCE_S):
            while not reader.body:
                await trio.sleep(0.01)
            may = False
            if records:
                await running.keep("a/1", [1])
            await done.wait()
        assert reader.body.strip() == b""
