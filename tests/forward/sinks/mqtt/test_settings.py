from __future__ import annotations

from typing import Any

from edge_agent.config import MqttTable
from edge_agent.forward.sinks.mqtt.outgoing import MqttMessage
from edge_agent.forward.sinks.mqtt.settings import MqttSettings, settings_of
from tests.forward.support import upstream

AGENT = "9b1d5f0c0000000000000000000000aa"


def settings(url: str = "mqtts://h", log: str = "main", **table: Any) -> MqttSettings:
    return settings_of(upstream(url, mqtt=MqttTable(**table)), log, AGENT)


def test_without_a_table_a_record_goes_to_a_topic_of_its_agent_and_stream() -> None:
    found = settings_of(upstream("mqtt://h"), "main", AGENT)
    assert (found.version, found.port, found.topic) == ("5", 1883, "edge-agent/{agent}/{stream}")
    assert (found.payload, found.retain, found.will) == ("record", False, None)
    assert found.client_id == "edge-agent-9b1d5f0c0000-hub-main"


def test_the_port_of_tls_is_another_one() -> None:
    assert settings().port == 8883 and settings("mqtts://h:1").port == 1


def test_each_log_has_a_client_id_of_its_own() -> None:
    assert settings(client_id="me").client_id == "me"
    assert settings(log="alarms", client_id="me").client_id == "me-alarms"
    assert settings(log="alarms", client_id="{log}.me").client_id == "alarms.me"


def test_birth_and_will_are_of_one_log_unless_the_topic_names_it() -> None:
    will = settings(status_topic="{agent}/status").will
    assert will == MqttMessage(f"{AGENT}/status".encode(), b"offline", 1, retain=True)
    assert settings(log="alarms", status_topic="{agent}/status").will is None
    alarms = settings(log="alarms", status_topic="status/{log}").will
    assert alarms is not None and alarms.topic == b"status/alarms"


def test_azure_is_3_1_1_with_the_device_in_topic_and_user() -> None:
    found = settings(
        "mqtts://x.azure-devices.net", profile="azure", client_id="d7", sas_key_file="/k/{log}"
    )
    assert found.version == "3.1.1" and found.client_id == "d7" and found.sas == "/k/main"
    assert found.user == "x.azure-devices.net/d7/?api-version=2021-04-12"
    assert found.topic.startswith("devices/d7/messages/events/")
    assert found.message_bytes == 256 * 1024


def test_aws_has_its_limits_and_a_name_within_tls_on_the_port_of_https() -> None:
    found = settings("mqtts://x:443", profile="aws", messages_per_second=50.0)
    assert (found.alpn, found.slashes, found.per_second) == ("x-amzn-mqtt-ca", 7, 50)
    assert found.message_bytes == 128_000 and found.bytes_per_second == 512_000
    assert found.in_flight == 100
    assert settings("mqtts://x", profile="aws").alpn is None


def test_thingsboard_is_grouped_unless_a_topic_is_given() -> None:
    found = settings(profile="thingsboard")
    assert (found.topic, found.is_grouped) == ("v1/gateway/telemetry", True)
    own = settings(profile="thingsboard", topic="v1/devices/me/telemetry")
    assert (own.topic, own.is_grouped) == ("v1/devices/me/telemetry", False)


def test_home_assistant_keeps_the_last_value_and_knows_when_we_are_gone() -> None:
    found = settings(profile="home-assistant")
    assert found.retain and found.payload == "fields" and found.discovery == "homeassistant"
    assert found.status == f"edge-agent/{AGENT}/status".encode() and found.speaks


def test_the_smaller_limit_counts() -> None:
    assert settings(profile="aws", message_bytes=1000).message_bytes == 1000
    assert settings(profile="aws", message_bytes=10**6).message_bytes == 128_000
