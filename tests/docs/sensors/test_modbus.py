"""The description and the commands of docs/sensors/modbus.md, with pymodbus' own server."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from edge_agent.cli.sensor.modbus_device import ModbusRegister, load_device
from tests.cli.sensor.test_modbus import SAID, device
from tests.docs.examples import DOCS, examples_of, table_of
from tests.docs.sensors.sensors import STREAM, behind_a_relay, filled_in, more_than, running
from tests.end_to_end.keys import Keys

PAGE = "sensors/modbus.md"


@pytest.mark.needs("pymodbus")
async def test_the_page_s_description_is_read_and_its_command_sends(
    tmp_path: Path, keys: Keys
) -> None:
    (example,) = examples_of(PAGE, "toml")
    _, command = examples_of(PAGE, "sh")
    port = free_port()
    (tmp_path / "meter.toml").write_text(
        example.code.replace("192.168.1.40", "127.0.0.1")
        .replace("port = 502", f"port = {port}")
        .replace("unit = 1 ", "unit = 7 ")
        .replace("interval = 1.0", "interval = 0.05")
        .replace("timeout = 3.0", "timeout = 30.0")
    )
    (tmp_path / "ca.pem").write_bytes(keys.ca.read_bytes())
    (tmp_path / "token").write_text(keys.secrets["sensor"])
    async with behind_a_relay(tmp_path, keys) as (agent, relay):
        words = shlex.split(filled_in(command.code, relay.port, keys))
        assert words.pop(0) == "edge-agent"
        with (
            device(port, tmp_path),
            running([sys.executable, "-m", "edge_agent", *words], tmp_path),
        ):
            await more_than(agent, 2, tmp_path)
        names = {register.name for register in load_device(tmp_path / "meter.toml").register}
        wanted = {name: value for name, value in SAID.items() if name in names}
        assert len(wanted) == 6
        assert all(one["fields"] == wanted for one in await agent.records(STREAM))


def test_the_table_names_every_key_of_a_register() -> None:
    told = {
        key.strip("` ")
        for row in table_of(PAGE, "Key of a register |")
        for key in row[0].split(",")
    }
    assert told == set(ModbusRegister.__struct_fields__)
    assert "#install" in (DOCS / PAGE).read_text()
