"""ESPHome's states, as its pages on MQTT, lights and the Web Server API show them."""

from __future__ import annotations

from typing import Any

from tests.rules.support import apply, by_stream, rule

PROFILE = rule(profile="esphome", streams=("esp/**",))


def made(*messages: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    ruled = apply([PROFILE], *messages, stream="esp/1")
    assert not ruled.rejects
    return by_stream(ruled)


def test_a_state_is_a_number_or_true_or_false() -> None:
    texts = [{"value": "21.5"}, {"value": "ON"}, {"value": "OFF"}, {"value": "auto"}]
    assert made(*texts) == {
        "esp/1": [{"value": 21.5}, {"value": True}, {"value": False}, {"value": "auto"}]
    }


def test_a_sensor_without_a_value_is_left_out() -> None:
    assert made({"value": "nan"}, {"value": "NAN"}, {"value": None}) == {}


def test_a_light_is_flat() -> None:
    light = {
        "color_mode": "rgb", "state": "ON", "brightness": 255,
        "color": {"r": 255, "g": 120, "b": 0}, "time": 1780308000,
    }  # fmt: skip
    assert made(light) == {
        "esp/1": [
            {
                "color_mode": "rgb", "state": True, "brightness": 255, "color_r": 255,
                "color_g": 120, "color_b": 0, "time": 1780308000,
            }
        ]
    }  # fmt: skip


def test_an_event_of_the_web_server_goes_to_its_entity() -> None:
    events: list[dict[str, Any]] = [
        {"id": "sensor-outside_temperature", "state": "19.8 °C", "value": 19.76},
        {"id": "binary_sensor-motion", "state": "OFF", "value": False},
        {"id": "switch-pump", "state": "ON"},
    ]
    assert made(*events) == {
        "esp/1/sensor-outside_temperature": [{"value": 19.76}],
        "esp/1/binary_sensor-motion": [{"value": False}],
        "esp/1/switch-pump": [{"state": True}],
    }
