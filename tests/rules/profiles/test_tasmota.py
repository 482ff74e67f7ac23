"""Tasmota's telemetry, as its documentation shows it (MQTT, JSON Status Responses, and the pages of
the sensors): SENSOR and STATE.
"""

from __future__ import annotations

from typing import Any

from tests.rules.support import apply, by_stream, rule

PROFILE = rule(profile="tasmota", streams=("tasmota/**",))
CLIMATE = {
    "Time": "2026-06-01T12:00:00",
    "AM2301": {"Temperature": 21.5, "Humidity": 48.0, "DewPoint": 10.1},
    "BME280-76": {"Temperature": 21.7, "Pressure": 987.7},
    "PressureUnit": "hPa",
    "TempUnit": "C",
}
ENERGY = {
    "Time": "2026-06-01T12:00:00+02:00",
    "ENERGY": {
        "TotalStartTime": "2026-01-01T00:00:00", "Total": 12.345, "Yesterday": 0.2, "Today": 0.1,
        "Power": 42, "ApparentPower": 50, "Factor": 0.84, "Voltage": 231, "Current": 0.216,
    },
}  # fmt: skip
STATE = {
    "Time": "2026-06-01T12:00:00",
    "Uptime": "1T02:03:04",
    "UptimeSec": 93784,
    "Heap": 27,
    "SleepMode": "Dynamic",
    "LoadAvg": 19,
    "MqttCount": 1,
    "POWER": "ON",
    "Wifi": {"AP": 1, "SSId": "home", "Channel": 6, "RSSI": 100, "Signal": -45},
}


def made(*messages: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    ruled = apply([PROFILE], *messages, stream="tasmota/1")
    assert not ruled.rejects
    return by_stream(ruled)


def test_each_sensor_becomes_a_stream_with_its_units() -> None:
    assert made(CLIMATE) == {
        "tasmota/1/AM2301": [
            {"Temperature": 21.5, "Humidity": 48.0, "DewPoint": 10.1, "TempUnit": "C"}
        ],
        "tasmota/1/BME280-76": [
            {"Temperature": 21.7, "Pressure": 987.7, "PressureUnit": "hPa", "TempUnit": "C"}
        ],
    }


def test_a_time_with_a_zone_is_the_time() -> None:
    told = {**ENERGY["ENERGY"], "time": ENERGY["Time"]}  # type: ignore[dict-item]  # of mixed values
    assert made(ENERGY) == {"tasmota/1/ENERGY": [told]}


def test_a_time_that_a_rule_has_found_stays() -> None:
    found = {"time": 1780308000, **{k: v for k, v in CLIMATE.items() if k != "Time"}}
    assert {fields["time"] for (fields,) in made(found).values()} == {1780308000}


def test_the_state_is_one_record() -> None:
    assert made(STATE) == {
        "tasmota/1": [
            {
                "Uptime": "1T02:03:04", "UptimeSec": 93784, "Heap": 27, "SleepMode": "Dynamic",
                "LoadAvg": 19, "MqttCount": 1, "POWER": True, "Wifi_AP": 1, "Wifi_SSId": "home",
                "Wifi_Channel": 6, "Wifi_RSSI": 100, "Wifi_Signal": -45,
            }
        ]
    }  # fmt: skip


def test_values_beside_the_sensors_go_to_the_devices_own_stream() -> None:
    switches = {"Time": "2026-06-01T12:00:00", "Switch1": "OFF", "ANALOG": {"A0": 7}}
    assert made(switches) == {"tasmota/1": [{"Switch1": "OFF"}], "tasmota/1/ANALOG": [{"A0": 7}]}


def test_what_is_no_telemetry_stays_and_what_says_nothing_is_left_out() -> None:
    assert made({"POWER": "ON"}) == {"tasmota/1": [{"POWER": "ON"}]}
    assert made({"Time": "2026-06-01T12:00:00"}) == {}
