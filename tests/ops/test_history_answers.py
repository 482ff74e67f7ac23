"""Questions about history over HTTP, with the process that answers them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from edge_agent.config import Config, Http, Listen, Size, StoreConfig
from edge_agent.ops import Sources, history_answers
from edge_agent.ops.long_answers import Places
from edge_agent.security.tokens import Tokens, add_token
from tests.asked import asked
from tests.ops.real import agent


async def test_an_answer_in_every_format(tmp_path: Path) -> None:
    async with asked(tmp_path, serve=True) as history:
        await history.keep("a/b", [{"t": n, "n": {"x": 1}} for n in range(5)])
        history.parts.clock.advance(1)
        people = history.parts
        for form, kind in (
            ("json", "application/json"),
            ("ndjson", "application/x-ndjson"),
            ("csv", "text/csv; charset=utf-8"),
        ):
            target = f"/api/query?from=-1d&step=all&aggregate=count,max&fields=t,n.x&format={form}"
            status, head, body = await people.get(target)
            assert status == 200
            assert f"content-type: {kind}" in head.lower()
            assert "edge-agent-rows: 1" in head.lower() and "edge-agent-next" not in head.lower()
            assert b"t_max" in body and (b",5,4," in body or b'"t_max":4' in body)
        _, head, body = await people.get("/api/query?from=-1d&order=newest&limit=2&format=ndjson")
        assert "edge-agent-truncated: true" in head.lower() and "edge-agent-next: " in head.lower()
        assert [json.loads(line)["fields"]["t"] for line in body.splitlines()] == [4, 3]


async def test_an_answer_is_packed_for_those_who_can_unpack_it(tmp_path: Path) -> None:
    async with asked(tmp_path, serve=True) as history:
        await history.keep("a/b", [{"t": n} for n in range(500)])
        history.parts.clock.advance(1)
        target, packing = "/api/query?from=-1d&order=newest&limit=", "Accept-Encoding: br, gzip"
        _, plain_head, plain = await history.parts.get(target + "500")
        assert "content-encoding" not in plain_head.lower() and "vary: accept" in plain_head.lower()
        _, head, body = await history.parts.get(target + "500", packing)
        assert "content-encoding: gzip" in head.lower()
        assert gzip.decompress(body) == plain and 5 * len(body) < len(plain)
        _, head, body = await history.parts.get(target + "2", packing)
        assert "content-encoding" not in head.lower() and b'"t":499' in body


@pytest.mark.parametrize(
    "question, status, told",
    [
        ("step=1m&aggregat=max", 400, "aggregat: no such parameter"),
        ("step=1m&stream=a//b", 400, "stream"),
        ("step=1m&stream=a/**b*!", 400, "stream"),
        ("step=1m&format=xml", 400, "format: expected json, ndjson or csv"),
        ("step=1ms&fill=0&from=-3000d", 400, "fill: at most"),
    ],
)
async def test_what_cannot_be_answered_is_told(
    tmp_path: Path, question: str, status: int, told: str
) -> None:
    async with asked(tmp_path, serve=True) as history:
        await history.keep("a/b", [{"t": 1}])
        found, _, body = await history.parts.get(f"/api/query?{question}")
        assert found == status
        error = json.loads(body)["error"]
        assert error["code"] == "bad_query" and told in error["message"]


async def test_where_history_is_off_its_questions_are_told_so(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        status, _, body = await running.get("/api/query?step=1m")
        assert status == 400
        assert "it is off (history.enabled)" in json.loads(body)["error"]["message"]
        assert (await running.get("/api/query?limit=1"))[0] == 200


async def test_a_token_sees_its_own_streams_alone(tmp_path: Path) -> None:
    secret = add_token(file := tmp_path / "tokens", "g", read=["open/**"])

    config = Config(
        listen=Listen(insecure=True),
        http=Http(address="0.0.0.0:0"),
        store=StoreConfig(path=str(tmp_path / "store"), size=Size(16 << 20)),
    )

    def with_tokens(sources: Sources) -> Sources:
        return replace(sources, tokens=Tokens(file))

    async with asked(tmp_path / "store", serve=True, config=config, change=with_tokens) as history:
        history.parts.address = ("127.0.0.1", history.parts.address[1])
        await history.keep("open/a", [{"t": 1}])
        await history.keep("shut/b", [{"secret": 2}])
        history.parts.clock.advance(1)
        token = f"Authorization: Bearer {secret}"
        for question in (
            "step=all&aggregate=count", "order=newest", "step=1m&group=none&stream=*/*",
            "stream=shut/b&fields=secret", "stream=shut/*&step=all&aggregate=count&format=csv",
        ):  # fmt: skip
            status, head, body = await history.parts.get(f"/api/query?from=-1d&{question}", token)
            assert status == 200, body
            assert b"shut" not in body
            assert b"secret" not in body or question.endswith("fields=secret")
            assert "rows: 0" in head.lower() or b"open/a" in body or "group" in question


async def test_large_answers_keep_their_place_until_they_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_answers, "_SMALL_BYTES", 100)
    async with asked(tmp_path) as history:
        await history.keep("a/b", [{"t": n} for n in range(100)])
        places = Places(1)
        answers = history_answers.HistoryAnswers(history.sources, places)
        large = {"order": "newest", "from": "-1d", "to": "2100-01-01"}
        first = await answers.answer(large, "json", lambda name: True)
        with trio.move_on_after(0.05) as waited:
            await answers.answer(large, "json", lambda name: True)
        assert waited.cancelled_caught, "the only place is taken"
        sent: list[bytes] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(bytes(message.get("body", b"")))  # type: ignore[call-overload] # ASGI's map

        await first({}, None, send)  # type: ignore[arg-type] # it receives nothing
        assert len(json.loads(b"".join(sent))["records"]) == 100
        small = await answers.answer(large, "json", lambda name: False)
        assert b'"records":[]' in bytes(small.body)


async def test_who_opens_a_page_has_the_process_started(tmp_path: Path) -> None:
    async with asked(tmp_path, serve=True) as history:
        # What looks for news, and scripts, do not keep it.
        for header in ("Sec-Fetch-Dest: empty", "Accept: text/html"):
            assert (await history.parts.get("/", header))[0] == 200
            assert history.asker._worker is None
        assert (await history.parts.get("/", "Sec-Fetch-Dest: document"))[0] == 200
        first = history.pid
        assert (await history.parts.get("/", "Sec-Fetch-Dest: document"))[0] == 200
        assert history.pid == first
