from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import MqttTable
from edge_agent.forward.sinks.mqtt.discovery import ENTITIES_MAX, Discovery
from edge_agent.forward.sinks.mqtt.settings import settings_of
from edge_agent.values.record import Record
from tests.forward.sinks.mqtt.test_rendering import AGENT, record, slices
from tests.forward.support import upstream


def discovery(payload: str | None = None) -> Discovery:
    table = MqttTable(profile="home-assistant", payload=payload, discovery_prefix="ha")
    return Discovery(settings_of(upstream("mqtt://h", mqtt=table), "main", AGENT), AGENT)


def test_a_number_is_a_sensor_of_its_stream() -> None:
    (message,) = discovery().news(slices(record(stream="house/1", t=21.5)))
    entity = "edge-agent_aaaaaaaa_house_1_t"
    assert message.topic == f"ha/sensor/{entity}/config".encode() and message.retain
    assert json.loads(message.payload) == {
        "name": "t",
        "unique_id": entity,
        "object_id": entity,
        "state_topic": f"edge-agent/{AGENT}/house/1",
        "value_template": '{{ value_json["t"] }}',
        "availability_topic": f"edge-agent/{AGENT}/status",
        "device": {"identifiers": ["edge-agent_aaaaaaaa_house_1"], "name": "house/1"},
        "origin": {"name": "edge-agent"},
        "state_class": "measurement",
    }


def ids(*given: Record) -> dict[tuple[str, str], tuple[str, str]]:
    """By stream and field the ids of device and entity, of records that come one by one."""
    one, found = discovery(), {}
    for each in given:
        for message in one.news(slices(each)):
            told = json.loads(message.payload)
            assert message.topic.split(b"/")[2].decode() == told["unique_id"] == told["object_id"]
            (device,) = told["device"]["identifiers"]
            found[told["device"]["name"], told["name"]] = device, told["unique_id"]
    return found


def test_names_that_would_become_one_id_have_ids_of_their_own() -> None:
    before = "edge-agent_aaaaaaaa_"
    found = ids(
        record(stream="house/1", t=1), record(stream="house_1", t=1), record(stream="other", t=1)
    )
    assert found["house/1", "t"] == (before + "house_1", before + "house_1_t")
    assert found["other", "t"] == (before + "other", before + "other_t")
    device, entity = found["house_1", "t"]
    assert device.startswith(before + "house_1_") and entity == device + "_t"
    # Whoever was first, what a later one is called depends on its own name alone.
    again = ids(record(stream="house 1", t=1), record(stream="house_1", t=1))
    assert again["house_1", "t"] == (device, entity)
    fields: dict[str, Any] = {"b_c": 1, "b/c": 2}
    found = ids(record(stream="a", **fields), record(stream="a/b", c=1))
    assert len({entity for _, entity in found.values()}) == 3
    assert found["a", "b/c"][1] == before + "a_b_c" and found["a", "b_c"][0] == before + "a"
    assert found["a/b", "c"][0] == before + "a_b"


def test_who_is_first_does_not_depend_on_the_order_of_what_comes_together() -> None:
    one, other = record(stream="house/1", t=1, u=1), record(stream="house_1", u=1, t=1)
    assert discovery().news(slices(one, other)) == discovery().news(slices(other, one))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_ids_are_the_same_in_the_end_in_whatever_order_records_come(
    data: st.DataObject,
) -> None:
    names = ["house/1", "house_1", "house 1", "house", "a", "a/b", "a_b", "other"]
    fields: list[dict[str, Any]] = [
        {"t": 1},
        {"1_t": 1, "up": True},
        {"b_c": 1, "b/c": 2},
        {"c": 1},
    ]
    records = [record(stream=name, **each) for name in names for each in fields]
    drawn = data.draw(st.permutations(records))
    one, retained = discovery(), dict[bytes, bytes]()
    for each in drawn:
        for message in one.news(slices(each)):
            retained[message.topic] = message.payload
    at_broker = {topic: payload for topic, payload in retained.items() if payload}
    # What the broker has is what is known; each has an id of its own, and the same in any order.
    assert {each.topic: each.payload for each in one.everything()} == at_broker
    assert len(at_broker) == len(names) * 6
    in_order = discovery()
    in_order.news(slices(*records))
    assert {each.topic: each.payload for each in in_order.everything()} == at_broker


def test_who_is_first_by_name_takes_the_plain_id_over_from_one_that_came_before() -> None:
    one = discovery()
    (before,) = one.news(slices(record(stream="house_1", t=1)))
    taken_back, *changed = one.news(slices(record(stream="house/1", u=1)))
    assert (taken_back.topic, taken_back.payload, taken_back.retain) == (before.topic, b"", True)
    names = [json.loads(each.payload)["device"] for each in changed]
    assert [name["name"] for name in names] == ["house/1", "house_1"]
    assert names[0]["identifiers"] == ["edge-agent_aaaaaaaa_house_1"] != names[1]["identifiers"]


def test_a_name_that_looks_like_another_ones_checksum_gets_its_own() -> None:
    one = discovery()
    one.news(slices(record(stream="house/1", t=1), record(stream="house_1", t=1)))
    (id_,) = (
        json.loads(each.payload)["device"]["identifiers"][0]
        for each in one.everything()
        if json.loads(each.payload)["device"]["name"] == "house_1"
    )
    found = one.news(slices(record(stream=id_.removeprefix("edge-agent_aaaaaaaa_"), t=1)))
    assert len({each.topic for each in one.everything()}) == 3 and len(found) == 1


def test_yes_and_no_are_a_binary_sensor_and_text_is_no_measurement() -> None:
    flag, word = discovery().news(slices(record(open=True, word="x")))
    assert flag.topic.startswith(b"ha/binary_sensor/")
    assert json.loads(flag.payload)["value_template"] == (
        "{{ 'ON' if value_json[\"open\"] else 'OFF' }}"
    )
    assert "state_class" not in json.loads(word.payload)


def test_in_a_whole_record_the_value_is_among_the_fields() -> None:
    (message,) = discovery("record").news(slices(record(t=1)))
    template = json.loads(message.payload)["value_template"]
    assert template == '{{ value_json["fields"]["t"] }}'


def test_what_has_no_single_value_is_no_entity() -> None:
    assert discovery().news(slices(record(m={"a": 1}, a=[1], n=None))) == []


def test_each_is_announced_once_and_all_of_them_again_when_asked_for() -> None:
    one = discovery()
    first = one.news(slices(record(t=1), record(t=2), record(stream="t/2", t=1)))
    assert len(first) == 2 and one.news(slices(record(t=1))) == []
    assert list(one.everything()) == first and one.status_topic == b"ha/status"


def test_a_sensor_that_makes_up_names_does_not_fill_the_memory() -> None:
    one = discovery()
    for n in range(ENTITIES_MAX + 10):
        fields: dict[str, Any] = {f"f{n}": 1}
        one.news(slices(record(**fields)))
    assert len(list(one.everything())) == ENTITIES_MAX
