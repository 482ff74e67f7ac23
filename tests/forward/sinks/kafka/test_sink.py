"""The sink against librdkafka's own mock cluster, and where only that will do a real broker."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from msgspec import structs

from edge_agent.config import KafkaTable
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward import make_sink
from edge_agent.forward.sink import Batch, LaneResume
from edge_agent.forward.sinks.kafka.settings import settings_of
from edge_agent.forward.sinks.kafka.sink import KafkaSink, probe
from edge_agent.store import Entry
from tests.forward.contract import sink_for
from tests.forward.sinks.kafka.broker import kafka_broker, make_topic, messages
from tests.forward.support import (
    Station,
    inline,
    make_run,
    parts_for,
    running_station,
    upstream,
)
from tests.patience import eventually

MOCK = {"test.mock.num.brokers": 3}


def told(monkeypatch: pytest.MonkeyPatch, **more: object) -> None:
    """Let librdkafka be told more than an upstream can say."""
    monkeypatch.setattr(
        "edge_agent.forward.sinks.kafka.sink.settings_of",
        lambda *one: settings_of(*one) | MOCK | more,
    )


@asynccontextmanager
async def opened(station: Station, url: str, **options: Any) -> AsyncIterator[KafkaSink]:
    sink = sink_for(station, url, {"compression": "none", **options})
    assert isinstance(sink, KafkaSink)
    async with trio.open_nursery() as nursery:
        await sink.open(nursery, LaneResume(0, 1, 6, None))
        try:
            yield sink
        finally:
            await sink.aclose()


async def batch_of(station: Station, first: int, last: int) -> Batch:
    return Batch("main", first, last, tuple(await station.log.read("main", first - 1, 1 << 20)))


async def put_large(station: Station, n: int, size: int) -> None:
    run = structs.replace(make_run("t/1", 1), body=msgpack.packb({"n": n, "pad": "x" * size}))
    await (await station.log.append(Entry(runs=(run,)))).wait()


async def test_every_report_counts_and_the_whole_batch_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch)
    async with running_station(tmp_path) as station:
        await station.put(2000)
        async with opened(station, "kafka://mock") as sink:
            answer = await sink.send(await batch_of(station, 1, 2000))
            assert (answer.upto, answer.records) == (2000, 2000) and answer.size > 2000 * 100
            assert (await sink.send(await batch_of(station, 7, 9))).records == 3


async def test_a_message_says_who_it_is_and_its_key_keeps_streams_in_order(tmp_path: Path) -> None:
    with kafka_broker(tmp_path / "far") as port:
        await trio.to_thread.run_sync(make_topic, port, "plant")
        async with running_station(tmp_path / "near") as station:
            await station.put(2, stream="t/2")
            epoch = station.log.identity.epoch
            options = {"kafka": KafkaTable(topic="plant"), "format": "json", "compression": "gzip"}
            async with opened(station, f"kafka://127.0.0.1:{port}", **options) as sink:
                await sink.send(await batch_of(station, 1, 2))
        found = await trio.to_thread.run_sync(messages, port, "plant")
    assert [one.headers() for one in found] == [
        [("id", f"{epoch}/main/{seq}".encode())] for seq in (1, 2)
    ]
    assert {one.key() for one in found} == {b"t/2"}
    assert [json.loads(one.value() or b"")["fields"] for one in found] == [{"n": 0}, {"n": 1}]


async def test_a_record_that_is_too_large_is_named_and_the_others_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, **{"message.max.bytes": 2000})
    async with running_station(tmp_path) as station:
        await station.put(2)
        await put_large(station, 3, 5000)
        await station.put(1)
        async with opened(station, "kafka://mock") as sink:
            with pytest.raises(SinkRefused, match="MSG_SIZE_TOO_LARGE") as caught:
                await sink.send(await batch_of(station, 1, 4))
    assert list(caught.value.records) == [3] and caught.value.code == "too_big"


async def test_a_topic_that_is_not_there_is_told_and_waits_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(
        monkeypatch,
        **{"allow.auto.create.topics": False, "topic.metadata.propagation.max.ms": 100},
    )
    async with running_station(tmp_path) as station:
        await station.put(1)
        options = {"kafka": KafkaTable(topic="nope")}
        async with opened(station, "kafka://mock", **options) as sink:
            with pytest.raises(SinkUnavailable) as caught:
                await sink.send(await batch_of(station, 1, 1))
    assert caught.value.slow and "UNKNOWN_TOPIC" in str(caught.value)


async def test_a_broker_that_says_nothing_is_left_when_the_timeout_is_over(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path) as station, trio.open_nursery() as nursery:
        await station.put(1)

        async def silent(stream: trio.SocketStream) -> None:
            async with stream:
                await trio.sleep_forever()

        listeners = await nursery.start(trio.serve_tcp, silent, 0)
        url = f"kafka://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        sink = make_sink(
            upstream(url, timeout=0.3), "main", identity=station.log.identity,
            clock=station.clock, run_blocking=inline,
        )  # fmt: skip
        await sink.open(nursery, LaneResume(0, 1, 1, None))
        with pytest.raises(SinkUnavailable, match=r"no report within 0\.3 s") as caught:
            await sink.send(await batch_of(station, 1, 1))
        assert caught.value.cut
        nursery.cancel_scope.cancel()


async def test_what_librdkafka_started_ends_with_the_sink(tmp_path: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir())) - threading.active_count()

    async with running_station(tmp_path) as station:
        await station.put(1)
        before = threads()
        with trio.move_on_after(0.2):
            async with opened(station, "kafka://127.0.0.1:1") as sink:
                assert threads() > before
                await sink.send(await batch_of(station, 1, 1))
        # In the middle of trying, and cancelled.
        await eventually(lambda: threads() <= before, "its threads end")


async def test_a_certificate_that_is_none_is_told_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    async with running_station(tmp_path / "near") as station:
        with pytest.raises(ExceptionGroup) as caught:
            async with opened(station, "kafka+tls://h", ca_file=str(tmp_path / "ca.pem")):
                pass
    assert caught.group_contains(SinkUnavailable, match=r"ca\.pem")


async def test_trying_one_out_produces_a_message_and_tells_what_was_reported(
    tmp_path: Path,
) -> None:
    async with running_station(tmp_path / "near") as station:
        with kafka_broker(tmp_path / "far") as port:
            await trio.to_thread.run_sync(make_topic, port)
            url = f"kafka://127.0.0.1:{port}"
            (step,) = await probe(parts_for(station, upstream(url)), 1000)
            assert step.good and "the topic edge has" in step.told
            (found,) = await trio.to_thread.run_sync(messages, port)
            value = found.value()
            assert value is not None and json.loads(value)["stream"] == "edge-agent/probe"
        (step,) = await probe(parts_for(station, upstream(url, timeout=5.0)), 100)
        assert not step.good and "Connection refused" in step.told
