"""``edge-agent sensor host``: this machine itself as a sensor.

One record per interval: CPU, memory, disk, network and, where the board tells it, temperature.
Rates (network, disk) are per second since the record before.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import trio

from edge_agent.cli.agent_http import sensor_options
from edge_agent.cli.async_main import run
from edge_agent.cli.common import SOURCE_NAME, STREAM_NAME, Failure, Family
from edge_agent.cli.send.options import (
    EX_DATAERR,
    Diary,
    buffer_option,
    host_name,
    ingest_url,
    told_counts,
)
from edge_agent.cli.sensor.ticks import Ticks
from edge_agent.client import Producer, Trouble, Unacked


class HostReader:
    """Reads this machine, by psutil.

    Args:
        path: the file system whose fill is told.
        now: seconds on a clock that never jumps.
    """

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        import psutil

        self._psutil: Any = psutil
        self._path = path
        self._now = now
        self._before: dict[str, int] = {}
        self._before_at = 0.0
        # The first percentage is since an earlier call, so that call is made here.
        psutil.cpu_percent()
        self._rates()

    def read(self) -> dict[str, float]:
        """One record's fields: percent, bytes, bytes per second, degrees Celsius."""
        psutil = self._psutil
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(self._path)
        fields: dict[str, float] = {
            "cpu_percent": psutil.cpu_percent(),
            "load_1m": round(psutil.getloadavg()[0], 2),
            "memory_percent": memory.percent,
            "memory_available_bytes": memory.available,
            "disk_percent": disk.percent,
            "disk_free_bytes": disk.free,
        }
        fields |= self._rates()
        temperature = self._temperature()
        if temperature is not None:
            fields["temperature_celsius"] = temperature
        return fields

    def _rates(self) -> dict[str, float]:
        network, disk = self._psutil.net_io_counters(), self._psutil.disk_io_counters()
        counters: dict[str, int] = {}
        if network is not None:
            counters["network_received_bytes_per_second"] = network.bytes_recv
            counters["network_sent_bytes_per_second"] = network.bytes_sent
        if disk is not None:
            counters["disk_read_bytes_per_second"] = disk.read_bytes
            counters["disk_written_bytes_per_second"] = disk.write_bytes
        at = self._now()
        seconds = max(at - self._before_at, 0.001)
        # A counter that went back has wrapped or its device was removed: no rate this time.
        rates = {
            name: round((value - self._before[name]) / seconds, 1)
            for name, value in counters.items()
            if self._before.get(name, value + 1) <= value
        }
        self._before, self._before_at = counters, at
        return rates

    def _temperature(self) -> float | None:
        """The hottest sensor of the processor, or of anything where none is named so."""
        try:
            groups = self._psutil.sensors_temperatures()
        except (AttributeError, OSError):
            return None
        named = [group for name, group in groups.items() if re.search(r"cpu|core|k10|soc", name)]
        found = [each.current for group in named or groups.values() for each in group]
        return max(found, default=None)


async def measure(
    producer: Producer, read: Callable[[], dict[str, Any]], interval: float, count: int | None
) -> int:
    """Send a record every ``interval`` seconds, ``count`` times or for ever; how many were sent."""
    ticks, sent = Ticks(interval), 0
    while count is None or sent < count:
        await producer.send(read(), time=datetime.now(UTC))
        sent += 1
        await ticks.wait()
    return sent


@click.group(cls=Family)
def command() -> None:
    """Be a sensor: this machine itself, an MQTT broker, or a Modbus device."""


@command.command()
@sensor_options
@click.option(
    "--stream",
    metavar="NAME",
    type=STREAM_NAME,
    help="Where records go. [default: host/HOSTNAME]",
)
@click.option(
    "--source", metavar="NAME", type=SOURCE_NAME, help="Who sends them. [default: host/HOSTNAME]"
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="Seconds from record to record.",
)
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many records.")
@click.option(
    "--for", "seconds", type=click.FloatRange(min=0.01), help="Stop after so many seconds."
)
@click.option("--disk", default="/", show_default=True, help="File system whose fill is told.")
@buffer_option
def host(
    url: str,
    token: str | None,
    ca_file: str | None,
    stream: str | None,
    source: str | None,
    interval: float,
    count: int | None,
    seconds: float | None,
    disk: str,
    buffer: Path | None,
) -> None:
    """This machine's own CPU, memory, disk, network and temperature.

    Says when the first record is acked, and what goes wrong. Ends with --count, --for or Ctrl-C,
    waits a few seconds for the last acks and counts them.
    """
    name = f"host/{host_name()}"
    diary = Diary()
    refused: list[str] = []
    told_first = [True] if count or seconds else []  # Its end is near, and counts.

    def trouble(told: Trouble) -> None:
        if told.kind == "nack":
            refused.append(told.message)
        diary.trouble(told)

    def acked(_: int) -> None:
        if not told_first:
            diary.say(f"the first record is acked; one more each {interval:g} s, until Ctrl-C")
            told_first.append(True)

    producer = Producer(
        ingest_url(url, stream or (None if "/ingest/" in url else name)),
        source=source or name,
        token=token,
        ca_file=ca_file,
        buffer_path=buffer,
        on_open=lambda _: diary.opened(),
        on_ack=acked,
        on_error=trouble,
    )
    reader, kept = HostReader(disk, time.monotonic), buffer is not None
    _measure_and_tell(producer, reader, interval, count, seconds, kept=kept)
    if refused:
        raise Failure(
            f"records were refused: {len(refused)}, the first one: {refused[0]}", EX_DATAERR
        )


def _measure_and_tell(
    producer: Producer,
    reader: HostReader,
    interval: float,
    count: int | None,
    seconds: float | None,
    *,
    kept: bool,
) -> None:
    async def main() -> None:
        async with producer:
            with trio.move_on_after(seconds or float("inf")):
                await measure(producer, reader.read, interval, count)

    try:
        run(main)
    except Unacked as error:
        raise Failure(str(error)) from error
    finally:
        counts = told_counts(producer.acked, producer.unacked, kept=kept)
        click.echo(counts, err=True)
