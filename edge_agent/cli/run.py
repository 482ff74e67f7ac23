"""``edge-agent run``: the agent itself, in the foreground, until a signal.

The first SIGTERM or SIGINT drains: nothing new is taken, what was accepted is committed and acked.
A second one ends it at once; what was acked is on the card either way. SIGHUP says that a
certificate, a token, rules or upstreams were changed, and ends nothing, as a terminal that is
closed sends it, too.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from edge_agent.assembly.wiring import ports_of
from edge_agent.cli import process
from edge_agent.cli.common import Failure, first_of, run_options
from edge_agent.config import Config, ConfigMistakes, examine
from edge_agent.errors import ConfigError
from edge_agent.net.kept_sockets import KeptSockets, inherited
from edge_agent.ops.systemd import Notifier
from edge_agent.output.printable import why

if TYPE_CHECKING:
    from edge_agent.agent import Running

logger = logging.getLogger(__name__)


@click.command()
@run_options
@click.option("--listen", metavar="HOST:PORT", help="Sensors' port; port 0 takes a free one.")
@click.option("--http", metavar="HOST:PORT|off", help="People's port: page, API, metrics.")
@click.option("--upstream", "upstreams", metavar="NAME=URL", multiple=True, help="Forward to URL.")
def command(
    config: Path | None,
    data: str | None,
    listen: str | None,
    http: str | None,
    upstreams: tuple[str, ...],
) -> None:
    """Run the agent until SIGTERM or Ctrl-C; then it drains."""
    settings = settings_of(config, data, listen, http, upstreams)
    was_empty = _is_empty(config)

    def reread() -> Config:
        if not was_empty:
            refuse_emptied(config)
        return settings_of(config, data, listen, http, upstreams)

    process.before_start()
    kept = _kept_sockets()
    refused: list[ExceptionGroup[OSError]] = []
    drained = False
    try:
        drained = trio.run(run_until_signal, settings, reread, kept)
    except* OSError as group:
        # An address that is taken, or none of this machine's. (What the store and upstreams do
        # to the agent is handled within it.)
        refused.append(group)
    if refused:
        # Whatever it was: the next start opens its ports anew.
        kept.keep_only(())
        # Not in the clause: Debian 12's Python 3.11.2 puts what is raised there into a group.
        raise Failure(f"cannot run: {why(first_of(refused[0]))}") from refused[0]
    if not drained:
        raise Failure("ended by a second signal before everything was drained")


def _is_empty(config: Path | None) -> bool:
    try:
        return config is None or not config.read_bytes().strip()
    except OSError:
        return False  # Whoever reads it says why.


def refuse_emptied(config: Path | None) -> None:
    """A file that held a configuration and is empty now is about to be written, or could not be,
    as where a disk is full. Taken at its word it would remove every rule and upstream.

    Raises:
        ConfigError: it is empty.
    """
    if config is not None and config.is_file() and _is_empty(config):
        raise ConfigError(str(config), "a configuration, as at the start", "an empty file")


def settings_of(
    config: Path | None,
    data: str | None = None,
    listen: str | None = None,
    http: str | None = None,
    upstreams: tuple[str, ...] = (),
) -> Config:
    """The configuration with what the command line adds.

    Raises:
        ConfigError: names the file, variable or option.
    """
    settings, wrong = examined(config, data, listen, http, upstreams)
    wrong.raise_all()
    return settings


def examined(
    config: Path | None = None,
    data: str | None = None,
    listen: str | None = None,
    http: str | None = None,
    upstreams: tuple[str, ...] = (),
) -> tuple[Config, ConfigMistakes]:
    """The same, and what is wrong with it; see `edge_agent.config.examine`."""
    options = {"store.path": data, "listen.address": listen, "http.address": http}
    overrides: dict[str, object] = {key: text for key, text in options.items() if text is not None}
    for given in upstreams:
        name, equals, url = given.partition("=")
        if not (name and equals and url) or "." in name:
            raise ConfigError(
                "command line: --upstream", "NAME=URL, such as hub=ws://hub:8765/forward", given
            )
        overrides[f"upstream.{name}.url"] = url
    return examine(config, env=os.environ, overrides=overrides)


def _kept_sockets() -> KeptSockets:
    notifier = Notifier.from_environment()
    tell = notifier.tell if notifier.active else None
    kept = KeptSockets(tell, notifier.settled, inherited(os.environ))
    if kept.addresses:
        logger.info("sockets that stayed open: %s", ", ".join(kept.addresses))
    return kept


async def run_until_signal(
    settings: Config,
    reread: Callable[[], Config] | None = None,
    kept: KeptSockets | None = None,
) -> bool:
    """The agent until it is told to stop; False where a second signal cut the drain short.
    ``reread`` gives the settings anew when somebody has changed them (SIGHUP); ``kept`` are the
    sockets of the agent before.
    """
    from edge_agent import agent

    stop, drained = trio.Event(), False
    # Room for one: a renewal takes up whatever was renewed before it.
    hung_up, hangups = trio.open_memory_channel[None](1)
    async with trio.open_nursery() as nursery:
        await nursery.start(_obey_signals, stop, hung_up, nursery.cancel_scope)
        if kept is not None and kept.addresses:
            kept.keep_only(await ports_of(settings))
        async with trio.open_nursery() as inner:
            running = partial(
                agent.run, settings, stop=stop, hangups=hangups, reread=reread, kept=kept
            )
            _announce(await inner.start(running))
            process.after_start()
        drained = True
        nursery.cancel_scope.cancel("the agent has ended")
    return drained


async def _obey_signals(
    stop: trio.Event,
    hung_up: trio.MemorySendChannel[None],
    everything: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        if process.EARLY_HANGUP.came:
            # Perhaps after the configuration was read.
            hung_up.send_nowait(None)
        async for number in signals:
            if number == signal.SIGHUP:
                with suppress(trio.WouldBlock):
                    hung_up.send_nowait(None)
                continue
            name = signal.Signals(number).name
            if stop.is_set():
                logger.warning("%s again: ending now", name)
                everything.cancel("second signal")
                return
            logger.info("%s: draining; once more to end at once", name)
            stop.set()


def _announce(running: Running) -> None:
    sensors = ", ".join(str(address) for address in running.sensor_addresses)
    logger.info("sensors: %s · people: %s", sensors, running.http_address or "off")
