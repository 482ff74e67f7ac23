"""The HTTP sink and its lane, against real servers that answer as told."""

from __future__ import annotations

import gc
import gzip
import json
import random
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
import trio
import trustme
from msgspec import structs

from edge_agent.config import HttpTable
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward import Forwarder, make_sink
from edge_agent.forward.sink import Acknowledged, Batch
from edge_agent.forward.sinks.http.answer import HttpAnswer
from edge_agent.forward.sinks.http.sink import HttpSink
from edge_agent.store import Entry
from edge_agent.values.record import format_time
from tests.forward.http_upstream import Got, HttpUpstream, Reply, http_upstream
from tests.forward.support import (
    NOW_NS,
    Station,
    inline,
    make_run,
    parts_for,
    running_station,
    until,
    upstream,
)
from tests.forward.thinned import plain_block, thinned_block
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def sink_for(station: Station, url: str, **more: Any) -> HttpSink:
    return HttpSink(parts_for(station, upstream(url, **more)))


async def batch_of(station: Station, first: int = 1, last: int | None = None) -> Batch:
    items = tuple(await station.log.read("main", first - 1))
    return Batch("main", first, last or items[-1].last, items)


def forwarder_for(station: Station, url: str, **more: Any) -> Forwarder:
    config = upstream(url, **more)
    return Forwarder(
        config,
        station.log,
        lambda log: make_sink(
            config, log, identity=station.log.identity, clock=station.clock, run_blocking=inline
        ),
        clock=station.clock,
        dice=random.Random(1),
        metrics=station.metrics,
    )


async def test_method_content_type_and_template_are_as_configured(tmp_path: Path) -> None:
    form = HttpTable(
        method="PUT",
        content_type="application/vnd.x+json",
        template='{"n": {fields.n}, "id": {id}}',
        envelope='{"all": [{records}]}',
    )
    async with running_station(tmp_path / "a") as station, http_upstream() as server:
        await station.put(2)
        sink = sink_for(station, server.url, http=form, compression="none")
        batch = await batch_of(station)
        assert (await sink.send(batch)).records == 2
        assert (await sink.send(batch)).records == 2
        first, again = server.got
        assert (first.method, first.headers["content-type"]) == ("PUT", "application/vnd.x+json")
        epoch = station.log.identity.epoch
        told = [{"n": n, "id": f"{epoch}/main/{n + 1}"} for n in range(2)]
        assert json.loads(first.body) == {"all": told}
        assert (first.key, first.body) == (again.key, again.body)
        await sink.aclose()


async def test_cloudevents_go_under_their_own_content_type(tmp_path: Path) -> None:
    async with running_station(tmp_path / "a") as station, http_upstream() as server:
        await station.put(1)
        sink = sink_for(station, server.url, format="cloudevents", compression="none")
        await sink.send(await batch_of(station))
        (got,) = server.got
        assert got.headers["content-type"] == "application/cloudevents-batch+json"
        assert [event["data"] for event in json.loads(got.body)] == [{"n": 0}]
        await sink.aclose()


