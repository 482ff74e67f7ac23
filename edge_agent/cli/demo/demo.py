"""``edge-agent demo``: the main job, from a sensor to disk to upstream, before your eyes.

A hub and an agent run as real processes on free loopback ports; this machine and a few simulated
sensors send to the agent; the uplink between the two is cut and restored, again and again. At the
end both sides are compared: every record that the agent acked to a sensor must be at the hub, once
and unchanged. The exit code is 1 on any difference.
"""

from __future__ import annotations

import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio

from edge_agent.cli.agent_http import AgentAddress
from edge_agent.cli.async_main import run
from edge_agent.cli.common import Failure
from edge_agent.cli.demo.compare import (
    DemoVerdict,
    HubRecord,
    SensorLedger,
    compare,
    fingerprint,
    ledgers_from_json,
    ledgers_to_json,
)
from edge_agent.cli.demo.processes import DemoProcess
from edge_agent.cli.demo.relay import Relay
from edge_agent.cli.demo.sensors import Sensor, make_sensors
from edge_agent.cli.demo.view import DemoMoment, PlainView, make_view
from edge_agent.output.printable import why

T = TypeVar("T")

#: Without a terminal nobody presses Ctrl-C.
SECONDS_WITHOUT_TERMINAL = 30.0
#: What the agent may take to bring its backlog to the hub once the uplink is there for good.
DRAIN_TIMEOUT = 60.0
_LEDGER = "ledger.json"


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself after so long.")
@click.option(
    "--sensors", type=click.IntRange(1, 50), default=4, show_default=True, help="How many."
)
@click.option("--plain", is_flag=True, help="Lines instead of a picture.")
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave stores, configurations, logs and the sensors' ledger in DIR (new or empty).",
)
@click.option(
    "--verify",
    "verified",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Only compare again what --keep left in DIR.",
)
def command(
    seconds: float | None, sensors: int, plain: bool, keep: Path | None, verified: Path | None
) -> None:
    """Show the main job: sensors, agent, hub, and a cable that is cut.

    Ends with Ctrl-C or --seconds; without a terminal after 30 seconds.
    """
    if verified is not None:
        verdict = run(partial(verify, verified.resolve()))
    else:
        if seconds is None and not sys.stdout.isatty():
            seconds = SECONDS_WITHOUT_TERMINAL
        view = make_view(plain=plain or None)
        with _folder(keep) as folder, view:
            verdict = run(Demo(folder, make_sensors(sensors), seconds, view).run)
    tell(verdict)
    if not verdict.is_clean:
        raise Failure("what was acked and what the hub holds differ")


def tell(verdict: DemoVerdict) -> None:
    """The figures that count, one line each."""
    told = {
        "sent": verdict.sent,
        "acked": verdict.acked,
        "at the hub": verdict.at_hub,
        "lost": verdict.lost,
        "duplicates": verdict.duplicates,
    }
    differences = {"altered": verdict.altered, "never sent": verdict.strangers}
    told |= {what: count for what, count in differences.items() if count}
    for what, count in told.items():
        click.echo(f"{what:11} {count:>10,}")
    for example in verdict.examples:
        click.echo(f"  {example}")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="edge-agent-demo-") as name:
            yield Path(name)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise Failure(f"--keep: {keep} is not empty", 2)
    yield keep.resolve()


