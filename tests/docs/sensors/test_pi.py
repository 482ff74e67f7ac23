"""The programs of docs/sensors/pi.md, with gpiozero's own mock pins and files as sysfs has them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from tests.docs.examples import examples_of
from tests.docs.sensors.sensors import (
    STREAM,
    behind_a_relay,
    filled_in,
    more_than,
    running,
    said,
    values,
)
from tests.end_to_end.keys import Keys
from tests.patience import PATIENCE_S

PROGRAMS = {example.title: example.code for example in examples_of("sensors/pi.md", "python")}
#: Opens and closes the contact, from within the process that has the pin.
DRIVEN = """
import threading, time
from gpiozero import Device
from gpiozero.pins.mock import MockFactory
Device.pin_factory = MockFactory()
def drive():
    pin = Device.pin_factory.pin(17)
    while True:
        pin.drive_low(); time.sleep(0.05); pin.drive_high(); time.sleep(0.05)
threading.Timer(0.5, drive).start()
"""


def program(title: str, port: int, keys: Keys, folder: Path, token: str = "sensor") -> str:
    (folder / "ca.pem").write_bytes(keys.ca.read_bytes())
    return filled_in(PROGRAMS[title], port, keys, token)


@pytest.mark.needs("gpiozero")
async def test_every_change_of_a_pin_becomes_a_record_over_a_cut(
    tmp_path: Path, keys: Keys
) -> None:
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        code = program("A pin", relay.port, keys, tmp_path).replace("0.05", "None")
        (tmp_path / "door.py").write_text(DRIVEN + code)
        with running([sys.executable, "door.py"], tmp_path):
            await more_than(agent, 3, tmp_path)
            relay.cut()
            await trio.sleep(0.3)
            relay.restore()
            await more_than(agent, await agent.count() + 10, tmp_path)
        found = await values(agent, "closed")
    assert found == [n % 2 == 0 for n in range(len(found))]


async def test_thermometers_are_read_as_sysfs_shows_them(tmp_path: Path, keys: Keys) -> None:
    bus = tmp_path / "w1"
    # As kernels 6.6 and 4.19 show a DS18B20, one that was just switched on, and one whose line is
    # disturbed; the folder of the bus master has other names.
    files = {
        "28-0316a2795f3c/temperature": "21437\n",
        "28-0316a2795f3c/w1_slave": "57 01 4b 46 7f ff 0c 10 5a : crc=5a YES\n57 01 4b t=21437\n",
        "28-0316a2795fff/temperature": "-1250\n",
        "28-000000000001/w1_slave": (
            "ec ff 4b 46 7f ff 14 10 e4 : crc=e4 YES\nec ff 4b 46 7f ff 14 10 e4 t=-1250\n"
        ),
        "28-000000000002/temperature": "85000\n",
        "28-000000000003/w1_slave": (
            "ff ff ff ff ff ff ff ff ff : crc=c9 NO\nff ff ff ff ff ff ff ff ff t=-62\n"
        ),
        "28-000000000004/temperature": "",
        "w1_bus_master1/w1_master_slave_count": "6\n",
    }
    for name, text in files.items():
        (bus / name).parent.mkdir(parents=True, exist_ok=True)
        (bus / name).write_text(text)
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        code = program("1-Wire", relay.port, keys, tmp_path)
        code = code.replace("/sys/bus/w1/devices", str(bus)).replace("10.0", "0.05")
        (tmp_path / "thermometers.py").write_text(code)
        with running([sys.executable, "thermometers.py"], tmp_path):
            await more_than(agent, 2, tmp_path)
        fields = [one["fields"] for one in await agent.records(STREAM)]
        refused = program("1-Wire", relay.port, keys, tmp_path, token="reader")
        (tmp_path / "thermometers.py").write_text(refused.replace("/sys/bus/w1/devices", str(bus)))
        with running([sys.executable, "thermometers.py"], tmp_path):
            with trio.fail_after(PATIENCE_S):
                while "HTTP 403" not in said(tmp_path):
                    await trio.sleep(0.05)
    wanted = {"28-0316a2795f3c": 21.437, "28-0316a2795fff": -1.25, "28-000000000001": -1.25}
    assert all(one == wanted for one in fields)