async def test_a_batch_is_one_post_under_its_key(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    async with running_station(tmp_path / "a") as station, http_upstream() as server:
        await station.put(3)
        sink = sink_for(station, server.url, token_file=str(token))
        assert (await sink.send(await batch_of(station, 1, 2))).upto == 2
        (got,) = server.got
        epoch = station.log.identity.epoch
        assert (got.method, got.target, got.key) == ("POST", "/in", f"{epoch}/main/1-2")
        assert got.headers["authorization"] == "Bearer s3cret"
        assert got.headers["content-type"] == "application/x-ndjson"
        assert [record["fields"]["n"] for record in got.records] == [0, 1]
        assert [record["id"] for record in got.records] == [f"{epoch}/main/{i}" for i in (1, 2)]
        await sink.aclose()


@pytest.mark.parametrize(
    "form, compression, kind",
    [
        ("ndjson", "none", "application/x-ndjson"),
        ("json", "gzip", "application/json"),
        ("msgpack", "zstd", "application/msgpack"),
    ],
)
async def test_each_format_says_what_it_is(
    tmp_path: Path, form: str, compression: str, kind: str
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(2)
        sink = sink_for(station, server.url, format=form, compression=compression)
        await sink.send(await batch_of(station))
        (got,) = server.got
        assert got.headers["content-type"] == kind
        assert got.headers.get("content-encoding", "none") == compression
        plain = got.body
        if compression == "gzip":
            plain = gzip.decompress(plain)
        elif compression == "zstd":
            plain = zstd.decompress(plain)
        if form == "ndjson":
            records = [msgspec.json.decode(line) for line in plain.splitlines()]
        else:
            records = msgspec.json.decode(plain) if form == "json" else msgpack.unpackb(plain)
        assert [record["fields"] for record in records] == [{"n": 0}, {"n": 1}]
        await sink.aclose()


async def test_a_range_without_a_wanted_record_is_done_without_a_request(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(2, stream="x")
        sink = sink_for(station, server.url, streams=("t/*",))
        assert await sink.send(await batch_of(station)) == Acknowledged(2)
        assert server.got == []


async def test_one_connection_serves_many_batches_and_the_token_is_read_anew(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    async with running_station(tmp_path / "a") as station, http_upstream() as server:
        await station.put(2)
        sink = sink_for(station, server.url, token_file=str(token))
        await sink.send(await batch_of(station, 1, 1))
        token.write_text("two")
        await sink.send(await batch_of(station, 2, 2))
        assert server.connections == 1
        assert [got.headers["authorization"] for got in server.got] == ["Bearer one", "Bearer two"]
        await sink.aclose()


async def test_a_captive_portal_does_not_acknowledge(tmp_path: Path) -> None:
    page = Reply(200, b"<html>Welcome to Grand Hotel", {"Content-Type": "text/html"})
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(1)
        server.script = [page]
        sink = sink_for(station, server.url)
        with pytest.raises(SinkUnavailable, match="portal"):
            await sink.send(await batch_of(station))
        await sink.aclose()


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(1)
        elsewhere = "http://portal.example/login?back=s3cret"
        server.script = [Reply(307, headers={"Location": elsewhere})]
        sink = sink_for(station, server.url)
        with pytest.raises(SinkUnavailable, match=r"http://portal\.example") as caught:
            await sink.send(await batch_of(station))
        assert len(server.got) == 1 and "s3cret" not in str(caught.value)
        await sink.aclose()


async def test_what_a_failed_attempt_was_answered_is_gone_with_it(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(3)
        sink = sink_for(station, server.url)
        batch = await batch_of(station)
        server.script = [
            Reply(200, b"<html>log in</html>", {"Content-Type": "text/html"}), Reply(400, b"no"),
            Reply(200, b"{", {"Content-Encoding": "gzip"}), Reply(503, b"later"),
        ]  # fmt: skip
        gc.collect()
        gc.disable()
        try:
            while server.script:
                with suppress(SinkUnavailable, SinkRefused):
                    await sink.send(batch)
                # Sixteen megabytes each, if it wants: they must not wait for a search for circles.
                held = [one for one in gc.get_objects() if isinstance(one, HttpAnswer)]
                assert not held
        finally:
            gc.enable()
        await sink.aclose()


async def test_an_answer_without_end_is_cut_and_does_not_acknowledge(tmp_path: Path) -> None:
    endless = Reply(200, b"[" + b"1," * 8_500_000 + b"1]", {"Content-Type": "application/json"})
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(2)
        server.script = [endless]
        sink = sink_for(station, server.url)
        with pytest.raises(SinkUnavailable, match=r"longer than 265,\d+ bytes") as caught:
            await sink.send(await batch_of(station))
        # A smaller batch may have a shorter answer.
        assert caught.value.halve
        await sink.aclose()


async def test_an_upstream_that_never_answers_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(1)
        server.hold = trio.Event()
        sink = sink_for(station, server.url, timeout=0.05)
        with pytest.raises(SinkUnavailable, match=r"within 0\.05 s"):
            await sink.send(await batch_of(station))
        await sink.aclose()


@pytest.mark.parametrize("template", [None, '{"f": {fields.a}}'])
async def test_a_record_that_the_format_cannot_say_is_refused_like_any_other(
    tmp_path: Path, template: str | None
) -> None:
    async with running_station(tmp_path) as station:
        # A map within it has a null for a key.
        run = structs.replace(make_run("t/1", 1), body=msgpack.packb({"a": {None: 1}}))
        await (await station.log.append(Entry(runs=(run,)))).wait()
        table = None if template is None else HttpTable(template=template)
        sink = sink_for(station, "http://127.0.0.1:1/", http=table)
        with pytest.raises(SinkRefused, match="cannot be written as ndjson"):
            await sink.send(await batch_of(station))


async def test_tls_with_our_own_ca_and_with_a_strangers(tmp_path: Path) -> None:
    ca, stranger = trustme.CA(), trustme.CA()
    for name, one in (("ca.pem", ca), ("stranger.pem", stranger)):
        one.cert_pem.write_to_path(str(tmp_path / name))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with running_station(tmp_path / "a") as station, http_upstream(context=context) as server:
        await station.put(1)
        url = server.url.replace("http:", "https:")
        good = sink_for(station, url, ca_file=str(tmp_path / "ca.pem"))
        assert (await good.send(await batch_of(station))).upto == 1
        await good.aclose()
        bad = sink_for(station, url, ca_file=str(tmp_path / "stranger.pem"))
        with pytest.raises(SinkUnavailable, match=r"(?i)certificate"):
            await bad.send(await batch_of(station))
        await bad.aclose()
        assert len(server.got) == 1


async def test_proxies_of_the_environment_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(1)
        sink = sink_for(station, server.url)
        assert (await sink.send(await batch_of(station))).upto == 1
        await sink.aclose()


# The whole way: log, lane, sink, server.


async def test_after_a_lost_answer_the_same_key_carries_the_same_bytes(tmp_path: Path) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        await station.put(5)
        server.script = [Reply(hang_up=True)]
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().records == 5)
            nursery.cancel_scope.cancel()
        first, second = server.got
        assert first.key == second.key and first.body == second.body


async def killed_before_the_answer(station: Station, server: HttpUpstream, **more: Any) -> None:
    """Start an agent's forwarder, and end it as a kill would when a request is out."""
    before = len(server.got)
    server.hold = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forwarder_for(station, server.url).run)
        await until(lambda: len(server.got) > before)
        nursery.cancel_scope.cancel()
    server.hold = None


async def test_after_a_kill_the_same_key_carries_the_same_bytes(tmp_path: Path) -> None:
    async with http_upstream() as server:
        async with running_station(tmp_path) as station:
            await station.put(5)
            await killed_before_the_answer(station, server)
            await station.put(5, start=5)
        # The same store, opened by another process.
        async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().records == 10)
            nursery.cancel_scope.cancel()
        lost, again, rest = server.got
        assert lost.key == again.key and lost.body == again.body
        assert rest.key.endswith("/6-10")


async def test_after_a_kill_while_halving_the_same_key_carries_the_same_bytes(
    tmp_path: Path,
) -> None:
    async with http_upstream() as server:
        async with running_station(tmp_path) as station:
            await station.put(8)

            def refuse_and_hold(_: Got) -> Reply:
                server.hold = trio.Event()
                return Reply(422)

            server.answer = refuse_and_hold
            async with trio.open_nursery() as nursery:
                nursery.start_soon(forwarder_for(station, server.url).run)
                await until(lambda: len(server.got) == 2)
                nursery.cancel_scope.cancel()
            server.hold, server.answer = None, lambda _: Reply()
        async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().records == 8)
            nursery.cancel_scope.cancel()
        keys = [got.key.rpartition("/")[2] for got in server.got]
        assert keys == ["1-8", "1-4", "1-4", "5-8"]
        assert server.got[1].body == server.got[2].body


def only_content(got: Got) -> Reply:
    bad = [record["seq"] for record in got.records if record["fields"]["n"] == 13]
    return Reply(422, f"n of {bad[0]} is unlucky".encode()) if bad else Reply(204)


async def test_a_bad_record_goes_to_quarantine_and_all_others_arrive_in_order(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = only_content
        taken: list[int] = []

        def take(got: Got) -> Reply:
            reply = only_content(got)
            if reply.status == 204:
                taken.extend(record["fields"]["n"] for record in got.records)
            return reply

        server.answer = take
        await station.put(30)
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().phase == "caught up" and taken)
            await until(lambda: forwarder.statistics().lanes[0].floor == 30)
            nursery.cancel_scope.cancel()
        assert taken == [n for n in range(30) if n != 13]
        ((_, aside),) = await station.log.quarantine(0, 9)
        assert "n of 14 is unlucky" in aside.reason
        assert forwarder.statistics().refused == 1


async def test_an_upstream_that_refuses_everything_loses_sixteen_records_at_most(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = lambda _: Reply(400, b"what is this?")
        await station.put(64)
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().phase == "stopped")
            nursery.cancel_scope.cancel()
        assert len(await station.log.quarantine(0, 99)) == 16
        assert forwarder.statistics().backlog_records == 48
        assert "what is this?" in forwarder.statistics().error


@pytest.mark.parametrize("status", [401, 404, 409])
async def test_any_other_4xx_keeps_everything_and_shows(tmp_path: Path, status: int) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = lambda _: Reply(status, b"ask your administrator")
        await station.put(4)
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url, backoff_max=1000.0)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().phase == "held")
            statistics = forwarder.statistics()
            assert statistics.obstacle == "there"
            assert f"HTTP {status}: ask your administrator" in statistics.error
            assert statistics.lanes[0].next_try_s > 400 and statistics.backlog_records == 4
            # A person has mended it; the signal saves the wait.
            server.answer = lambda _: Reply(204)
            forwarder.online()
            await until(lambda: forwarder.statistics().records == 4)
            nursery.cancel_scope.cancel()
        assert await station.log.quarantine(0, 9) == []


