"""POST /ingest/STREAM on a real port and store; the client is a bare socket and h11."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import msgspec
import pytest
import trio
from trio.testing import MockClock

from edge_agent.config.quantities import Size
from edge_agent.config.shape import Limits, Rule, Schema
from edge_agent.security.tokens import add_token, revoke_token
from edge_agent.server.posting.posts import TOLD_MAX
from edge_agent.store import LogSettings, StoreSettings
from edge_agent.wire import REJECT_BYTES_MAX
from tests.patience import PATIENCE_S, eventually, receive_to_end
from tests.server.support import LISTEN, Serving, connect, neighbours, raw, serving

JSON = {"Content-Type": "application/json"}


class Poster:
    """Sends requests over one connection, one after the other."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def post(
        self,
        body: bytes | str,
        path: str = "/ingest/a/b",
        *,
        headers: Mapping[str, str] = JSON,
        method: str = "POST",
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON; what is no JSON stands under ``text``."""
        data = body.encode() if isinstance(body, str) else body
        given = {"Host": "localhost", "Content-Length": str(len(data)), **headers}
        head = h11.Request(method=method, target=path, headers=list(given.items()))
        sent = self.http.send(head) or b""
        sent += self.http.send(h11.Data(data=data)) or b""
        await self.stream.send_all(sent + (self.http.send(h11.EndOfMessage()) or b""))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Of a request that was sent."""
        status, body = 0, b""
        self.headers: dict[str, str] = {}
        with trio.fail_after(PATIENCE_S):
            while True:
                event = self.http.next_event()
                if event is h11.NEED_DATA:
                    self.http.receive_data(bytes(await self.stream.receive_some(65536)))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    self.headers = {n.decode(): v.decode() for n, v in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        is_json = self.headers.get("content-type") == "application/json"
        return status, json.loads(body) if is_json else {"text": body.decode()}


@asynccontextmanager
async def poster(port: Serving) -> AsyncIterator[Poster]:
    async with raw(port) as stream:
        yield Poster(stream)


async def fields_of(port: Serving) -> list[Any]:
    return [record.fields for record in await port.records()]


async def test_one_request_after_the_other_is_stored_before_it_is_answered(tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (port, _), poster(port) as sender:
        assert await sender.post('{"t": 20.5}') == (200, {"stored": 1, "refused": []})
        assert await sender.post('[{"t": 21}, {"t": 22}]') == (200, {"stored": 2, "refused": []})
        body = msgspec.msgpack.encode([{"t": 23}])
        packed = {"Content-Type": "application/msgpack"}
        assert (await sender.post(body, headers=packed))[0] == 200
        lines = '{"t": 24}\n\n{"t": 25}\r\n'
        assert (await sender.post(lines, headers={"Content-Type": "application/x-ndjson"}))[
            0
        ] == 200
        assert (await sender.post(lines, headers={}))[1]["stored"] == 2
        assert (await sender.post('{"t":\n 26}', headers={}))[1]["stored"] == 1
        found = [record for record in await port.records() if record.stream == "a/b"]
        assert [one.fields["t"] for one in found] == [20.5, 21, 22, 23, 24, 25, 24, 25, 26]
        assert {one.source for one in found} == {"127.0.0.1"}


async def test_the_answer_waits_for_the_disk(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, poster(port) as sender, trio.open_nursery() as nursery:
        port.held.hold()
        answered = trio.Event()

        async def post() -> None:
            assert (await sender.post('{"t": 1}'))[0] == 200
            answered.set()

        nursery.start_soon(post)
        await eventually(lambda: port.held.began > 0, "a commit")
        await trio.sleep(0.05)
        assert not answered.is_set()
        port.held.let_go()


async def test_what_cannot_be_used_is_in_quarantine_and_told(tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (port, _), poster(port) as sender:
        status, told = await sender.post('[{"t": 1}, {"time": "never"}, {"stream": "a//b"}]')
        assert (status, told["stored"]) == (200, 1)
        assert [one["code"] for one in told["refused"]] == ["bad_time", "bad_stream"]
        assert (await sender.post('{"time": "never"}'))[0] == 422
        status, told = await sender.post('{"t": 2}\n{"t"\n{"t": 3}')
        assert (status, told["stored"]) == (200, 2)
        assert [one["code"] for one in told["refused"]] == ["undecodable"]
        status, told = await sender.post("[" + ",".join(['{"time": 1e99}'] * 50) + "]")
        assert (status, told["refused_in_all"], len(told["refused"])) == (422, 50, TOLD_MAX)
        assert len(await port.quarantine()) == 2 + 1 + 1 + 50
        status, told = await sender.post(b'{"t": 3}\n{"t": NaN, "x": "\xff"}\n{"t": 4}')
        assert (status, told["stored"]) == (200, 2)
        assert "not UTF-8" in told["refused"][0]["message"]
        entries = await port.log.quarantine(0, 1000)
        assert b'{"t": NaN, "x": "\xff"}' in [entry.body for _, entry in entries]
        _, told = await sender.post('{"x": "\\ud83d"}')
        assert "half a character" in told["refused"][0]["message"]


LONG = b"\xff" * 100_000


@pytest.mark.parametrize(
    "line, kept, code",
    [
        (b'{"x": "\xff\xc3"}', b'{"x": "\xff\xc3"}', "bad_record"),
        (b'[{"t": 2}, {"x": "\xff\xc3"}]', b'{"x": "\xff\xc3"}', "bad_record"),
        (b'{"x": NaN, "y": "\xff"}', b'{"x": NaN, "y": "\xff"}', "undecodable"),
        # In an array what is no JSON has been mended by the time that its elements are parted.
        (b'[{"t": 2}, {"x": NaN, "y": "\xff"}]', b'{"x": null, "y": "\xff"}', "bad_record"),
        (b'{"x": "%s"}' % LONG[:40_000], b'{"x": "%s"}' % LONG[:40_000], "bad_record"),
        (b'[{"t": 2}, {"x": "%s"}]' % LONG, b'{"x": "%s"}' % LONG, "too_big"),
        (b"\x81\xa1t\x02", b"\x81\xa1t\x02", "undecodable"),
    ],
    ids=["alone", "array", "NaN", "NaN in array", "long", "too long in array", "msgpack"],
)
async def test_a_line_that_is_no_text_is_kept_as_it_came_and_costs_no_neighbour(
    tmp_path: Path, line: bytes, kept: bytes, code: str
) -> None:
    async with neighbours(tmp_path) as (port, _), poster(port) as sender:
        status, told = await sender.post(b'{"t": 1}\n%s\n{"t": 3}' % line)
        good = 2 + line.startswith(b"[")
        assert (status, told["stored"]) == (200, good), told
        (refused,) = told["refused"]
        assert refused["code"] == code and "120008" not in refused["message"]
        assert code != "too_big" or "100009" in refused["message"]
        ((_, entry),) = await port.log.quarantine(0, 10)
        assert entry.body == kept[:REJECT_BYTES_MAX]


@pytest.mark.parametrize("body", ["", "{", "null", b"\xff\xfe", "[1, 2"])
async def test_what_is_nothing_at_all_is_a_400_and_leaves_nothing(
    tmp_path: Path, body: str | bytes
) -> None:
    async with neighbours(tmp_path) as (port, _), poster(port) as sender:
        status, told = await sender.post(body)
        assert status in (400, 422), told
        assert (await sender.post('{"t": 1}'))[0] == 200
        assert len(await fields_of(port)) >= 1


async def test_limits_are_told_before_the_body_is_read(tmp_path: Path) -> None:
    limits = Limits(message_bytes=Size(2000))
    async with neighbours(tmp_path, limits=limits) as (port, _):
        async with poster(port) as sender:
            head = "POST /ingest/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n"
            await sender.stream.send_all(head.encode())
            sender.http.send(h11.Request(method="POST", target="/", headers=[("Host", "x")]))
            status, told = await sender.answer()
            assert status == 413 and "limits.message_bytes" in told["error"]["message"]
        async with poster(port) as sender:
            chunked = {"Transfer-Encoding": "chunked"}
            await sender.stream.send_all(
                b"POST /ingest/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 3
            )
            request = h11.Request(
                method="POST", target="/", headers=[("Host", "x"), *chunked.items()]
            )
            sender.http.send(request)
            assert (await sender.answer())[0] == 413
        for more, expected in (
            ({"Content-Encoding": "gzip"}, 415),
            ({"Content-Type": "application/senml+cbor"}, 415),
            ({"Idempotency-Key": "x" * 300}, 400),
            ({"Idempotency-Key": ""}, 400),
        ):
            async with poster(port) as sender:
                assert (await sender.post("{}", headers=more))[0] == expected


async def test_who_waits_for_a_word_before_sending_gets_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, poster(port) as sender:
        head = "POST /ingest/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n"
        await sender.stream.send_all((head + "Expect: 100-continue\r\n\r\n").encode())
        with trio.fail_after(PATIENCE_S):
            assert (await sender.stream.receive_some(100)).startswith(b"HTTP/1.1 100 Continue")
        await sender.stream.send_all(b'{"t": 1}')
        sender.http.send(h11.Request(method="POST", target="/", headers=[("Host", "x")]))
        assert (await sender.answer())[0] == 200


async def test_a_slow_body_ends_and_harms_nobody(turned_clock: MockClock, tmp_path: Path) -> None:
    async with neighbours(tmp_path) as (port, _):
        async with raw(port) as stream:
            await stream.send_all(
                b"POST /ingest/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            )
            await eventually(lambda: port.server._parts.posted.reading > 0, "its body is read")
            for _ in range(25):
                # Small steps: the neighbour answers pings meanwhile.
                turned_clock.jump(LISTEN.idle_timeout / 20)
                await trio.sleep(0.005)
            with trio.fail_after(PATIENCE_S):
                assert await stream.receive_some(100) == b""
        assert port.server._parts.posted.reading == 0


async def test_a_key_stores_once_over_restarts(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "b3f1-1"}
    async with serving(tmp_path) as port, poster(port) as sender:
        assert await sender.post('[{"t": 1}, {"t": 2}]', headers=key) == (
            200, {"stored": 2, "refused": []},
        )  # fmt: skip
        again = await sender.post('[{"t": 1}, {"t": 2}]', headers=key)
        assert again == (200, {"stored": 2, "refused": [], "repeated": True})
    async with serving(tmp_path) as port, poster(port) as sender:
        assert (await sender.post('[{"t": 1}, {"t": 2}]', headers=key))[1]["repeated"] is True
        assert (await sender.post('{"t": 3}', headers={"Idempotency-Key": "other"}))[0] == 200
        assert await fields_of(port) == [{"t": 1}, {"t": 2}, {"t": 3}]


async def test_two_requests_under_one_key_at_one_time_store_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, poster(port) as one, poster(port) as other:
        answers = []

        async def post(sender: Poster) -> None:
            answers.append(await sender.post('{"t": 1}', headers={"Idempotency-Key": "k"}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, one)
            nursery.start_soon(post, other)
        assert sorted("repeated" in told for _, told in answers) == [False, True]
        assert await fields_of(port) == [{"t": 1}]


async def test_the_oldest_keys_give_way_and_no_sensor_does(tmp_path: Path) -> None:
    limits = Limits(sources=80)  # 8 keys, 2 of one identity
    settings = StoreSettings(size=8 * 1024 * 1024, compression_level=0, sources_max=80)
    async with (
        neighbours(tmp_path, limits=limits, settings=settings) as (port, _),
        poster(port) as p,
    ):
        for number in range(10):
            await p.post('{"t": 1}', headers={"Idempotency-Key": str(number)})
        keys = [one for one in await port.log.sources() if one.name.startswith("$post/")]
        assert len(keys) == 2
        assert (await p.post('{"t": 1}', headers={"Idempotency-Key": "9"}))[1]["repeated"]
        told = (await p.post('{"t": 1}', headers={"Idempotency-Key": "0"}))[1]
        assert "repeated" not in told


async def test_tokens_are_asked_of_every_request(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    secret = add_token(file, "pump", write=("a/**",))
    other = add_token(file, "tank", write=("a/**",))
    bearer = {"Authorization": f"Bearer {secret}"}
    async with serving(tmp_path, tokens=file) as port:
        async with poster(port) as sender:
            assert (await sender.post("{}", headers={}))[0] == 401
        async with poster(port) as sender:
            assert (await sender.post("{}", "/ingest/b", headers=bearer))[0] == 403
        async with poster(port) as sender:
            assert (await sender.post('{"t": 1}', headers=bearer))[0] == 200
            status, told = await sender.post('{"stream": "b", "t": 1}', headers=bearer)
            assert status == 422 and told["refused"][0]["code"] == "forbidden_stream"
            foreign = {"Authorization": f"Bearer {other}"}
            assert (await sender.post('{"t": 1}', headers=foreign))[0] == 403
        async with poster(port) as sender:
            assert (await sender.post('{"t": 1}', headers=bearer))[0] == 200
            revoke_token(file, "pump")
            with trio.fail_after(PATIENCE_S):
                assert await sender.stream.receive_some(100) == b""


@pytest.mark.parametrize("path", ["/subscribe/secret", "/subscribe/**", "/query", "/forward", "/x"])
async def test_a_post_to_any_other_path_stores_nothing_whatever_else_the_token_may(
    tmp_path: Path, path: str
) -> None:
    tokens = tmp_path / "tokens"
    secret = add_token(tokens, "me", write=["a/b"], read=["**"], forward=True, admin=True)
    known = {"Authorization": f"Bearer {secret}"}
    async with serving(tmp_path, tokens=tokens) as port:
        async with poster(port) as sender:
            assert (await sender.post('{"t": 1}', headers=known))[0] == 200
            # Behind a request that was let in, as the first of a connection.
            behind = await sender.post('{"t": 2}', path, headers=known)
            assert (behind[0], behind[1]["error"]["code"]) == (404, "unknown_path")
        async with poster(port) as sender:
            assert await sender.post('{"t": 3}', path, headers=known) == behind
            assert sender.headers["connection"] == "close"
        assert [(one.stream, one.fields) for one in await port.records()] == [("a/b", {"t": 1})]


async def test_a_page_of_another_site_cannot_post(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, poster(port) as sender:
        evil = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
        assert (await sender.post('{"t": 1}', headers=evil))[0] == 403
        assert await fields_of(port) == []


async def test_over_the_rate_it_is_asked_to_come_back(tmp_path: Path) -> None:
    slow = Limits(records_per_second=1)
    async with serving(tmp_path, limits=slow) as port, poster(port) as sender:
        assert (await sender.post("[" + ",".join(['{"t": 1}'] * 200) + "]"))[0] == 200
        status, told = await sender.post('{"t": 1}')
        assert (status, told["error"]["code"]) == (429, "too_fast")
        assert 199 - PATIENCE_S < int(sender.headers["retry-after"]) <= 199


async def test_without_room_it_is_asked_to_come_back(tmp_path: Path) -> None:
    small = StoreSettings(
        size=2 * 1024 * 1024, logs=(LogSettings("main", when_full="refuse", share=0.1),),
        compression_level=0,
    )  # fmt: skip
    async with serving(tmp_path, settings=small) as port, poster(port) as sender:
        statuses = {(await sender.post(json.dumps({"x": "y" * 60_000})))[0] for _ in range(20)}
        assert statuses == {200, 503} and int(sender.headers["retry-after"]) >= 1


async def test_senml_and_cloudevents_are_known_by_their_types(tmp_path: Path) -> None:
    pack = '[{"bn": "urn:dev:ow:10e2:", "bu": "Cel", "n": "in", "v": 21.5}, {"n": "out", "v": 12}]'
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"t": 4}}
    types = ("application/senml+json", "application/cloudevents-batch+json; charset=utf-8")
    async with serving(tmp_path) as port, poster(port) as sender:
        for kind, body in zip(types, (pack, json.dumps([event])), strict=True):
            assert (await sender.post(body, headers={"Content-Type": kind}))[0] == 200
        found = [(one.stream, one.fields) for one in await port.records()]
        assert found[0] == ("a/b/urn-dev-ow-10e2", {"in": 21.5, "unit": "Cel"})
        assert found[1] == ("a/b/urn-dev-ow-10e2", {"out": 12, "unit": "Cel"})
        assert found[2][0] == "a/b" and found[2][1]["t"] == 4
        unfit = {"Content-Type": "application/senml+json"}
        status, told = await sender.post('[{"v": 1}]', headers=unfit)
        assert (status, told["refused"][0]["code"]) == (422, "bad_senml")


EVENT = {
    "ce-specversion": "1.0", "ce-id": "7", "ce-source": "/s", "ce-type": "caf%C3%A9",
    "ce-time": "2026-06-01T10:00:00Z",
}  # fmt: skip
SAID = {"ce_id": "7", "ce_source": "/s", "ce_type": "café"}


@pytest.mark.parametrize(
    "kind, body, fields",
    [
        ("application/json; charset=utf-8", '{"t": 4}', {"t": 4}),
        ("application/vnd.x+json", "[1]", {"data": [1]}),
        ("application/json", '{"t": NaN, "s": "NaN"}', {"t": None, "s": "NaN"}),
        ("text/plain", "hi", {"data": "hi"}),
        ("text/plain", b"\xef\xbb\xbfhi", {"data": "hi"}),
        ("text/plain; charset=latin-1", b"21 \xb0C", {"data": b"21 \xb0C"}),
        ("application/octet-stream", b"\xff", {"data": b"\xff"}),
        ("application/json", "", {}),
    ],
)
async def test_an_event_in_binary_mode_has_its_attributes_as_headers(
    tmp_path: Path, kind: str, body: str | bytes, fields: dict[str, Any]
) -> None:
    async with serving(tmp_path) as port, poster(port) as sender:
        for _ in range(2):
            answer = await sender.post(body, headers={**EVENT, "Content-Type": kind})
            assert answer == (200, {"stored": 1, "refused": []})
        for found in await port.records():
            assert found.fields == fields | SAID
            assert found.time_ns == 1_780_308_000_000_000_000
        for wrong in ("{", '1, "id": "9"', "1NaN"):
            headers = {**EVENT, "Content-Type": "application/json"}
            status, told = await sender.post(wrong, headers=headers)
            assert status == 400 and "not JSON" in told["error"]["message"]


async def test_the_same_key_for_another_stream_is_another_key(tmp_path: Path) -> None:
    key = {**JSON, "Idempotency-Key": "1"}
    async with serving(tmp_path) as port, poster(port) as sender:
        for board in ("a/b", "a/c"):
            answer = await sender.post('{"t": 1}', f"/ingest/{board}", headers=key)
            assert answer == (200, {"stored": 1, "refused": []})
            # Its times are relative to now, so that it is another body.
            assert (await sender.post('{"t":  1}', f"/ingest/{board}", headers=key))[1]["repeated"]
        assert [one.stream for one in await port.records()] == ["a/b", "a/c"]


async def test_rules_are_applied(tmp_path: Path) -> None:
    rule = Rule(name="sane", streams=("a/*",), schema=Schema(ranges={"t": (0.0, 50.0)}))
    async with serving(tmp_path, rules=[rule]) as port, poster(port) as sender:
        status, told = await sender.post('[{"t": 1}, {"t": 99}]')
        assert (status, told["stored"], told["refused"][0]["code"]) == (200, 1, "bad_schema")


async def test_a_stop_answers_what_is_being_stored_and_lets_go_of_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, poster(port) as busy, poster(port) as idle:
        assert (await idle.post('{"t": 0}'))[0] == 200
        port.held.hold()
        async with trio.open_nursery() as nursery:

            async def post() -> None:
                assert (await busy.post('{"t": 1}'))[0] == 200
                assert busy.headers["connection"] == "close"

            nursery.start_soon(post)
            await eventually(lambda: port.held.began > 1, "a commit")
            port.server.stop()
            with trio.fail_after(PATIENCE_S):
                assert await idle.stream.receive_some(100) == b""
            port.held.let_go()


async def test_a_token_in_the_url_writes_if_it_was_made_for_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    secret = add_token(file, "plug", write=("shelly/**",), sources=("**",), in_url=True)
    other = add_token(file, "pump", write=("**",), sources=("**",))
    async with serving(tmp_path, tokens=file) as port:
        async with poster(port) as sender:
            assert (await sender.post('{"t": 1}', f"/token/{secret}/ingest/shelly/1"))[0] == 200
        async with connect(port, f"/token/{secret}/ingest/shelly/1?ack=1") as socket:
            await socket.send_message('{"t": 2}')
            with trio.fail_after(PATIENCE_S):
                assert await socket.get_message() == '{"ack": 1}'
        for wrong, path, status in (
            (secret, "/ingest/pump", 403), (other, "/ingest/shelly/1", 401), ("", "/ingest/a", 401),
            (secret, "/nowhere", 404), (secret, "", 404), (other, "/query", 401),
        ):  # fmt: skip
            async with raw(port) as stream:
                head = EMPTY.format(target=f"/token/{wrong}{path}")
                if not path.startswith("/ingest"):
                    head = UPGRADE.format(target=f"/token/{wrong}{path}")
                await stream.send_all(head.encode())
                answer = await receive_to_end(stream)
                assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (wrong, path, answer)
                assert secret.encode() not in answer
        told = list(port.server._parts.refused.listing())
        assert told and secret not in repr(told) and secret not in caplog.text
        assert await fields_of(port) == [{"t": 1}, {"t": 2}]


EMPTY = "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
UPGRADE = (
    "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("kind", ["application/x-ndjson", ""])
async def test_a_body_has_as_many_lines_as_a_message_records(tmp_path: Path, kind: str) -> None:
    limits = Limits(batch_records=5)
    async with neighbours(tmp_path, limits=limits) as (port, other), poster(port) as sender:
        status, told = await sender.post("1\n" * 5, headers={"Content-Type": kind})
        assert (status, told["stored"]) == (200, 5)
        status, told = await sender.post("1\n" * 6, headers={"Content-Type": kind})
        assert (status, told["error"]["code"]) == (413, "too_big_message")
        # A value over many lines is one.
        status, told = await sender.post("[\n1,\n2,\n3,\n\n\n\n\n4]", headers=JSON)
        assert (status, told["stored"]) == (200, 4)
        await other.is_served()


async def test_a_line_ends_where_json_says_so(tmp_path: Path) -> None:
    lines = '{"t":"a\u2028b"}\r\n\n{"t":"c\u0085d"}\n'
    async with serving(tmp_path) as port, poster(port) as sender:
        status, told = await sender.post(lines, headers={"Content-Type": "application/x-ndjson"})
        assert (status, told["stored"]) == (200, 2)
        assert await fields_of(port) == [{"t": "a\u2028b"}, {"t": "c\x85d"}]
