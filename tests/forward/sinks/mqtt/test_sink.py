"""The sink against a real Mosquitto."""

from __future__ import annotations

import json
import logging
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from edge_agent.config import MqttTable
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.lanes.lane import Lane
from edge_agent.forward.probing import ProbeStep
from edge_agent.forward.sink import Acknowledged, Batch, LaneResume
from edge_agent.forward.sinks.mqtt.sink import MqttSink, probe
from tests.forward.contract import sink_for
from tests.forward.sinks.mqtt.broker import running_broker, subscribed, until
from tests.forward.support import Station, parts_for, running_station, upstream
from tests.manual_clock import ManualClock
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.needs("mosquitto")


@asynccontextmanager
async def opened(
    station: Station, url: str, **options: Any
) -> AsyncIterator[tuple[MqttSink, trio.Nursery]]:
    sink = sink_for(station, url, options)
    assert isinstance(sink, MqttSink)
    async with trio.open_nursery() as nursery:
        await sink.open(nursery, LaneResume(0, 1, station.log.last_seq("main"), None))
        yield sink, nursery
        await sink.aclose()
        nursery.cancel_scope.cancel()


async def batch(station: Station, first: int, last: int) -> Batch:
    return Batch("main", first, last, tuple(await station.log.read("main", first - 1)))


async def test_a_batch_is_many_messages_and_each_says_its_id(tmp_path: Path) -> None:
    with running_broker(tmp_path / "far") as broker, subscribed(broker) as subscriber:
        async with running_station(tmp_path / "near") as station:
            await station.put(300)
            table = MqttTable(topic="x/{stream}", payload="fields", retain=True)
            async with opened(station, broker.url, mqtt=table) as (sink, _):
                found = await sink.send(await batch(station, 1, 300))
                assert found.upto == 300 and found.records == 300 and sink.drained
            messages = await subscriber.settled()
            assert [json.loads(one.payload)["n"] for one in messages] == list(range(300))
            assert {one.topic for one in messages} == {"x/t/1"}
            epoch = station.log.identity.epoch
            told = [getattr(one.properties, "UserProperty", None) for one in messages]
            assert told == [[("id", f"{epoch}/main/{seq}")] for seq in range(1, 301)]


async def test_the_last_acknowledgement_of_a_batch_is_not_waited_for(tmp_path: Path) -> None:
    with running_broker(tmp_path / "far") as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(20)
            some = await batch(station, 1, 20)
            async with opened(station, broker.url) as (sink, _):
                took = [1.0]
                # Mosquitto keeps it back until what it sent before is confirmed, which Linux does
                # after 40 ms where nothing is asked of it: hardly any batch is quicker then. A
                # slow machine is given some rounds.
                with trio.fail_after(PATIENCE_S):
                    while median(took) > 0.035:
                        took.clear()
                        for _ in range(10):
                            began = trio.current_time()
                            await sink.send(some)
                            took.append(trio.current_time() - began)


