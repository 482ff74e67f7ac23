from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from edge_agent.config import MqttTable
from edge_agent.forward.run_columns import RunColumns
from edge_agent.forward.sinks.http.body import record_json, rendered
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage, publish, user_property
from edge_agent.forward.sinks.mqtt.rendering import PACKET_IDS, Renderer
from edge_agent.forward.sinks.mqtt.settings import settings_of
from edge_agent.values.record import Record
from tests.forward.support import NOW_NS, upstream

AGENT, EPOCH = "a" * 32, "e" * 32


def slices(*records: Record) -> list[RunColumns]:
    return [RunColumns.of(one) for one in records]


def record(seq: int = 1, stream: str = "t/1", source: str = "s", **fields: Any) -> Record:
    return Record(
        "main", seq, stream, NOW_NS, "sensor", NOW_NS, True, source, seq, fields or {"n": seq}
    )


def renderer(epoch: str = EPOCH, **table: Any) -> Renderer:
    settings = settings_of(upstream("mqtts://h", mqtt=MqttTable(**table)), "main", AGENT)
    return Renderer(settings, AGENT, epoch)


def test_a_record_becomes_a_publish_with_its_id() -> None:
    found = renderer(topic="x/{stream}/{source}/{log}/{agent}", payload="fields").render(
        slices(record(7)), 0
    )
    message = MqttMessage(f"x/t/1/s/main/{AGENT}".encode(), b'{"n":7}')
    told = user_property(b"id", f"{EPOCH}/main/7".encode())
    assert found.packets == [publish("5", message, 1, told)]
    assert found.seqs == [(7,)] and found.size == len(found.packets[0])


def test_version_3_1_1_has_no_place_for_an_id_but_the_payload() -> None:
    found = renderer(version="3.1.1", topic="x", retain=True).render(slices(record(7)), 0)
    payload = record_json(rendered(record(7), AGENT, EPOCH))
    assert found.packets == [publish("3.1.1", MqttMessage(b"x", payload, retain=True), 1)]


AGGREGATE = structs.replace(record(3), source="$thin/1m")
FOREIGN = structs.replace(
    record(4), origin="b" * 32, origin_epoch="c" * 32, origin_log="l" * 64, origin_seq=2**62
)


@pytest.mark.parametrize("one", [record(), record(2, t=float("nan"), b=b"x"), AGGREGATE, FOREIGN])
def test_a_record_reads_as_everywhere(one: Record) -> None:
    (packet,) = renderer().render(slices(one), 0).packets
    expected = record_json(rendered(one, AGENT, EPOCH))
    assert packet.endswith(expected)


_fields = st.dictionaries(
    st.text(max_size=5),
    st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
    | st.lists(st.none() | st.booleans(), max_size=2) | st.just(object()),
    max_size=3,
)  # fmt: skip
_names = st.sampled_from(["t/1", "$rule/x", '"\\', "ü\u2028\x7f", "$thin/1m", "x" * 130])


@given(
    st.lists(_fields, min_size=1, max_size=5), _names, _names, st.booleans(),
    st.sampled_from(["record", "fields", "{id} {agent} {time} {fields}"]),
    st.integers(0, 2) | st.just(PACKET_IDS - 2), st.sampled_from([400, 0]),
)  # fmt: skip
def test_many_at_once_become_what_each_becomes_by_itself(
    fields: list[dict[str, Any]], stream: str, source: str, foreign: bool, payload: str,
    before: int, most: int,
) -> None:  # fmt: skip
    records = [
        structs.replace(
            FOREIGN if foreign else record(), seq=4 + n, stream=stream, source=source, fields=one,
            time_ns=NOW_NS + n * 10_000_001, quality="sensor" if n % 2 else "arrival", synced=False,
        )
        for n, one in enumerate(fields)
    ]  # fmt: skip
    if foreign:
        records = [structs.replace(one, origin_seq=one.seq + 90) for one in records]
    several = replace(
        RunColumns.of(records[0]),
        fields=fields,
        times=[(one.time_ns, one.quality) for one in records],
    )
    for version in ("5", "3.1.1"):
        one = renderer(version=version, topic="x/{stream}/{source}", payload=payload)
        made = one.render([several], most, before)
        packets, seqs = list[bytes](), list[tuple[int]]()
        for each in records:
            if any(type(value) is object for value in each.fields.values()):
                assert made.refused[each.seq].startswith("cannot be said: a object")
                continue
            packet = by_itself(each, version, payload, (before + len(packets)) % PACKET_IDS + 1)
            if most and len(packet) > most:
                assert made.refused[each.seq].startswith(f"too large: its packet has {len(packet)}")
                continue
            packets.append(packet)
            seqs.append((each.seq,))
        assert (made.packets, made.seqs) == (packets, seqs)
        assert len(made.refused) == len(records) - len(packets)