class Demo:
    """One demo, from starting the processes to comparing both sides.

    Args:
        folder: for stores, configurations and logs.
        sensors: who sends.
        seconds: how long; None: until a signal comes.
        view: what shows it.
    """

    def __init__(
        self, folder: Path, sensors: list[Sensor], seconds: float | None, view: PlainView
    ) -> None:
        self._folder, self._sensors, self._seconds, self._view = folder, sensors, seconds, view
        self._hub = DemoProcess("hub", folder)
        self._relay = Relay(self._hub.sensor_port)
        self._stop = trio.Event()
        self._began = 0.0
        #: Records that the agent holds for the hub, and that the hub has.
        self._seen: tuple[int | None, int | None] = None, None

    async def run(self) -> DemoVerdict:
        """Start everything, cut and restore, stop, drain, compare.

        Raises:
            Failure: a process did not start.
        """
        nodes = [self._hub]
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._relay.run)
                uplink = f"ws://127.0.0.1:{self._relay.port}/forward"
                agent = DemoProcess("agent", self._folder, uplink)
                nodes.insert(0, agent)
                for node in nodes:
                    node.start()
                for node in nodes:
                    await node.ready()
                self._view.say(f"the agent's page: {agent.http_url}")
                await self._show(agent)
                await self._drain(agent)
                ledgers = {each.source: each.ledger for each in self._sensors}
                (self._folder / _LEDGER).write_text(ledgers_to_json(ledgers))
                verdict = await _in_thread(_compare_with_hub, ledgers, self._hub.http_url)
                nursery.cancel_scope.cancel()
            for node in nodes:
                await node.stop()
            return verdict
        finally:
            for node in nodes:
                node.kill()

    async def _show(self, agent: DemoProcess) -> None:
        self._began = trio.current_time()
        async with trio.open_nursery() as background:
            await background.start(self._stop_in_time)
            background.start_soon(self._look, agent)
            background.start_soon(self._cut_and_restore)
            async with trio.open_nursery() as sensors:
                for sensor in self._sensors:
                    sensors.start_soon(sensor.run, agent.sensor_port, self._stop)
            background.cancel_scope.cancel()
        self._relay.restore()

    async def _stop_in_time(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with (
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
            trio.move_on_after(self._seconds or math.inf),
        ):
            task_status.started()
            # Only the first one is caught; a second Ctrl-C ends everything as usual.
            await anext(signals)
            self._view.say("stopping: waiting for the last acks")
        self._stop.set()

    async def _cut_and_restore(self) -> None:
        whole = self._seconds or 48.0
        up, down = min(max(whole / 8, 1.0), 6.0), min(max(whole / 10, 1.0), 4.0)
        while True:
            await trio.sleep(up)
            self._view.say("the uplink is cut")
            self._relay.cut()
            await trio.sleep(down)
            self._view.say("the uplink is back")
            self._relay.restore()

    async def _look(self, agent: DemoProcess) -> None:
        """Show again and again how far everything is, until cancelled."""
        while True:
            await self._look_once(agent)
            await trio.sleep(self._view.interval_s)

    async def _look_once(self, agent: DemoProcess) -> None:
        backlog = await _in_thread(_sum, agent.http_url, "upstreams", "backlog_records")
        at_hub = await _in_thread(_sum, self._hub.http_url, "logs", "records")
        self._seen = backlog, at_hub
        self._view.show(
            DemoMoment(
                trio.current_time() - self._began,
                [(each.name, len(each.ledger.sent), each.ledger.acked) for each in self._sensors],
                "CUT" if self._relay.is_cut else "up",
                self._relay.cuts,
                backlog,
                at_hub,
                agent.http_url,
            )
        )

    async def _drain(self, agent: DemoProcess) -> None:
        acked = sum(len(each.ledger.acked_numbers()) for each in self._sensors)
        with trio.move_on_after(DRAIN_TIMEOUT):
            while self._seen[0] != 0 or (self._seen[1] or 0) < acked:
                await self._look_once(agent)
                await trio.sleep(0.2)
            return
        self._view.say(f"the backlog did not drain within {DRAIN_TIMEOUT:g} s")


async def verify(folder: Path) -> DemoVerdict:
    """Compare what ``--keep`` left in ``folder`` once more, with the hub's store as it is now."""
    try:
        ledgers = ledgers_from_json((folder / _LEDGER).read_text())
    except (OSError, ValueError) as error:
        raise Failure(f"{folder} is not what `demo --keep` leaves: {why(error)}") from error
    hub = DemoProcess("hub", folder)
    try:
        hub.start()
        await hub.ready()
        verdict = await _in_thread(_compare_with_hub, ledgers, hub.http_url)
        await hub.stop()
    finally:
        hub.kill()
    return verdict


def _compare_with_hub(ledgers: dict[str, SensorLedger], url: str) -> DemoVerdict:
    """The ledgers against a full read of the hub."""
    pages = AgentAddress(url).pages({"stream": "**"}, None)
    read = ((one["source"], one["fields"]) for page in pages for one in page["records"])
    return compare(
        ledgers,
        # What has no number is nobody's: numbers begin with 1.
        (HubRecord(source, fields.get("n", 0), fingerprint(fields)) for source, fields in read),
    )


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


def _sum(url: str, part: str, key: str) -> int | None:
    """A figure of status; None where it does not answer just now: the next look will tell."""
    try:
        counts: list[int] = [one[key] for one in AgentAddress(url).json("/api/status")[part]]
    except Failure:
        return None
    return sum(counts)