async def test_a_broker_that_says_nothing_is_told_before_the_timeout(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running_station(tmp_path) as station:
        (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with silent:
            url = f"mqtt://127.0.0.1:{silent.socket.getsockname()[1]}"
            with pytest.raises(ExceptionGroup) as caught:
                async with opened(station, url):
                    pass
        (error,) = caught.value.exceptions
        assert str(error) == "it takes connections, and has said nothing for 10 s"


async def test_of_a_range_without_a_record_nothing_is_sent(tmp_path: Path) -> None:
    with running_broker(tmp_path / "far") as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(3)
            async with opened(station, broker.url, streams=("other/**",)) as (sink, _):
                assert await sink.send(await batch(station, 1, 3)) == Acknowledged(3)


async def test_a_record_too_large_is_named_and_the_others_arrive(tmp_path: Path) -> None:
    limit = "max_packet_size 400"
    with running_broker(tmp_path / "far", limit) as broker, subscribed(broker) as subscriber:
        async with running_station(tmp_path / "near") as station:
            await station.put(1, stream="a")
            await station.put(1, stream="b" * 150)
            await station.put(1, stream="c", start=2)
            async with opened(station, broker.url) as (sink, _):
                items = tuple(await station.log.read("main", 0))
                with pytest.raises(SinkRefused, match="the broker takes 400") as caught:
                    await sink.send(Batch("main", 1, 3, items))
                assert list(caught.value.records) == [2] and caught.value.code == "too_big"
            assert len(await subscriber.settled()) == 2


def with_acl(folder: Path, *topics: str) -> str:
    folder.mkdir()
    lines = "".join(f"topic readwrite {topic}\n" for topic in (*topics, "mark"))
    (folder / "acl").write_text(lines)
    return f"acl_file {folder}/acl"


async def test_a_stream_that_is_not_allowed_is_named_while_others_are(tmp_path: Path) -> None:
    with running_broker(tmp_path / "far", with_acl(tmp_path / "far", "t/#")) as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(1, stream="t/1")
            await station.put(1, stream="secret")
            table = MqttTable(topic="{stream}")
            async with opened(station, broker.url, mqtt=table) as (sink, _):
                with pytest.raises(SinkRefused, match="not authorised") as caught:
                    await sink.send(await batch(station, 1, 2))
                assert list(caught.value.records) == [2] and caught.value.code == "refused"


async def test_where_nothing_is_allowed_a_person_is_told_and_everything_kept(
    tmp_path: Path,
) -> None:
    with running_broker(tmp_path / "far", with_acl(tmp_path / "far", "none")) as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(1)
            async with opened(station, broker.url) as (sink, _):
                with pytest.raises(SinkUnavailable, match=r"not authorised \(0x87\)") as caught:
                    await sink.send(await batch(station, 1, 1))
                assert caught.value.slow and caught.value.about_batch
                assert caught.value.obstacle == "there"


async def test_what_is_not_allowed_goes_to_quarantine_and_all_else_arrives(tmp_path: Path) -> None:
    # Though this broker hangs up behind each message that it does not allow.
    with running_broker(tmp_path / "far", with_acl(tmp_path / "far", "t/#")) as broker:
        async with running_station(tmp_path / "near") as station:
            for stream in ("t/1", "secret", "t/2", "secret", "t/3"):
                await station.put(1, stream=stream)
            with subscribed(broker, "t/#") as subscriber:
                # One at a time: a broker that hangs up on what it has not read is not heard.
                config = upstream(broker.url, mqtt=MqttTable(topic="{stream}"), batch_records=1)
                sink = sink_for(station, broker.url, {"mqtt": config.mqtt})
                more: dict[str, Any] = {"clock": station.clock, "metrics": station.metrics}
                lane = Lane(config, station.log, "main", sink, dice=random.Random(1), **more)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lane.run)
                    await until(lambda: lane.statistics().floor == 5)
                    nursery.cancel_scope.cancel()
                assert lane.statistics().refused == 2
                await until(lambda: len({one.topic for one in subscriber.messages}) == 3)


async def test_version_3_1_1_says_nothing_of_a_topic_that_is_not_allowed(tmp_path: Path) -> None:
    # As docs/upstreams.md says: its PUBACK comes, and the message goes nowhere.
    with running_broker(tmp_path / "far", with_acl(tmp_path / "far", "none")) as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(1)
            async with opened(station, broker.url, mqtt=MqttTable(version="3.1.1")) as (sink, _):
                assert (await sink.send(await batch(station, 1, 1))).records == 1


async def test_that_nobody_subscribes_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_broker(tmp_path / "far") as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(2)
            async with opened(station, broker.url) as (sink, _):
                with caplog.at_level(logging.WARNING):
                    await sink.send(await batch(station, 1, 1))
                    await sink.send(await batch(station, 2, 2))
    told = [one for one in caplog.messages if "nobody subscribes" in one]
    assert told == ["upstream hub: nobody subscribes to the topic of 1 of 1 messages"]


async def test_a_wrong_password_needs_a_person(tmp_path: Path) -> None:
    more = f"allow_anonymous false\npassword_file {tmp_path}/far/passwords"
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "passwords").write_text("")
    (tmp_path / "secret").write_text("wrong\n")
    with running_broker(tmp_path / "far", more) as broker:
        async with running_station(tmp_path / "near") as station:
            options = {"user": "u", "password_file": str(tmp_path / "secret")}
            with pytest.raises(ExceptionGroup) as caught:
                async with opened(station, broker.url, **options):
                    pass
            (error,) = caught.value.exceptions
            assert isinstance(error, SinkUnavailable) and error.slow
            assert "not authorised" in str(error) and "wrong" not in str(error)


def with_tls(folder: Path, authority: trustme.CA) -> str:
    folder.mkdir()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(folder / "server.key")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    client = authority.issue_cert("client@x")
    client.private_key_pem.write_to_path(folder / "client.key")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    return (
        f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
        "require_certificate true\n"
    )