def by_itself(one: Record, version: Any, payload: str, number: int) -> bytes:
    """A record's packet as the modules of packets and of records say it, and nobody in between."""
    shown = rendered(one, AGENT, EPOCH)
    body = record_json(shown) if payload == "record" else record_json(one.fields)
    if payload.startswith("{"):
        body = f"{shown.id} {shown.agent} {shown.time} {body.decode()}".encode()
    topic = f"x/{one.stream}/{one.source}".encode()
    told = user_property(b"id", shown.id.encode()) if version == "5" else b""
    return publish(version, MqttMessage(topic, body), number, told)


def test_a_long_id_is_told_whole() -> None:
    one = structs.replace(FOREIGN, source="$thin/1m")
    (packet,) = renderer(topic="x", payload="fields").render(slices(one), 0).packets
    told = user_property(b"id", rendered(one, AGENT, EPOCH).id.encode())
    assert packet == publish("5", MqttMessage(b"x", b'{"n":4}'), 1, told)


def test_a_template_of_ones_own() -> None:
    text = '{"at":{time_ms},"s":{time_s},"iso":"{time}","v":{fields},"from":"{log}/{seq}"}'
    found = renderer(version="3.1.1", topic="x", payload=text).render(slices(record(9)), 0)
    payload = json.loads(found.packets[0][2 + 3 + 2 :])
    assert payload == {
        "at": NOW_NS // 10**6, "s": NOW_NS // 10**9, "iso": "2026-11-22T10:00:00Z",
        "v": {"n": 9}, "from": "main/9",
    }  # fmt: skip


def test_packet_ids_begin_anew_where_they_end() -> None:
    one = record()
    found = renderer(version="3.1.1", topic="x", payload="fields").render(slices(one) * 65_536, 0)
    numbers = [int.from_bytes(packet[5:7], "big") for packet in found.packets]
    assert numbers[:2] == [1, 2] and numbers[PACKET_IDS - 1 :] == [PACKET_IDS, 1, 2]


def test_a_topic_of_the_broker_s_own_is_nobody_s() -> None:
    one = renderer(version="3.1.1", topic="{stream}", payload="fields")
    found = one.render(slices(record(stream="$agents/x")), 0)
    assert found.packets[0][4:].startswith(b"_agents/x")


def test_what_is_too_large_is_refused_by_itself_and_says_the_limit() -> None:
    records = [record(1), record(2, text="x" * 500), record(3)]
    found = renderer(message_bytes=400).render(slices(*records), 0)
    assert found.seqs == [(1,), (3,)] and list(found.refused) == [2] and found.is_too_large
    assert "400 are taken" in found.refused[2]
    found = renderer().render(slices(*records), 600)
    assert "the broker takes 600" in found.refused[2]


def test_a_record_that_json_cannot_say_is_refused_by_itself() -> None:
    made = renderer().render(slices(record(1), record(2, x=object()), record(3)), 0)
    assert made.seqs == [(1,), (3,)] and not made.is_too_large
    assert made.refused[2].startswith("cannot be said: ")


def test_more_slashes_than_aws_takes_are_refused() -> None:
    made = renderer(profile="aws", topic="{stream}").render(
        slices(record(1, "a/b/c/d/e/f/g/h"), record(2, "a/b/c/d/e/f/g/h/i")), 0
    )
    assert made.seqs == [(1,)] and "more than 7 slashes" in made.refused[2]


def test_thingsboard_gets_several_records_in_a_message_by_device() -> None:
    made = renderer(profile="thingsboard", version="3.1.1").render(
        slices(record(1), record(2, "t/2"), record(3)), 0
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
    made = renderer(profile="thingsboard").render(
        slices(*records, record(101, text="x" * 999)), 500
    )
    assert [seq for seqs in made.seqs for seq in seqs] == list(range(1, 101))
    assert 10 < len(made.packets) < 40 and all(len(one) <= 500 for one in made.packets)
    assert list(made.refused) == [101]


def test_home_assistant_is_told_of_a_field_before_its_first_value() -> None:
    one = renderer(profile="home-assistant", version="3.1.1")
    made = one.render(slices(record(1, t=1.5), record(2, t=2)), 0)
    assert made.seqs == [(), (1,), (2,)]
    assert b"homeassistant/sensor/" in made.packets[0] and made.packets[0][0] == 0x33
    assert len(one.render(slices(record(3, t=2)), 0).packets) == 1
    assert len(one.announcements()) == 1 and renderer().announcements() == []
    assert msgspec.json.decode(made.packets[1][made.packets[1].index(b"{") :]) == {"t": 1.5}