@pytest.mark.parametrize("asked", ["40", "Sun, 22 Nov 2026 10:00:40 GMT"])
@pytest.mark.parametrize("status", [429, 503])
async def test_an_upstream_may_ask_for_time(tmp_path: Path, status: int, asked: str) -> None:
    clock = ManualClock()
    async with running_station(tmp_path, clock=clock) as station, http_upstream() as server:
        server.answer = lambda _: Reply(status, headers={"Retry-After": asked})
        await station.put(1)
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().phase == "backing off")
            # Others were told the same, so each waits up to a tenth longer.
            assert 39 < forwarder.statistics().lanes[0].next_try_s <= 44.01
            nursery.cancel_scope.cancel()


async def test_a_clock_set_between_two_sends_changes_no_byte_under_the_same_key(
    tmp_path: Path,
) -> None:
    clock = ManualClock(7 * 10**9, synced=False)
    async with running_station(tmp_path, clock=clock) as station, http_upstream() as server:
        await station.arrive(3)
        server.answer = lambda _: Reply(hang_up=True)
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url, batch_records=3)
            nursery.start_soon(forwarder.run)
            await until(lambda: len(server.got) >= 1)
            clock.advance(60)
            clock.step_wall(NOW_NS, synced=True)
            await station.arrive(3)
            sent = len(server.got)
            await until(lambda: len(server.got) >= sent + 2)
            assert len({(got.key, got.body) for got in server.got}) == 1
            nursery.cancel_scope.cancel()
        # Nor does a new start, which knows better by then.
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url, batch_records=3)
            nursery.start_soon(forwarder.run)
            sent = len(server.got)
            await until(lambda: len(server.got) >= sent + 1)
            server.answer = lambda _: Reply(204)
            await until(lambda: forwarder.statistics().records == 6)
            nursery.cancel_scope.cancel()
        by_key = {got.key: got.body for got in server.got}
        assert len(by_key) == 2 == len({(got.key, got.body) for got in server.got})
        first, second = (
            next(got for got in server.got if got.key == key).records for key in by_key
        )
        assert [record["time_quality"] for record in first] == ["unsynced"] * 3
        assert {record["time"] for record in first} == {"1970-01-01T00:00:07Z"}
        assert [record["time_quality"] for record in second] == ["synced"] * 3