async def test_tls_with_a_certificate_of_our_own_and_a_name_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "far"
    names: list[list[str]] = []
    real = ssl.SSLContext.set_alpn_protocols

    def noted(self: ssl.SSLContext, given: list[str]) -> None:
        names.append(given)
        real(self, given)

    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", noted)
    with running_broker(folder, with_tls(folder, trustme.CA())) as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(3)
            options: dict[str, Any] = {
                "ca_file": str(folder / "ca.pem"),
                "tls_certificate": str(folder / "client.pem"),
                "tls_key": str(folder / "client.key"),
                "mqtt": MqttTable(alpn="x-amzn-mqtt-ca"),
            }
            url = broker.url.replace("mqtt:", "mqtts:")
            async with opened(station, url, **options) as (sink, _):
                assert (await sink.send(await batch(station, 1, 3))).records == 3
    assert names == [["x-amzn-mqtt-ca"]]


async def test_a_password_that_ends_is_renewed_by_a_new_connection_before_it_does(
    tmp_path: Path,
) -> None:
    # Azure's computed password, at a broker that takes any: what counts is that it comes anew.
    (tmp_path / "key").write_text("c2VjcmV0\n")
    with running_broker(tmp_path / "far") as broker, subscribed(broker) as subscriber:
        async with running_station(tmp_path / "near", clock=ManualClock()) as station:
            await station.put(1)
            table = MqttTable(
                profile="azure", client_id="d7", sas_key_file=str(tmp_path / "key"),
                sas_lifetime=0.2,  # type: ignore[arg-type]  # shorter than a person may set it
            )  # fmt: skip
            async with opened(station, broker.url, mqtt=table) as (sink, _):
                first = sink._connection
                await until(lambda: sink._connection not in (first, None))
                assert (await sink.send(await batch(station, 1, 1))).records == 1
            (message,) = await subscriber.settled()
            assert message.topic.startswith("devices/d7/messages/events/")


async def test_home_assistant_that_comes_back_is_told_everything_again(tmp_path: Path) -> None:
    with running_broker(tmp_path / "far") as broker, subscribed(broker) as subscriber:
        async with running_station(tmp_path / "near") as station:
            await station.put(1)
            table = MqttTable(profile="home-assistant")
            async with opened(station, broker.url, mqtt=table) as (sink, _):
                await sink.send(await batch(station, 1, 1))
                subscriber.client.publish("homeassistant/status", "online", qos=1)
                await until(lambda: sum("/config" in one.topic for one in subscriber.messages) == 2)
            found = [
                (one.topic.rsplit("/", 1)[-1], one.payload) for one in await subscriber.settled()
            ]
            assert [payload for name, payload in found if name == "1"] == [b'{"n":0}']
            assert [payload for name, payload in found if name == "status"] == [
                b"online", b"online", b"offline"
            ]  # fmt: skip


async def test_a_broker_that_was_killed_is_found_again(tmp_path: Path) -> None:
    with running_broker(tmp_path / "far") as broker:
        async with running_station(tmp_path / "near") as station:
            await station.put(2)

            async def idle() -> None:
                async with opened(station, broker.url) as (sink, _):
                    await sink.send(await batch(station, 1, 1))
                    broker.stop(9)
                    await trio.sleep_forever()

            with pytest.raises(ExceptionGroup) as caught:
                await idle()
            assert caught.group_contains(SinkUnavailable, match="hung up|broke")
            broker.start()
            async with opened(station, broker.url) as (sink, _):
                assert (await sink.send(await batch(station, 2, 2))).upto == 2


async def test_trying_one_out_publishes_where_nothing_stays_and_tells_what_came_back(
    tmp_path: Path,
) -> None:
    with running_broker(tmp_path / "far", with_acl(tmp_path / "far", "t/#")) as broker:
        async with running_station(tmp_path / "near") as station:

            async def tried(**table: Any) -> ProbeStep:
                given = upstream(broker.url, timeout=PATIENCE_S, mqtt=MqttTable(**table))
                (step,) = await probe(parts_for(station, given), 100)
                return step

            with subscribed(broker) as subscriber:
                step = await tried(topic="t/{stream}")
                assert step.good and "the broker took a record" in step.told
                (message,) = await subscriber.settled()
                assert message.topic == "t/edge-agent/probe"
                step = await tried(topic="t/{stream}", version="3.1.1")
                assert step.good and "cannot say where it allows none" in step.told
                for more in ({"retain": True}, {"profile": "home-assistant"}):
                    step = await tried(topic="t/{stream}", **more)
                    assert step.good and "nothing was published" in step.told
                assert len(await subscriber.settled()) == 2
            step = await tried(topic="other/{stream}")
            assert not step.good and "not authorised (0x87)" in step.told
