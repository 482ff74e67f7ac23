"""``edge-agent demo``: the main job, from a sensor to disk to upstream, before your eyes.

A hub and an agent run as real processes on free loopback ports; this machine and a few simulated
sensors send to the agent; the uplink between the two is cut and restored, again and again. At the
end both sides are compared: every record that the agent acked to a sensor must be at the hub, once
and unchanged. The exit code is 1 on any difference.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from edge_agent.cli.async_main import run
from edge_agent.cli.common import Failure
from edge_agent.cli.demo.compare import DemoVerdict
from edge_agent.cli.demo.run import Demo, verify
from edge_agent.cli.demo.sensors import make_sensors
from edge_agent.cli.demo.view import make_view

#: Without a terminal nobody presses Ctrl-C.
SECONDS_WITHOUT_TERMINAL = 30.0


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself after so long.")
@click.option("--sensors", type=click.IntRange(1, 50), default=4, show_default=True)
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
    for what, count in (
        ("sent", verdict.sent),
        ("acked", verdict.acked),
        ("at the hub", verdict.at_hub),
        ("lost", verdict.lost),
        ("duplicates", verdict.duplicates),
    ):
        click.echo(f"{what:11} {count:>10,}")
    for what, count in (("altered", verdict.altered), ("never sent", verdict.strangers)):
        if count:
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
