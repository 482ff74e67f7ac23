"""Each test drives the sink against a real nats-server; `tests/forward/contract.py` has what all
sinks promise."""

from __future__ import annotations

import random
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from msgspec import structs

from edge_agent.config import Duration, NatsTable, Upstream
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.sink import Batch, LaneResume, Part
from edge_agent.forward.sinks.nats.connection import NatsConnection
from edge_agent.forward.sinks.nats.jetstream import BATCH, OPENING, InStream, fast_reply
from edge_agent.forward.sinks.nats.protocol import publish
from edge_agent.forward.sinks.nats.sink import NatsSink, probe
from edge_agent.store import Entry
from tests.forward.contract import Courier, sink_for
from tests.forward.sinks.nats.server import NatsServer, Reader, nats_server
from tests.forward.support import Station, make_run, parts_for, running_station, until, upstream
from tests.forward.thinned import THIN
from tests.forward.thinned import fill as fill_and_thin
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S


@asynccontextmanager
async def courier_to(
    server: NatsServer, tmp_path: Path, count: int = 6, **options: Any
) -> AsyncIterator[Courier]:
    """Six records, each a block of its own, and a sink for them."""
    async with running_station(tmp_path / "near") as station:
        for n in range(count):
            await station.put(1, start=n, stream=f"t/{n % 2}")
        courier = Courier(station, sink_for(station, server.url, options))
        try:
            yield courier
        finally:
            await courier.sink.aclose()


def stored(server: NatsServer, stream: str = "EDGE") -> list[int]:
    with Reader(server.port) as reader:
        return [one["fields"]["n"] for one in reader.records(stream)]


OTHERS = b'{"fields":{"n":-1}}\n'


async def whole(courier: Courier, first: int, last: int, **more: Any) -> Batch:
    items = await courier.station.log.read("main", first - 1, 1 << 20)
    return replace(Batch("main", first, last, tuple(items)), **more)


@asynccontextmanager
async def opened(courier: Courier) -> AsyncIterator[NatsSink]:
    sink = courier.sink
    assert isinstance(sink, NatsSink)
    async with trio.open_nursery() as nursery:
        await sink.open(nursery, LaneResume(0, 1, 6, None))
        yield sink
        nursery.cancel_scope.cancel()
    await sink.aclose()


async def test_the_stream_is_made_and_says_what_it_has_when_the_floor_is_lost(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path) as server:
        async with courier_to(server, tmp_path) as courier:
            await courier.deliver(4)
            courier.floor = 0  # As after a power cut before the position was durable.
            async with opened(courier) as sink:
                answer = await sink.send(await whole(courier, 1, 6))
                assert (answer.upto, answer.records) == (6, 2)
            assert stored(server) == [0, 1, 2, 3, 4, 5]


async def test_a_stream_that_has_more_than_was_ever_given_out_tells_that_the_store_was_set_back(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path / "far") as server:
        async with courier_to(server, tmp_path) as courier:
            await courier.deliver(6)
            cases: list[tuple[int, Part, bool]] = [
                (6, "live", False), (4, "live", True), (4, "resend", False),
            ]  # fmt: skip
            for last, part, told in cases:
                async with trio.open_nursery() as nursery:
                    resume = LaneResume(4, 1, last, None, part=part)
                    resumed = await courier.sink.open(nursery, resume)
                    await courier.sink.aclose()
                assert (resumed.next, "never here" in resumed.forked) == (5, told)
            # With an identity of its own it sends what nobody has acknowledged to it.
            ours = courier.station.log.identity
            other = replace(ours, epoch="f" * len(ours.epoch))
            async with trio.open_nursery() as nursery:
                again = LaneResume(4, 1, 5, None, other)
                assert not (await courier.sink.open(nursery, again)).forked
                answer = await courier.sink.send(await whole(courier, 5, 5))
                assert answer.records == 1
                nursery.cancel_scope.cancel()


