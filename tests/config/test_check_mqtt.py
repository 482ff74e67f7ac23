from __future__ import annotations

import pytest

from edge_agent.config import parse
from edge_agent.errors import ConfigError

HEAD = '[[upstream]]\nname = "b"\nurl = "{url}"\n{more}\n[upstream.mqtt]\n{table}\n'
AZURE = 'profile = "azure"\nclient_id = "d"\nsas_key_file = "/k"'

WRONG = [
    ("mqtt://h", "", 'topic = "a/#"', "upstream.b.mqtt.topic: expected a topic without + and #"),
    ("mqtt://h", "", 'topic = "+/{stream}"', "topic without + and #"),
    ("mqtt://h", "", 'topic = ""', "1 to 1000 printable characters"),
    ("mqtt://h", "", 'topic = "{strem}"', "found {strem}"),
    ("mqtt://h", "", 'topic = "{fields}"', "names out of {agent}, {log}, {stream}, {source}"),
    ("mqtt://h", "", 'status_topic = "{stream}"', "names out of {agent}, {log}, found {stream}"),
    ("mqtt://h", "", 'payload = "{when}"', "found {when}"),
    ("mqtt://h", "", 'payload = "json"', '"fields", "record" or text with a name in braces'),
    ("mqtt://h", "", 'payload = ""', '"fields", "record" or a text'),
    ("mqtt://h", "", 'client_id = "a b"', "upstream.b.mqtt.client_id: expected 1 to 128"),
    ("mqtt://h", "", 'discovery_prefix = "a/+"', "upstream.b.mqtt.discovery_prefix"),
    ("mqtt://h", "", 'alpn = "x"', "a URL with mqtts://"),
    ("mqtts://h", "", 'alpn = ""', "1 to 255 characters of ASCII"),
    ("mqtt://h", "", 'keep_alive = "1s"', "upstream.b.mqtt.keep_alive: expected 5s to 18h"),
    ("mqtt://h", "", "in_flight = 0", "upstream.b.mqtt.in_flight: expected 1 to 65535"),
    ("mqtt://h", "", "messages_per_second = 0", "expected 0.01 to"),
    ("mqtt://h", "", 'message_bytes = "1B"', "expected 256B to 256MiB"),
    ("mqtt://h", "", 'profile = "gcp"', 'one of "azure", "aws", "thingsboard", "home-assistant"'),
    ("mqtt://h", "", 'version = "4"', 'one of "5", "3.1.1"'),
    ("mqtt://h", 'token_file = "/t"', "", "user and password_file, as MQTT has nothing else"),
    ("mqtt://h", 'headers = {a = "b"}', "", "user and password_file, as MQTT has nothing else"),
    ("mqtt://h/x", "", "", "the topic stands in its table mqtt"),
    ("https://h/x", "", "in_flight = 5", "a URL with mqtt:// or mqtts://"),
    ("mqtt://h", "", 'sas_key_file = "/k"', 'expected profile = "azure"'),
    ("mqtt://h", "", AZURE, "mqtts://, as azure takes nothing without TLS"),
    ("mqtts://h", "", 'profile = "azure"\nsas_key_file = "/k"', "the name of the device"),
    ("mqtts://h", "", 'profile = "azure"\nclient_id = "d"', "found neither"),
    ("mqtts://h", 'tls_certificate = "/c"\ntls_key = "/k"', AZURE, "found both"),
    ("mqtts://h", "", AZURE + '\ntopic = "x"', "azure says what it is"),
    ("mqtts://h", "", AZURE + '\nkeep_alive = "1h"', "at most 1177s"),
    ("mqtts://h", "", AZURE + '\n[log.alarms]\nstreams = ["a"]\nshare = "5%"', "a name with {log}"),
    ("mqtts://h", 'user = "u"\npassword_file = "/p"', AZURE, "made of host and device"),
    ("mqtt://h", "", 'profile = "thingsboard"', "upstream.b.token_file"),
    ("mqtt://h", "", 'profile = "home-assistant"\npayload = "{fields}"', '"fields" or "record"'),
]


@pytest.mark.parametrize("url, more, table, words", WRONG)
def test_a_mistake_is_told_with_its_key(url: str, more: str, table: str, words: str) -> None:
    text = HEAD.replace("{url}", url).replace("{more}", more).replace("{table}", table)
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert words in str(caught.value)


def test_braces_that_are_json_s_are_left_alone() -> None:
    table = """payload = '{"a": {fields}, "b": {}}'"""
    config = parse(
        HEAD.replace("{url}", "mqtt://h").replace("{more}", "").replace("{table}", table), "x"
    )
    assert config.upstream[0].kind == "mqtt"
