"""``edge-agent check``: is the store sound? Asked of an independent reader, not of the engine.

The store must not be in use, since a file that is being written to looks different from moment to
moment; the agent's own lock tells, and keeps an agent from starting meanwhile. Nothing is changed:
a damaged store is set aside and read back by the agent itself when it starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from edge_agent.cli.common import Failure, config_options
from edge_agent.cli.run import settings_of
from edge_agent.errors import StoreFailed, StoreLocked
from edge_agent.ops.text import amount, size
from edge_agent.store.check import Report, check
from edge_agent.store.lock import StoreLock

_PROBLEMS_SHOWN = 50


@click.command()
@config_options
@click.option("--json", "as_json", is_flag=True, help="The whole report, as JSON.")
def command(config: Path | None, data: str | None, *, as_json: bool) -> None:
    """Check a store for damage: every page, block and counter.

    The agent must not be running on it. Exit code 0: sound; 1: it is not; 75: in use.
    """
    path = Path(data) if data is not None else Path(settings_of(config).store.path)
    if not (path / "store").is_dir():
        raise Failure(f"{path} holds no store")
    with _held(path):
        try:
            report = check(path)
        except OSError as error:
            raise Failure(f"{path}: {error.strerror or error}") from error
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        _print(path, report)
    if report.problems:
        raise Failure(
            f"{path} is damaged; the agent sets it aside and saves what is sound when it starts"
        )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    try:
        lock = StoreLock(path / "lock")
    except StoreLocked as error:
        raise Failure(
            f"{error}: the agent is running on it. Stop it first, or ask it: edge-agent status",
            error.exit_code,
        ) from error
    except StoreFailed as error:
        # A card that was mounted read-only to be looked at: nobody can be writing to it either.
        click.echo(f"warning: {error}; checking without a lock", err=True)
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _print(path: Path, report: Report) -> None:
    for name, log in report.logs.items():
        click.echo(
            f"log {name}: {amount(log.records)} records in {amount(log.blocks)} blocks,"
            f" seq {log.first} to {log.last}, {size(log.bytes)}"
        )
    click.echo(
        f"{report.sources} sources, {report.positions} positions,"
        f" {report.quarantined} in quarantine"
    )
    for gap in report.gaps:
        click.echo(f"lost earlier: {gap}")
    for problem in report.problems[:_PROBLEMS_SHOWN]:
        click.echo(f"problem: {problem}")
    if len(report.problems) > _PROBLEMS_SHOWN:
        click.echo(f"and {len(report.problems) - _PROBLEMS_SHOWN} more")
    if not report.problems:
        click.echo(f"{path}: sound")
