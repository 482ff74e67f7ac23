"""Zigbee2MQTT's states, as its page "MQTT topics and messages" and its devices' pages show them."""

from __future__ import annotations

from typing import Any

from tests.rules.support import apply, by_stream, rule

PROFILE = rule(profile="zigbee2mqtt", streams=("zigbee2mqtt/*",))


def made(*messages: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    ruled = apply([PROFILE], *messages, stream="zigbee2mqtt/porch")
    assert not ruled.rejects
    return by_stream(ruled)


def test_a_climate_sensor() -> None:
    message = {
        "battery": 97, "humidity": 45.31, "linkquality": 120, "temperature": 21.42,
        "voltage": 3005, "last_seen": "2026-06-01T12:00:00.000Z", "pressure": None,
    }  # fmt: skip
    assert made(message) == {
        "zigbee2mqtt/porch": [
            {
                "battery": 97, "humidity": 45.31, "linkquality": 120, "temperature": 21.42,
                "voltage": 3005, "time": "2026-06-01T12:00:00.000Z",
            }
        ]
    }  # fmt: skip


def test_a_lamp() -> None:
    message = {
        "state": "ON", "brightness": 215, "color": {"x": 0.46, "y": 0.41}, "color_temp": 325,
        "update": {"state": "available", "installed_version": 1}, "update_available": True,
        "device": {"friendlyName": "porch"}, "last_seen": 1780308000250,
    }  # fmt: skip
    assert made(message) == {
        "zigbee2mqtt/porch": [
            {
                "state": True, "brightness": 215, "color_x": 0.46, "color_y": 0.41,
                "color_temp": 325, "time": 1780308000.25,
            }
        ]
    }  # fmt: skip


def test_without_a_time_the_records_own_stays_and_nothing_is_left_out() -> None:
    assert made({"contact": False, "time": 1780308000}) == {
        "zigbee2mqtt/porch": [{"contact": False, "time": 1780308000}]
    }
    assert made({"update": {"state": "idle"}}) == {}