async def filled(near: Path, server: NatsServer, *starts: int) -> tuple[int, int]:
    """Open the store, put ten records from each number on, and send all: how often it was found to
    be a copy, and its last seq.
    """
    async with running_station(near) as station:
        async with draining(station, upstream(server.url, timeout=PATIENCE_S)) as lane:
            for start in starts:
                last = await station.put(10, start=start)
            await until(partial(reached, lane, last))
        copied = station.engine.identity.copied
        return copied.times if copied else 0, station.log.last_seq("main")


@pytest.mark.parametrize("offered", ["allow_batched", "allow_atomic", ""])
async def test_a_store_that_was_set_back_and_has_more_than_before_is_noticed_and_loses_nothing(
    tmp_path: Path, offered: str
) -> None:
    near, image = tmp_path / "near", tmp_path / "image"
    with nats_server(tmp_path / "far") as server:
        made(server, **{offered: True} if offered else {})
        await filled(near, server, 0)
        shutil.copytree(near, image)
        assert await filled(near, server, 100, 110) == (0, 30)
        shutil.rmtree(near)
        shutil.copytree(image, near)
        async with running_station(near) as station:  # And is filled where nobody can be asked.
            for start in range(200, 300, 10):
                await station.put(10, start=start)
        assert await filled(near, server, 300) == (1, 120)
        assert await filled(near, server, 310) == (1, 130)
        there = stored(server)
        assert {*there} == {*range(10), *range(100, 120), *range(200, 320)}
        # What was sent before the image was made, it may have without knowing that it arrived.
        assert [n for n in there if n >= 100] == [*range(100, 120), *range(200, 320)]


async def test_a_copy_that_runs_beside_the_original_is_noticed_while_both_send(
    tmp_path: Path,
) -> None:
    near, image = tmp_path / "near", tmp_path / "image"
    with nats_server(tmp_path / "far") as server:
        await filled(near, server, 0)
        shutil.copytree(near, image)
        up = upstream(server.url, timeout=PATIENCE_S)
        async with (
            running_station(near) as first,
            running_station(image) as second,
            draining(first, up) as lane,
            draining(second, up) as other,
        ):
            await first.put(10, start=100)
            await until(partial(reached, lane, 20))
            for start in range(200, 230, 10):  # Ten of these would be known by their numbers.
                await second.put(10, start=start)
            await until(partial(reached, other, 40))
            assert second.engine.identity.copied and not first.engine.identity.copied
            await first.put(10, start=110)
            await until(partial(reached, lane, 30))
        assert {*stored(server)} == {*range(10), *range(100, 120), *range(200, 230)}


async def test_no_restart_makes_a_store_another_one(tmp_path: Path) -> None:
    """Whatever the floor is and how long ago: killed, made anew, 40 times without an answer."""
    near = tmp_path / "near"
    with nats_server(tmp_path / "far") as server:
        for turn in range(3):
            assert await filled(near, server, turn * 10) == (0, turn * 10 + 10)
        for openings in range(1, 43):
            async with running_station(near) as station:
                if openings > 38 or openings in (1, 2, 20):
                    sink = sink_for(station, server.url, {})
                    for floor in (0, 25, 30):
                        async with trio.open_nursery() as nursery:
                            resumed = await sink.open(nursery, LaneResume(floor, 1, 30, None))
                            await sink.aclose()
                        assert not resumed.forked
        assert await filled(near, server, 30) == (0, 40)
        assert stored(server) == [*range(40)]


