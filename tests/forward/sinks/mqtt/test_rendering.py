from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import structs

from edge_agent.config import MqttTable
from edge_agent.forward.sinks.http.body import record_json, rendered
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage, publish, user_property
from edge_agent.forward.sinks.mqtt.rendering import PACKET_IDS, Renderer
from edge_agent.forward.sinks.mqtt.settings import settings_of
from edge_agent.values.record import Record
from tests.forward.support import NOW_NS, upstream

AGENT, EPOCH = "a" * 32, "e" * 32


def record(seq: int = 1, stream: str = "t/1", source: str = "s", **fields: Any) -> Record:
    return Record(
        "main", seq, stream, NOW_NS, "sensor", NOW_NS, True, source, seq, fields or {"n": seq}
    )


def renderer(epoch: str = EPOCH, **table: Any) -> Renderer:
    settings = settings_of(upstream("mqtts://h", mqtt=MqttTable(**table)), "main", AGENT)
    return Renderer(settings, AGENT, epoch)


def test_a_record_becomes_a_publish_with_its_id() -> None:
    found = renderer(topic="x/{stream}/{source}/{log}/{agent}", payload="fields").render(
        [record(7)], 0
    )
    message = MqttMessage(f"x/t/1/s/main/{AGENT}".encode(), b'{"n":7}')
    told = user_property(b"id", f"{EPOCH}/main/7".encode())
    assert found.packets == [publish("5", message, 1, told)]
    assert found.seqs == [(7,)] and found.size == len(found.packets[0])


def test_version_3_1_1_has_no_place_for_an_id_but_the_payload() -> None:
    found = renderer(version="3.1.1", topic="x", retain=True).render([record(7)], 0)
    payload = record_json(rendered(record(7), AGENT, EPOCH))
    assert found.packets == [publish("3.1.1", MqttMessage(b"x", payload, retain=True), 1)]


AGGREGATE = structs.replace(record(3), source="$thin/1m")
FOREIGN = structs.replace(
    record(4), origin="b" * 32, origin_epoch="c" * 32, origin_log="l" * 64, origin_seq=2**62
)


@pytest.mark.parametrize("one", [record(), record(2, t=float("nan"), b=b"x"), AGGREGATE, FOREIGN])
def test_a_record_reads_as_everywhere(one: Record) -> None:
    (packet,) = renderer().render([one], 0).packets
    expected = record_json(rendered(one, AGENT, EPOCH))
    assert packet.endswith(expected)


def test_a_long_id_is_told_whole() -> None:
    one = structs.replace(FOREIGN, source="$thin/1m")
    (packet,) = renderer(topic="x", payload="fields").render([one], 0).packets
    told = user_property(b"id", rendered(one, AGENT, EPOCH).id.encode())
    assert packet == publish("5", MqttMessage(b"x", b'{"n":4}'), 1, told)


def test_a_template_of_ones_own() -> None:
    text = '{"at":{time_ms},"s":{time_s},"iso":"{time}","v":{fields},"from":"{log}/{seq}"}'
    found = renderer(version="3.1.1", topic="x", payload=text).render([record(9)], 0)
    payload = json.loads(found.packets[0][2 + 3 + 2 :])
    assert payload == {
        "at": NOW_NS // 10**6, "s": NOW_NS // 10**9, "iso": "2026-11-22T10:00:00Z",
        "v": {"n": 9}, "from": "main/9",
    }  # fmt: skip


def test_packet_ids_begin_anew_where_they_end() -> None:
    one = record()
    found = renderer(version="3.1.1", topic="x", payload="fields").render([one] * 65_536, 0)
    numbers = [int.from_bytes(packet[5:7], "big") for packet in found.packets]
    assert numbers[:2] == [1, 2] and numbers[PACKET_IDS - 1 :] == [PACKET_IDS, 1, 2]


def test_a_topic_of_the_broker_s_own_is_nobody_s() -> None:
    one = renderer(version="3.1.1", topic="{stream}", payload="fields")
    found = one.render([record(stream="$agents/x")], 0)
    assert found.packets[0][4:].startswith(b"_agents/x")


def test_what_is_too_large_is_refused_by_itself_and_says_the_limit() -> None:
    records = [record(1), record(2, text="x" * 500), record(3)]
    found = renderer(message_bytes=400).render(records, 0)
    assert found.seqs == [(1,), (3,)] and list(found.refused) == [2] and found.is_too_large
    assert "400 are taken" in found.refused[2]
    found = renderer().render(records, 600)
    assert "the broker takes 600" in found.refused[2]


def test_a_record_that_json_cannot_say_is_refused_by_itself() -> None:
    made = renderer().render([record(1), record(2, x=object()), record(3)], 0)
    assert made.seqs == [(1,), (3,)] and not made.is_too_large
    assert made.refused[2].startswith("cannot be said: ")


def test_more_slashes_than_aws_takes_are_refused() -> None:
    made = renderer(profile="aws", topic="{stream}").render(
        [record(1, "a/b/c/d/e/f/g/h"), record(2, "a/b/c/d/e/f/g/h/i")], 0
    )
    assert made.seqs == [(1,)] and "more than 7 slashes" in made.refused[2]


def test_thingsboard_gets_several_records_in_a_message_by_device() -> None:
    made = renderer(profile="thingsboard", version="3.1.1").render(
        [record(1), record(2, "t/2"), record(3)], 0
    )
    assert made.seqs == [(1, 2, 3)]
    payload = made.packets[0].partition(b"v1/gateway/telemetry")[2][2:]
    at = NOW_NS // 10**6
    assert json.loads(payload) == {
        "t/1": [{"ts": at, "values": {"n": 1}}, {"ts": at, "values": {"n": 3}}],
        "t/2": [{"ts": at, "values": {"n": 2}}],
    }


def test_groups_are_as_large_as_the_broker_takes() -> None:
    records = [record(seq, text="x" * 40) for seq in range(1, 101)]
    made = renderer(profile="thingsboard").render([*records, record(101, text="x" * 999)], 500)
    assert [seq for seqs in made.seqs for seq in seqs] == list(range(1, 101))
    assert 10 < len(made.packets) < 40 and all(len(one) <= 500 for one in made.packets)
    assert list(made.refused) == [101]


def test_home_assistant_is_told_of_a_field_before_its_first_value() -> None:
    one = renderer(profile="home-assistant", version="3.1.1")
    made = one.render([record(1, t=1.5), record(2, t=2)], 0)
    assert made.seqs == [(), (1,), (2,)]
    assert b"homeassistant/sensor/" in made.packets[0] and made.packets[0][0] == 0x33
    assert len(one.render([record(3, t=2)], 0).packets) == 1
    assert len(one.announcements()) == 1 and renderer().announcements() == []
    assert msgspec.json.decode(made.packets[1][made.packets[1].index(b"{") :]) == {"t": 1.5}
