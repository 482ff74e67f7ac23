"""``edge-agent sensor modbus`` with pymodbus' server, and with devices that answer nonsense."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from benchmarks.ports import free_port
from benchmarks.processes import ROOT, wait_listening
from edge_agent.cli.sensor.modbus_device import ModbusDevice, ModbusReader, ModbusRegister
from tests.end_to_end.support import AgentProcess, agents, eventually
from tests.patience import PATIENCE_S
from tests.preloaded import Forked, nest

DEVICE = """
host = "127.0.0.1"
port = {port}
unit = 7
stream = "plant/meter"
interval = 0.05
timeout = {timeout}
register = [
    {{ name = "voltage", address = 0, scale = 0.1 }},
    {{ name = "temperature", address = 1, type = "i16", scale = 0.1 }},
    {{ name = "frequency", address = 2, type = "f32" }},
    {{ name = "pressure", address = 4, type = "f32", order = "CDAB" }},
    {{ name = "energy", address = 6, type = "u32" }},
    {{ name = "balance", address = 8, type = "i64", order = "CDAB" }},
    {{ name = "small", address = 20, type = "f64" }},
    {{ name = "level", address = 1, kind = "input" }},
    {{ name = "pump", address = 0, kind = "coil", type = "bool" }},
    {{ name = "alarm", address = 1, kind = "discrete", type = "bool" }},
    {{ name = "valve", address = 2, kind = "discrete", type = "bool" }},
    {{ name = "nowhere", address = 900 }},
]
"""
SAID = {
    "voltage": 230.4, "temperature": -21.5, "frequency": 50.25, "pressure": 1013.5,
    "energy": 70_000, "balance": -5_000_000_000, "small": 0.125, "level": 18, "pump": True,
    "alarm": False, "valve": True,
}  # fmt: skip


@contextmanager
def device(port: int, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.cli.sensor.modbus_server", str(port)]
    with (folder / "device.txt").open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        wait_listening(port, process, folder / "device.txt")
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def sensor(agent: AgentProcess, port: int, folder: Path) -> Iterator[Forked]:
    (folder / "meter.toml").write_text(DEVICE.format(port=port, timeout=PATIENCE_S))
    command = ["edge_agent", "sensor", "modbus", str(folder / "meter.toml")]
    command += ["--to", agent.url, "--buffer", str(folder / "meter.buffer")]
    with (folder / "sensor.txt").open("ab") as output:
        process = nest().fork(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


@pytest.mark.needs("pymodbus")
async def test_a_real_server_s_registers_become_records_over_cuts_on_both_sides(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path, "agent", '[log.main]\ncommit_interval = "10ms"\n')
    port = free_port()

    async def more() -> None:
        before = await agent.count()

        async def there() -> bool:
            return await agent.count() > before + 1

        await eventually(there, describe="records of the device")

    async def told(text: str) -> None:
        async def said() -> bool:
            return text in (tmp_path / "sensor.txt").read_text()

        await eventually(said, describe=text)

    async with agents(agent):
        # The device is not there yet, then there, gone, there; and so is the agent.
        with sensor(agent, port, tmp_path) as process:
            await told("trying again")
            with device(port, tmp_path):
                await more()
                await told("nowhere: it has no such address")
                await agent.kill()
                await told(f"127.0.0.1:{agent.port}")
                await agent.start()
                await more()
            await told("the device has closed the connection")
            with device(port, tmp_path):
                await more()
        assert process.returncode == 0
        assert "0 kept" in (tmp_path / "sensor.txt").read_text()
        records = await agent.records()
    assert all(one["fields"] == SAID for one in records)
    assert {(one["stream"], one["source"]) for one in records} == {("plant/meter", "modbus/meter")}


@pytest.mark.parametrize(
    "answer, said",
    [
        (b"", "closed"),
        (b"\0\1\0\0\0\3\x07", "closed"),
        (b"HTTP/1.1 400 Bad Request\r\n", "no answer of Modbus"),
        (b"\0\2\0\0\0\5\x07\3\2\0\1", "no answer of Modbus"),
        (b"\0\1\0\0\0\5\x07\4\2\0\1", "something else"),
        (b"\0\1\0\0\0\7\x07\3\4\0\1\0\1", "another number"),
    ],
)
async def test_an_answer_that_is_none_costs_the_connection(answer: bytes, said: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(100)
            if answer:
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        reader = ModbusReader(
            ModbusDevice(
                "127.0.0.1", "s", (ModbusRegister("x", 0),), port=port, unit=7, timeout=PATIENCE_S
            )
        )
        with pytest.raises(OSError, match=said):
            await reader.read()
        nursery.cancel_scope.cancel()


async def test_a_device_that_is_silent_is_given_up_after_its_timeout() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    reader = ModbusReader(
        ModbusDevice("127.0.0.1", "s", (ModbusRegister("x", 0),), port=port, timeout=0.05)
    )
    with pytest.raises(OSError, match=r"no answer within 0\.05 s"):
        await reader.read()
    await listeners[0].aclose()