async def test_messages_of_an_older_version_are_taken_at_their_word(tmp_path: Path) -> None:
    with nats_server(tmp_path / "far") as server:
        async with courier_to(server, tmp_path) as courier:
            identity = courier.station.log.identity
            there = InStream(0, identity.epoch, "main", 0, 4)
            with Reader(server.port) as reader:
                made(server)
                body = b"".join(b'{"fields":{"n":%d}}\n' % n for n in range(4))
                subject = f"edge.{identity.agent_id}.main".encode()
                to = b"_INBOX.reader"
                reader.say(publish(subject, body, there.headers(), to))
            async with opened(courier) as sink:
                assert (await sink.send(await whole(courier, 1, 6))).records == 2
            assert stored(server) == [0, 1, 2, 3, 4, 5]
            with Reader(server.port) as reader:
                got = reader.ask("$JS.API.STREAM.MSG.GET.EDGE", {"seq": 2})["message"]
            headers = b64decode(got["hdrs"]).decode()
            assert f"{OPENING}: {identity.opening}\r\n" in headers


async def test_what_is_sent_once_more_does_not_hide_that_the_stream_is_of_another_history(
    tmp_path: Path,
) -> None:
    """It says again up to where the log was there, and so whose that was."""
    near, image = tmp_path / "near", tmp_path / "image"
    with nats_server(tmp_path / "far") as server:
        await filled(near, server, 0)
        shutil.copytree(near, image)
        await filled(near, server, 100, 110)
        async with running_station(image) as station:
            for start in range(200, 250, 10):
                await station.put(10, start=start)
            courier = Courier(station, sink_for(station, server.url, {}))
            cases: list[tuple[Part, dict[str, int], bool]] = [
                ("resend", {"resent": 1}, False),
                ("resend", {"again": 3}, False),
                ("live", {}, True),
            ]
            for part, more, forked in cases:
                async with trio.open_nursery() as nursery:
                    resume = LaneResume(10, 1, 60, None, part=part)
                    assert bool((await courier.sink.open(nursery, resume)).forked) is forked
                    if more:
                        await courier.sink.send(await whole(courier, 1, 10, **more))
                    await courier.sink.aclose()


@pytest.mark.parametrize(
    "offered, said", [("allow_batched", BATCH), ("allow_atomic", "Nats-Batch-Id"), ("", "")]
)
async def test_several_messages_are_stored_in_order_in_whatever_way_a_stream_takes_them(
    tmp_path: Path, offered: str, said: str
) -> None:
    with nats_server(tmp_path) as server:
        made(server, **{offered: True} if offered else {})
        options = {"nats": {"message_records": 2, "subject": "edge.{agent}.{log}.{stream}"}}
        async with courier_to(server, tmp_path, **nats_options(options)) as courier:
            async with opened(courier) as sink:
                assert (await sink.send(await whole(courier, 1, 6))).records == 6
                assert (await sink.send(await whole(courier, 1, 6))).records == 0
            assert stored(server) == [0, 1, 2, 3, 4, 5]
        with Reader(server.port) as reader:
            got = reader.ask("$JS.API.STREAM.MSG.GET.EDGE", {"seq": 2})["message"]
            assert got["subject"].endswith(".main.t.1")
            headers = b64decode(got["hdrs"]).decode()
            assert [one for one in (BATCH, "Nats-Batch-Id") if one in headers] == [said] * bool(
                said
            )


def made(server: NatsServer, **more: Any) -> None:
    """The stream, as somebody else made it."""
    with Reader(server.port) as reader:
        config = {"name": "EDGE", "subjects": ["edge.>"], "allow_direct": True, **more}
        assert "error" not in reader.ask("$JS.API.STREAM.CREATE.EDGE", config)


async def test_a_chain_that_somebody_else_comes_into_is_taken_up_where_it_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chains: list[int] = []
    send = NatsConnection.send

    async def disturbed(self: NatsConnection, data: bytes) -> None:
        if count := data.count(b"HPUB edge."):
            chains.append(count)
        if len(chains) == 1:
            # Before the fifth of them somebody else says something.
            *first, rest = data.split(b"HPUB edge.", 5)
            data = b"HPUB edge.".join(first) + publish(b"edge.other", OTHERS) + b"HPUB edge." + rest
        await send(self, data)

    with nats_server(tmp_path) as server:
        made(server)
        options = nats_options({"nats": {"message_records": 1}})
        async with courier_to(server, tmp_path, 40, **options) as courier, opened(courier) as sink:
            monkeypatch.setattr(NatsConnection, "send", disturbed)
            assert (await sink.send(await whole(courier, 1, 40))).records == 40
        # 16, of which four got in; then as many as did, and twice as many each time.
        assert chains == [16, 4, 8, 16, 8]
        assert [n for n in stored(server) if n >= 0] == list(range(40))


