"""One demo, from starting the processes to comparing both sides."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import trio

from edge_agent.cli.agent_http import AgentAddress
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
from edge_agent.cli.demo.sensors import Sensor
from edge_agent.cli.demo.view import DemoMoment, DemoScreen, PlainView
from edge_agent.printable import why

T = TypeVar("T")

#: What the agent may take to bring its backlog to the hub once the uplink is there for good.
DRAIN_TIMEOUT = 60.0
_LEDGER = "ledger.json"


class Demo:
    """One demo.

    Args:
        folder: for stores, configurations and logs.
        sensors: who sends.
        seconds: how long; None until ``stop`` is set.
        view: what shows it.
    """

    def __init__(
        self,
        folder: Path,
        sensors: list[Sensor],
        seconds: float | None,
        view: PlainView | DemoScreen,
    ) -> None:
        self._folder = folder
        self._sensors = sensors
        self._seconds = seconds
        self._view = view
        self._hub = DemoProcess("hub", folder)
        self._relay = Relay(self._hub.sensor_port)
        self._agent: DemoProcess | None = None
        self._stop = trio.Event()
        self._began = 0.0
        self._backlog: int | None = None
        self._at_hub: int | None = None

    async def run(self) -> DemoVerdict:
        """Start everything, cut and restore, stop, drain, compare.

        Raises:
            Failure: a process did not start, or the backlog did not drain in time.
        """
        nodes = [self._hub]
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._relay.run)
                uplink = f"ws://127.0.0.1:{self._relay.port}/forward"
                self._agent = agent = DemoProcess("agent", self._folder, uplink)
                nodes.insert(0, agent)
                for node in nodes:
                    node.start()
                for node in nodes:
                    await node.ready()
                self._view.say(f"the agent's page: {agent.http_url}")
                await self._show(agent)
                await self._drain(agent)
                verdict = await self._compare()
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
            await background.start(self._obey_signals)
            background.start_soon(self._look, agent)
            background.start_soon(self._cut_and_restore)
            if self._seconds is not None:
                background.start_soon(self._stop_after, self._seconds)
            async with trio.open_nursery() as sensors:
                for sensor in self._sensors:
                    sensors.start_soon(sensor.run, agent.sensor_port, self._stop)
            background.cancel_scope.cancel()
        self._relay.restore()

    async def _obey_signals(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                # Only the first one is caught; a second Ctrl-C ends everything as usual.
                self._view.say("stopping: waiting for the last acks")
                self._stop.set()
                return

    async def _stop_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
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
        while True:
            self._backlog = await _in_thread(_backlog, agent.http_url)
            self._at_hub = await _in_thread(_records, self._hub.http_url)
            self._view.show(self._moment(agent))
            await trio.sleep(1 if isinstance(self._view, PlainView) else 0.25)

    def _moment(self, agent: DemoProcess) -> DemoMoment:
        return DemoMoment(
            seconds=trio.current_time() - self._began,
            sensors=[
                (each.name, len(each.ledger.sent), each.ledger.acked) for each in self._sensors
            ],
            uplink="CUT" if self._relay.is_cut else "up",
            cuts=self._relay.cuts,
            backlog=self._backlog,
            at_hub=self._at_hub,
            page=agent.http_url,
        )

    async def _drain(self, agent: DemoProcess) -> None:
        acked = sum(len(each.ledger.acked_numbers()) for each in self._sensors)
        with trio.move_on_after(DRAIN_TIMEOUT):
            while True:
                before = (self._backlog, self._at_hub)
                self._backlog = await _in_thread(_backlog, agent.http_url)
                self._at_hub = await _in_thread(_records, self._hub.http_url)
                if (self._backlog, self._at_hub) != before:
                    self._view.show(self._moment(agent))
                if self._backlog == 0 and (self._at_hub or 0) >= acked:
                    return
                await trio.sleep(0.2)
        self._view.say(f"the backlog did not drain within {DRAIN_TIMEOUT:g} s")

    async def _compare(self) -> DemoVerdict:
        ledgers = {each.source: each.ledger for each in self._sensors}
        (self._folder / _LEDGER).write_text(ledgers_to_json(ledgers))
        return await _in_thread(compare_with_hub, ledgers, self._hub.http_url)


def compare_with_hub(ledgers: dict[str, SensorLedger], hub_url: str) -> DemoVerdict:
    """The ledgers against a full read of the hub."""
    return compare(ledgers, _read_hub(hub_url))


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
        verdict = await _in_thread(compare_with_hub, ledgers, hub.http_url)
        await hub.stop()
    finally:
        hub.kill()
    return verdict


def _read_hub(url: str) -> Iterator[HubRecord]:
    for page in AgentAddress(url).pages({"stream": "**"}, None):
        for record in page["records"]:
            fields = record["fields"]
            number = fields.get("n")
            n = number if isinstance(number, int) else 0
            yield HubRecord(record["source"], n, fingerprint(fields))


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


def _backlog(url: str) -> int | None:
    status = _status(url)
    return None if status is None else sum(up["backlog_records"] for up in status["upstreams"])


def _records(url: str) -> int | None:
    status = _status(url)
    return None if status is None else sum(log["records"] for log in status["logs"])


def _status(url: str) -> dict[str, Any] | None:
    """None where it does not answer just now: the next look will tell."""
    try:
        status: dict[str, Any] = AgentAddress(url).json("/api/status")
    except Failure:
        return None
    return status