async def test_what_is_planned_once_the_clock_is_set_goes_out_corrected(tmp_path: Path) -> None:
    clock = ManualClock(7 * 10**9, synced=False)
    async with running_station(tmp_path, clock=clock) as station, http_upstream() as server:
        await station.arrive(2)
        clock.advance(60)
        clock.step_wall(NOW_NS, synced=True)
        await station.arrive(1)
        async with trio.open_nursery() as nursery:
            forwarder = forwarder_for(station, server.url)
            nursery.start_soon(forwarder.run)
            await until(lambda: forwarder.statistics().records == 3)
            nursery.cancel_scope.cancel()
        told = [(record["time"], record["time_quality"]) for record in server.got[0].records]
        then, now = format_time(NOW_NS - 60 * 10**9), format_time(NOW_NS)
        assert told == [(then, "corrected"), (then, "corrected"), (now, "synced")]


async def test_a_range_whose_records_were_thinned_since_is_another_batch(tmp_path: Path) -> None:
    """A key stands for bytes: the answer to the first one may have been lost."""
    runs = (make_run("t/1", 4), make_run("t/2", 6, 4))
    async with running_station(tmp_path) as station, http_upstream() as server:
        sink = sink_for(station, server.url, compression="none")
        before = Batch("main", 11, 20, (plain_block(11, *runs),))
        after = Batch("main", 11, 20, (thinned_block(11, *runs),))
        for batch in (before, after, after):
            assert (await sink.send(batch)).upto == 20
        first, second, third = server.got
        assert first.key.endswith("/main/11-20")
        assert second.key == first.key + "/thinned-10"
        assert (second.key, second.body) == (third.key, third.body)
        ids = {json.loads(line)["id"] for got in (first, second) for line in got.body.splitlines()}
        assert len(ids) == 12
        await sink.aclose()


