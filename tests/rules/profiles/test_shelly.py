"""Shelly's notifications; frames as https://shelly-api-docs.shelly.cloud/gen2/General/Notifications
and the components' status pages (Switch, Temperature) write them.
"""

from __future__ import annotations

from typing import Any

from tests.rules.support import apply, by_stream, rule

PROFILE = rule(profile="shelly-gen2", streams=("shelly/*",))
SWITCHED = {
    "src": "shellypro4pm-f008d1d8b8b8",
    "dst": "user_1",
    "method": "NotifyStatus",
    "params": {
        "ts": 1781186545.04,
        "switch:0": {"id": 0, "output": True, "source": "button"},
    },
}
FULL = {
    "src": "shellyplus1pm-a8032abe54dc",
    "dst": "ws",
    "method": "NotifyFullStatus",
    "params": {
        "ts": 1781186600.5,
        "ble": {},
        "cloud": {"connected": False},
        "input:0": {"id": 0, "state": None},
        "switch:0": {
            "id": 0, "source": "init", "output": True, "apower": 8.9, "voltage": 237.5,
            "current": 0.039, "temperature": {"tC": 53.3, "tF": 127.9},
            "aenergy": {"total": 6.532, "by_minute": [45.199, 47.1], "minute_ts": 1781186600},
        },
        "wifi": {"sta_ip": "192.168.33.1", "status": "got ip", "rssi": -64},
    },
}  # fmt: skip
PUSHED = {
    "src": "shellyplus1-a8032abe54dc",
    "dst": "user_1",
    "method": "NotifyEvent",
    "params": {
        "ts": 1781186601.0,
        "events": [{"component": "input:0", "id": 0, "event": "btn_down", "ts": 1781186600.9}],
    },
}


def made(*frames: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    ruled = apply([PROFILE], *frames, stream="shelly/1", first=1)
    assert not ruled.rejects
    return by_stream(ruled)


def test_a_change_becomes_fields_of_its_component() -> None:
    assert made(SWITCHED) == {
        "shelly/1/switch0": [{"output": True, "source": "button", "time": 1781186545.04}]
    }


def test_a_full_status_becomes_a_record_for_each_component() -> None:
    time = 1781186600.5
    assert made(FULL) == {
        "shelly/1/cloud": [{"connected": False, "time": time}],
        "shelly/1/switch0": [
            {
                "source": "init", "output": True, "apower": 8.9, "voltage": 237.5, "current": 0.039,
                "temperature_tC": 53.3, "temperature_tF": 127.9, "aenergy_total": 6.532,
                "aenergy_minute_ts": 1781186600, "time": time,
            }
        ],
        "shelly/1/wifi": [
            {"sta_ip": "192.168.33.1", "status": "got ip", "rssi": -64, "time": time}
        ],
    }  # fmt: skip


def test_an_event_says_when_it_happened() -> None:
    assert made(PUSHED) == {"shelly/1/input0": [{"event": "btn_down", "time": 1781186600.9}]}


def test_a_device_without_a_clock_is_dated_by_its_arrival() -> None:
    unset = {"method": "NotifyStatus", "params": {"ts": None, "switch:0": {"apower": 1.0}}}
    assert made(unset) == {"shelly/1/switch0": [{"apower": 1.0}]}


def test_what_says_nothing_is_left_out_and_what_is_no_notification_stays() -> None:
    empty = {"method": "NotifyStatus", "params": {"ts": 1781186545, "ble": {}}}
    others: list[dict[str, Any]] = [
        {"id": 1, "result": {"mac": "x"}},
        {"method": "NotifyStatus", "params": 7},
        {"method": "NotifyOther", "params": {}},
        {"apower": 7},
    ]
    assert made(empty, {"method": "NotifyEvent", "params": {"events": [7]}}) == {}
    assert made(*others) == {"shelly/1": others}
