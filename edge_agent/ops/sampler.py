"""Looking at the agent: one picture on demand, and rates from samples in between."""

from __future__ import annotations

import math
import os

import trio

from edge_agent import __version__
from edge_agent.errors import StoreError
from edge_agent.ops import figures, health
from edge_agent.ops.facts import (
    Sources,
    alarm_status,
    certificate_status,
    copies_status,
    facts,
    journal_status,
    log_status,
    refused_status,
    store_status,
)
from edge_agent.ops.forecast import Projections, about_wear
from edge_agent.ops.status import AgentStatus, LogStatus, Status, StreamsStatus, UpstreamStatus
from edge_agent.ops.streams import Directory
from edge_agent.values.record import NANOSECONDS, format_time
from edge_agent.wear import Keeper, Wear

#: A slow timer that keeps rates honest while nobody asks; the only tick at rest.
TICK_S = 10.0
#: Files are looked at again at most this often.
FILES_S = 1.0
#: Connections that are listed one by one; the others are only counted.
CONNECTIONS_SHOWN = 200
#: The same of alarms; health and metrics count all.
ALARMS_SHOWN = 500


class Watch:
    """Looks at the agent for as long as `run` runs; made once its clock and log are there."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.directory = Directory(sources.log)
        self._started = sources.clock.read()
        self._cpu_before_s = 0.0
        self._ring = figures.Ring(self._sample())
        self.keeper = Keeper(sources.config, sources.log, sources.clock, sources.metrics)
        self._projections = Projections(
            sources.config, sources.log, sources.metrics, sources.configured
        )
        self._files, self._files_again_s = health.FilesFact(), -math.inf
        sources.metrics.set("start_time_seconds", self._started.wall_ns / NANOSECONDS)

    async def run(self) -> None:
        """Keep the list of streams, a sample every `TICK_S` and the budget, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.directory.run)
            while True:
                self._ring.add(self._sample())
                self._projections.sample(self._now_s(), self.sources.upstreams())
                await self.keeper.tick()
                await trio.sleep(TICK_S)

    def commit_waits_s(self) -> float:
        """For how long the committer has made no progress: the watchdog's marker.

        While the disk refuses it tries again and again, which is progress: a restart would not
        help the disk, and the verdict on health says ``failed`` already. Only a call that does
        not return counts then.
        """
        commit = self.sources.log.statistics().commit
        return max(commit.calling_for or 0.0, 0.0 if commit.trouble else commit.overdue)

    def describe(self) -> str:
        """One line for ``systemctl status``."""
        if self.sources.log.trouble:
            return f"the disk refuses: {self.sources.log.trouble}"
        away = [one.name for one in self.sources.upstreams() if one.error]
        return f"cannot reach {', '.join(away)}" if away else "keeping and forwarding"

    async def look(self) -> Status:
        """The picture, now. Looks at the file once, in a thread."""
        sources, log = self.sources, self.sources.log
        try:
            store = await log.store_statistics()
            problem = log.trouble
        except StoreError as error:
            store, problem = None, log.trouble or str(error)
        sample = self._sample()
        rates = self._ring.figures(sample)
        self._ring.add(sample)
        commit = log.statistics().commit
        logs = tuple(
            log_status(name, sources.config, store, log, sources.metrics) for name in log.names()
        )
        upstreams = tuple(sources.upstreams())
        wear = self.keeper.look()
        logs, upstreams = self._project(logs, upstreams, wear)
        connections = sources.connections()
        file = store_status(
            sources.config, store, commit, problem, sources.metrics, sources.scrub()
        )
        files = await self._look_at_files()
        history = sources.digester.status() if sources.digester is not None else None
        alarms = alarm_status(sources.alarms())
        waits_s = self.commit_waits_s()
        known = facts(sources, file, waits_s, logs, upstreams, wear, files, history, alarms)
        return Status(
            agent=self._agent_status(),
            health=health.judge(known),
            figures=rates,
            store=file,
            logs=logs,
            upstreams=upstreams,
            connections=tuple(connections[:CONNECTIONS_SHOWN]),
            connections_open=len(connections),
            streams=StreamsStatus(
                len(self.directory), self.directory.forgotten, self.directory.undated()
            ),
            wear=wear,
            wear_outlook=about_wear(wear),
            copies=copies_status(log.identity, sources.copies()),
            refused=refused_status(sources.refused.listing(), sources.clock.read().wall_ns),
            history=history,
            alarms=alarms[:ALARMS_SHOWN],
            journal=journal_status(sources.journal()),
            certificate=certificate_status(files.certificate),
        )

    async def _look_at_files(self) -> health.FilesFact:
        """The files that the configuration names, once a second at most and in a thread."""
        now_s = self._now_s()
        if now_s >= self._files_again_s:
            self._files_again_s = now_s + FILES_S
            self._files = await trio.to_thread.run_sync(self.sources.files)
        return self._files

    def _project(
        self, logs: tuple[LogStatus, ...], upstreams: tuple[UpstreamStatus, ...], wear: Wear
    ) -> tuple[tuple[LogStatus, ...], tuple[UpstreamStatus, ...]]:
        configured = max(float(log.commit_interval) for log in self.sources.config.log.values())
        return self._projections.project(
            self._now_s(),
            logs,
            upstreams,
            interval_s=configured if wear.budget is None else wear.budget.interval_s,
            clock_synced=self.sources.clock.read().synced,
        )

    def _now_s(self) -> float:
        return self.sources.clock.read().boot_ns / NANOSECONDS

    def _sample(self) -> figures.Sample:
        now = self.sources.clock.read()
        cpu_s = figures.cpu_seconds()
        self.sources.metrics.add("cpu_seconds_total", cpu_s - self._cpu_before_s)
        self._cpu_before_s = cpu_s
        return figures.take(self.sources.metrics, now.boot_ns / NANOSECONDS, cpu_s)

    def _agent_status(self) -> AgentStatus:
        identity = self.sources.log.identity
        now = self.sources.clock.read()
        return AgentStatus(
            id=identity.agent_id,
            version=__version__,
            store_id=identity.store_id,
            epoch=identity.epoch,
            started=format_time(self._started.wall_ns),
            uptime_s=(now.boot_ns - self._started.boot_ns) / NANOSECONDS,
            time=format_time(now.wall_ns),
            clock_synced=now.synced,
            pid=os.getpid(),
        )