async def test_what_is_left_of_a_fast_batch_comes_late_and_is_not_stored(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        made(server, allow_batched=True, duplicate_window=100_000_000)
        async with courier_to(server, tmp_path) as courier:
            identity = courier.station.log.identity
            subject = f"edge.{identity.agent_id}.main"

            def of_old(n: int) -> bytes:
                """A message as an earlier connection, or life, of this agent has sent it."""
                there = InStream(0, identity.epoch, "main", 0, n)
                headers = [*there.headers(), (BATCH, "old")]
                if n == 1:
                    headers.append(("Nats-Expected-Last-Subject-Sequence", "0"))
                body = b'{"fields":{"n":%d}}\n' % (n - 1)
                to = fast_reply(b"_INBOX.reader.old", n, is_last=False)
                return publish(subject.encode(), body, headers, to)

            with Reader(server.port) as late:
                assert b'"type":"ack"' in late.say(of_old(1) + of_old(2))
                async with opened(courier) as sink:
                    assert (await sink.send(await whole(courier, 1, 4))).records == 2
                    assert b"10208" in late.say(of_old(3))
                    assert (await sink.send(await whole(courier, 5, 6))).records == 2
            assert stored(server) == [0, 1, 2, 3, 4, 5]


async def test_a_fast_batch_that_ends_before_its_end_goes_on_where_it_ended(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path) as server:
        limits = {"max_msgs": 4, "discard": "new"}
        made(server, allow_batched=True, **limits)
        options = nats_options({"nats": {"message_records": 1}})
        async with courier_to(server, tmp_path, **options) as courier:
            async with opened(courier) as sink:
                with pytest.raises(SinkUnavailable, match="maximum messages exceeded"):
                    await sink.send(await whole(courier, 1, 6))
            assert stored(server) == [0, 1, 2, 3]
            with Reader(server.port) as reader:
                config = reader.ask("$JS.API.STREAM.INFO.EDGE")["config"]
                reader.ask("$JS.API.STREAM.UPDATE.EDGE", config | {"max_msgs": -1})
            async with opened(courier) as sink:
                assert (await sink.send(await whole(courier, 1, 6))).records == 2
            assert stored(server) == [0, 1, 2, 3, 4, 5]


def nats_options(options: dict[str, Any]) -> dict[str, Any]:
    return options | {"nats": NatsTable(**options["nats"])}


async def test_a_late_message_of_an_earlier_connection_is_noticed_and_not_doubled(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path) as server:
        async with (
            courier_to(server, tmp_path) as courier,
            opened(courier) as old,
            trio.open_nursery() as nursery,
        ):
            new = sink_for(courier.station, server.url, {})
            await new.open(nursery, LaneResume(0, 1, 6, None))
            await old.send(await whole(courier, 1, 3))
            # It looked before that came, and finds out as it sends.
            assert (await new.send(await whole(courier, 1, 6))).records == 3
            await new.aclose()
            nursery.cancel_scope.cancel()
        assert stored(server) == [0, 1, 2, 3, 4, 5]


async def test_what_a_person_orders_again_goes_again_and_does_not_move_the_position(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path) as server:
        async with courier_to(server, tmp_path) as courier:
            async with opened(courier) as sink:
                await sink.send(await whole(courier, 1, 3))
                assert (await sink.send(await whole(courier, 2, 2, again=5))).records == 1
            async with opened(courier) as sink:
                assert (await sink.send(await whole(courier, 1, 6))).records == 3
                assert (await sink.send(await whole(courier, 5, 6, moves=1))).records == 2
            assert stored(server) == [0, 1, 2, 1, 3, 4, 5, 4, 5]


async def test_a_record_that_is_too_large_is_named_and_the_others_are_stored(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path, more="max_payload: 4096") as server:
        async with courier_to(server, tmp_path, 2) as courier:
            body = msgpack.packb({"n": 2, "pad": "x" * 5000})
            run = structs.replace(make_run("t/1", 1, 2), body=body)
            await (await courier.station.log.append(Entry(runs=(run,)))).wait()
            await courier.station.put(1, start=3)
            async with opened(courier) as sink:
                with pytest.raises(SinkRefused, match="record 3: too large") as caught:
                    await sink.send(await whole(courier, 1, 4))
                assert caught.value.code == "too_big"
                assert list(caught.value.records) == [3]
            assert stored(server) == [0, 1, 3]


async def test_a_full_stream_is_no_acknowledgement(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        made(server, max_msgs=2, discard="new", allow_atomic=True)
        async with courier_to(server, tmp_path) as courier:
            with pytest.raises(ExceptionGroup) as caught:
                await courier.deliver(6)
            assert caught.group_contains(SinkUnavailable, match="maximum messages exceeded")
            assert courier.floor == 2 and stored(server) == [0, 1]


async def test_a_consumer_that_takes_messages_away_holds_nothing_up(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        async with courier_to(server, tmp_path) as courier, opened(courier) as sink:
            await sink.send(await whole(courier, 1, 3))
            with Reader(server.port) as reader:
                reader.ask("$JS.API.STREAM.PURGE.EDGE")
            assert (await sink.send(await whole(courier, 4, 6))).upto == 6
            assert stored(server) == [3, 4, 5]


@pytest.mark.parametrize(
    "more, options, said, slow",
    [
        ('authorization {token: "secret"}', {}, "Authorization Violation", True),
        ("", {"nats": {"create": False}}, "there is no stream EDGE", True),
        ('accounts {A: {users: [{user: a}]}}\nno_auth_user: "a"', {}, "not enabled", True),
    ],
)
async def test_what_only_a_person_can_change_is_told_as_what_it_is(
    tmp_path: Path, more: str, options: dict[str, Any], said: str, slow: bool
) -> None:
    with nats_server(tmp_path, more=more) as server:
        options = nats_options(options) if options else {}
        async with courier_to(server, tmp_path, **options) as courier:
            with pytest.raises(ExceptionGroup) as caught:
                await courier.deliver(1)
            (error,) = found(caught.value)
            assert said in str(error) and error.slow is slow


def found(group: BaseExceptionGroup[Any]) -> list[SinkUnavailable]:
    inner = group.exceptions[0]
    return found(inner) if isinstance(inner, BaseExceptionGroup) else [inner]


async def test_who_we_are_is_told_to_the_server(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("geheim\n")
    with nats_server(tmp_path, more='authorization {user: "pi", password: "geheim"}') as server:
        options: dict[str, Any] = {"user": "pi", "password_file": str(secret)}
        async with courier_to(server, tmp_path, **options) as courier:
            await courier.deliver(2)
        with Reader(server.port, user="pi", **{"pass": "geheim"}) as reader:
            assert [one["fields"]["n"] for one in reader.records()] == [0, 1]


@pytest.mark.parametrize("offered", ["allow_batched", "allow_atomic", ""])
async def test_ten_kills_of_the_server_lose_nothing_and_double_nothing(
    tmp_path: Path, offered: str
) -> None:
    """The duplicate window is so short that it cannot be what keeps repeats out."""
    count, server = 30_000, NatsServer(tmp_path / "far")
    server.start()
    dice = random.Random(7)
    try:
        made(server, duplicate_window=100_000_000, **{offered: True} if offered else {})
        async with running_station(tmp_path / "near") as station:
            await fill(station, count)
            up = upstream(server.url, batch_records=500, timeout=PATIENCE_S)
            async with draining(station, up) as lane:
                for kill in range(1, 11):
                    goal = count * kill // 11
                    await until(partial(reached, lane, goal))
                    await trio.sleep(dice.uniform(0, 0.02))
                    await trio.to_thread.run_sync(server.kill)
                    await trio.to_thread.run_sync(server.start)
                await until(partial(reached, lane, count))
        assert stored(server) == list(range(count))
    finally:
        server.kill()


def reached(lane: Lane, goal: int) -> bool:
    return lane.statistics().floor >= goal


async def fill(station: Station, count: int) -> None:
    for start in range(0, count, 500):
        await station.put(500, start=start)


@asynccontextmanager
async def draining(station: Station, up: Upstream) -> AsyncIterator[Lane]:
    sink = sink_for(station, up.url, {"batch_records": up.batch_records})
    lane = Lane(
        up, station.log, "main", sink, clock=station.clock, dice=random.Random(1),
        metrics=station.metrics,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lane.run)
        yield lane
        nursery.cancel_scope.cancel()


async def test_trying_one_out_tells_a_stream_that_takes_other_subjects(tmp_path: Path) -> None:
    with nats_server(tmp_path / "far") as server:
        async with running_station(tmp_path / "near") as station:
            for subject, good in (("edge.{agent}.{log}", True), ("plant.{agent}.{log}", False)):
                given = upstream(server.url, timeout=PATIENCE_S, nats=NatsTable(subject=subject))
                opening, step = await probe(parts_for(station, given), 100)
                assert (opening.good, step.good) == (True, good)
            assert "the stream EDGE takes edge.*.*, and not plant." in step.told


async def test_thinned_blocks_old_records_and_orders_make_no_store_another_one(
    tmp_path: Path,
) -> None:
    near, clock = tmp_path / "near", ManualClock()

    @asynccontextmanager
    async def station_opened() -> AsyncIterator[Station]:
        async with running_station(near, settings=THIN, clock=clock) as station:
            yield station
            assert station.engine.identity.copied is None

    with nats_server(tmp_path / "far") as server:
        up = upstream(server.url, timeout=PATIENCE_S)
        async with station_opened() as station:
            await fill_and_thin(station)
            last = station.log.last_seq("main")
            async with draining(station, up) as lane:
                await until(partial(reached, lane, last))
        # Nobody knows what arrived of it, and some is sent once more by order.
        async with station_opened() as station:
            sink = sink_for(station, server.url, {})
            items = tuple(await station.log.read("main", 0, 1 << 20))[:3]
            again = Batch("main", items[0].first, items[-1].last, items, resent=1)
            parts: tuple[Part, ...] = ("live", "resend", "live")
            for part in parts:
                async with trio.open_nursery() as nursery:
                    resume = LaneResume(0, 1, last, None, part=part)
                    assert not (await sink.open(nursery, resume)).forked
                    if part == "resend":
                        assert (await sink.send(again)).records
                    await sink.aclose()
        # What came meanwhile is too old to be sent.
        async with station_opened() as station:
            for n in range(20):
                await station.arrive(60, start=n)
            clock.advance(7200.0)
            old = upstream(server.url, timeout=PATIENCE_S, max_age=Duration(3600))
            async with draining(station, old) as lane:
                await station.arrive(1)
                await until(partial(reached, lane, last + 20 * 60 + 1))
        async with station_opened() as station, draining(station, up) as lane:
            await station.arrive(1)
            await until(partial(reached, lane, last + 20 * 60 + 2))
        with Reader(server.port) as reader:
            seqs = {one["seq"] for one in reader.records()}
        assert {seq for seq in seqs if seq > last} == {last + 20 * 60 + 1, last + 20 * 60 + 2}