# What counts as taken, over the whole way.


@asynccontextmanager
async def forwarded(station: Station, url: str, **more: Any) -> AsyncIterator[Forwarder]:
    async with trio.open_nursery() as nursery:
        forwarder = forwarder_for(station, url, **more)
        nursery.start_soon(forwarder.run)
        yield forwarder
        nursery.cancel_scope.cancel()


JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"ok", PLAIN),
        Reply(200, b'\xef\xbb\xbf{"taken": 5}', JSON),
        Reply(207, b'{"results": []}', JSON),
        Reply(201),
        Reply(202, b'{"id": 7}', JSON),
    ],
)
async def test_what_apis_answer_is_taken_and_each_record_arrives_once(
    tmp_path: Path, reply: Reply
) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = lambda _: reply
        await station.put(5)
        async with forwarded(station, server.url) as forwarder:
            await until(lambda: forwarder.statistics().records == 5)
        assert [record["seq"] for record in server.got[0].records] == [1, 2, 3, 4, 5]
        assert len(server.got) == 1


async def test_an_answer_with_a_long_result_for_each_of_5000_records_is_taken(
    tmp_path: Path,
) -> None:
    def answer(got: Got) -> Reply:
        items = [
            {"create": {"_id": r["id"], "status": 201, "note": "x" * 900}} for r in got.records
        ]
        return Reply(200, json.dumps({"errors": False, "items": items}).encode(), JSON)

    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = answer
        await station.put(5000)
        async with forwarded(station, server.url) as forwarder:
            await until(lambda: forwarder.statistics().records == 5000, seconds=PATIENCE_S)
        assert sum(len(got.records) for got in server.got) == 5000


async def test_records_that_a_200_refuses_go_to_quarantine_and_are_not_counted(
    tmp_path: Path,
) -> None:
    def answer(got: Got) -> Reply:
        items: list[Any] = [{"index": {"status": 201}} for _ in got.records]
        for place, record in enumerate(got.records):
            if record["fields"]["n"] in (2, 5):
                error = {"type": "mapper_parsing_exception", "reason": "n is unlucky"}
                items[place] = {"index": {"status": 400, "error": error}}
        failed = any("error" in item["index"] for item in items)
        return Reply(200, json.dumps({"errors": failed, "items": items}).encode(), JSON)

    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = answer
        await station.put(8)
        async with forwarded(station, server.url) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].floor == 8)
            statistics = forwarder.statistics()
        aside = [entry for _, entry in await station.log.quarantine(0, 9)]
        assert [msgpack.unpackb(entry.body)["n"] for entry in aside] == [2, 5]
        assert all("n is unlucky" in entry.reason for entry in aside)
        assert statistics.refused == 2


