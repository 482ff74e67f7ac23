"""``edge-agent sensor modbus``: registers of a Modbus TCP device, through a session with acks.

One record for each reading that the device answered. What is read while the agent is away is kept
in a bounded buffer, in memory or in a file.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import trio

from edge_agent.cli.agent_http import sensor_options
from edge_agent.cli.async_main import run
from edge_agent.cli.common import SOURCE_NAME, Failure
from edge_agent.cli.send.options import Diary, buffer_option, ingest_url, told_counts
from edge_agent.cli.sensor.modbus_device import ModbusDevice, ModbusReader, load_device
from edge_agent.cli.sensor.ticks import Ticks
from edge_agent.client import Producer, Trouble, Unacked
from edge_agent.errors import ProtocolError
from edge_agent.output.printable import why

#: Between two attempts at a device that does not answer, at least; an interval may be shorter.
RETRY_S = 1.0


class Poller:
    """Reads a device at each interval, and hands what it says to a producer.

    Args:
        device: as its file describes it.
        diary: where trouble is told, each kind once in a row.
    """

    def __init__(self, device: ModbusDevice, diary: Diary) -> None:
        self._device, self._diary = device, diary
        self._reader = ModbusReader(device)
        self._told = ""
        self.refused = 0

    def trouble(self, told: Trouble) -> None:
        """For `Producer`: what the agent refuses stays in its quarantine."""
        self.refused += self._diary.refused(told, "record")

    async def run(self, producer: Producer) -> None:
        """Until cancelled."""
        ticks = Ticks(self._device.interval)
        try:
            while True:
                is_read = await self._read_once(producer)
                await ticks.wait(0 if is_read else RETRY_S)
        finally:
            with trio.CancelScope(shield=True):
                await self._reader.aclose()

    async def _read_once(self, producer: Producer) -> bool:
        device = self._device
        try:
            fields, troubles = await self._reader.read()
        except OSError as error:
            self._tell(f"{device.host}:{device.port}: {why(error)}; trying again")
            return False
        self._tell("; ".join(troubles))
        if fields:
            try:
                await producer.send(fields, time=datetime.now(UTC))
            except ProtocolError as error:
                self.refused += 1
                self._diary.say(f"left out a record: {error}")
        return bool(fields)

    def _tell(self, line: str) -> None:
        """Trouble, once; and its end."""
        if line != self._told:
            self._diary.say(line or "every register is read again")
        self._told = line


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@partial(sensor_options, flag="--to")
@click.option(
    "--source",
    metavar="NAME",
    type=SOURCE_NAME,
    help="Who sends them. [default: modbus/NAME-OF-FILE]",
)
@buffer_option
def modbus(
    file: Path,
    source: str | None,
    buffer: Path | None,
    url: str,
    token: str | None,
    ca_file: str | None,
) -> None:
    """Registers of a Modbus TCP device: a meter, an inverter, a PLC.

    FILE describes the device and its registers (docs/sensors/modbus.md). They are read at each
    interval, until Ctrl-C; each reading is one record.
    """
    device = load_device(file)
    diary = Diary()
    poller = Poller(device, diary)
    producer = Producer(
        ingest_url(url, None if "/ingest/" in url else device.stream),
        source=source or f"modbus/{file.stem}",
        token=token,
        ca_file=ca_file,
        buffer_path=buffer,
        on_open=lambda _: diary.opened(),
        on_error=poller.trouble,
    )
    try:
        run(partial(_poll, poller, producer))
    except Unacked as error:
        raise Failure(str(error)) from error
    finally:
        diary.say(told_counts(producer.acked, producer.unacked, kept=buffer is not None))


async def _poll(poller: Poller, producer: Producer) -> None:
    """Until SIGTERM or Ctrl-C; then what was read is stored."""
    async with producer, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, producer)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        nursery.cancel_scope.cancel()