async def test_records_that_a_200_wants_later_are_sent_until_they_are_taken(
    tmp_path: Path,
) -> None:
    busy = 3

    def answer(got: Got) -> Reply:
        nonlocal busy
        busy -= 1
        status = 429 if busy >= 0 else 201
        items = [{"index": {"status": status if r["seq"] == 3 else 201}} for r in got.records]
        body = {"errors": status == 429, "items": items}
        return Reply(200, json.dumps(body).encode(), JSON)

    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = answer
        await station.put(4)
        async with forwarded(station, server.url) as forwarder:
            await until(lambda: forwarder.statistics().lanes[0].floor == 4)
        assert await station.log.quarantine(0, 9) == []
        taken = [record["seq"] for got in server.got[3:] for record in got.records]
        assert sorted(set(taken)) == [1, 2, 3, 4] or len(server.got) > 4


@pytest.mark.parametrize(
    "body",
    [
        b'{"errors": true}',
        b'{"success": false}',
        b'{"status": "error", "message": "no database"}',
        b'{"FailedRecordCount": 2}',
        b'{"data": null, "errors": [{"message": "no"}]}',
    ],
)
async def test_a_200_that_says_that_it_failed_is_never_counted(tmp_path: Path, body: bytes) -> None:
    async with running_station(tmp_path) as station, http_upstream() as server:
        server.answer = lambda _: Reply(200, body, JSON)
        await station.put(4)
        async with forwarded(station, server.url) as forwarder:
            await until(lambda: forwarder.statistics().error)
            statistics = forwarder.statistics()
            assert statistics.records == 0 and statistics.backlog_records == 4
            assert "says that something failed" in statistics.error
            server.answer = lambda _: Reply(200, b"{}", JSON)
            await until(lambda: forwarder.statistics().records == 4)
        assert await station.log.quarantine(0, 9) == []


async def test_a_secret_that_the_answer_repeats_is_not_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret-token")
    async with running_station(tmp_path / "a") as station, http_upstream() as server:
        await station.put(1)
        server.answer = lambda got: Reply(401, b"bad " + got.headers["authorization"].encode())
        sink = sink_for(station, server.url, token_file=str(token))
        with pytest.raises(SinkUnavailable, match=r"bad Bearer \.\.\.") as caught:
            await sink.send(await batch_of(station))
        assert "s3cret" not in str(caught.value)
        await sink.aclose()


async def test_a_body_is_refused_by_its_head_before_all_of_it_was_sent(tmp_path: Path) -> None:
    async def early(stream: trio.SocketStream) -> None:
        await stream.receive_some(1024)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, early, listeners)
        await station.put(150_000)
        sink = sink_for(station, f"http://127.0.0.1:{port}/", compression="none")
        with pytest.raises(SinkRefused, match="413: no!") as caught:
            await sink.send(await batch_of(station))
        assert caught.value.code == "too_big"
        await sink.aclose()
        nursery.cancel_scope.cancel()


async def test_a_second_answer_is_not_taken_for_the_next_batchs(tmp_path: Path) -> None:
    connections = 0

    async def twice(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        answer = b"HTTP/1.1 204 A\r\n\r\nHTTP/1.1 204 B\r\n\r\n"
        if connections > 1:
            answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        async with stream:
            # Hung up on with something unread, as it is.
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some(65536):
                    await stream.send_all(answer)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, twice, listeners)
        await station.put(2)
        sink = sink_for(station, f"http://127.0.0.1:{port}/")
        assert (await sink.send(await batch_of(station, 1, 1))).upto == 1
        with pytest.raises(SinkUnavailable, match="HTTP 500"):
            await sink.send(await batch_of(station, 2, 2))
        await sink.aclose()
        nursery.cancel_scope.cancel()
