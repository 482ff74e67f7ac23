"""``edge-agent check``: is the store sound? Asked of an independent reader, not of the engine.

The store must not be in use, since a file that is being written to looks different from moment to
moment; the agent's own lock tells, and keeps an agent from starting meanwhile. Nothing is changed:
a damaged store is set aside and read back by the agent itself when it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from edge_agent.cli.common import Failure, config_options, holds_store
from edge_agent.cli.compact import keys_of
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.run import settings_of
from edge_agent.digest import HistoryReport, check_history
from edge_agent.errors import ConfigError, StoreFailed, StoreLocked
from edge_agent.ops.text import amount, size
from edge_agent.output.printable import counted, json_text
from edge_agent.seal import OPEN, KeyRing
from edge_agent.store import SalvageNote, StoreLock, loss_in_words
from edge_agent.store.tools import Deep, Report, check_store, look_deep
from edge_agent.system.files import acting_as_owner

_PROBLEMS_SHOWN = 50


@click.command()
@config_options
@click.option(
    "--deep", is_flag=True, help="Read all of it from the card, and decode every record twice."
)
@click.option("--json", "as_json", is_flag=True, help="The whole report, as JSON.")
def command(config: Path | None, data: str | None, *, deep: bool, as_json: bool) -> None:
    """Check a store for damage: every page, block and counter.

    With --deep it reads from the card itself, free pages too, lets LMDB's own verifier look, and
    decodes every record as a reader does. The agent must not be running on it. Exit code 0: sound;
    1: it is not; 75: in use. What is sealed is looked into where store.key_file can be read.
    """
    path = Path(data) if data is not None else Path(settings_of(config).store.path)
    if not holds_store(path):
        raise Failure(f"{path} holds no store; --config or --data names another")
    seals = _keys(config)
    with acting_as_owner(path), _held(path):
        try:
            found = _look_deep(path, seals) if deep else None
            with ProgressBar("checking", None) as bar:
                bar.show(0, "pages, blocks and counters")
                report = check_store(path, seals)
                history = check_history(path, deep=deep, seals=seals)
        except OSError as error:
            raise Failure(f"{path}: {error.strerror or error}") from error
    if as_json:
        told = asdict(report) | ({} if found is None else {"deep": asdict(found)})
        told |= {} if history is None else {"history": asdict(history)}
        click.echo(json_text(told, indent=2))
    else:
        _print(path, report, found, history)
    if report.problems and len(report.problems) == report.miscounted:
        raise Failure(f"{path} miscounts its bytes, no more: edge-agent compact counts them anew")
    if report.problems or (found is not None and found.problems):
        raise Failure(
            f"{path} is damaged; the agent sets it aside and saves what is sound when it starts"
        )
    if history is not None and history.problems:
        raise Failure(
            f"the history in {path} is damaged, the logs are sound: answers leave out what fails"
            " its checksum, and say so"
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


def _keys(config: Path | None) -> KeyRing:
    """The keys that there are: a card is also looked at where its key is not."""
    try:
        return keys_of(config)
    except ConfigError as error:
        click.echo(f"warning: {error}; what is sealed is not looked into", err=True)
        return OPEN


def _look_deep(path: Path, seals: KeyRing) -> Deep:
    data = path / "store" / "data.mdb"
    with ProgressBar("reading the card", 100) as bar:
        return look_deep(
            data,
            lambda done, total: bar.show(100 * done / total, f"{100 * done // total} %"),
            seals,
        )


def _print(path: Path, report: Report, deep: Deep | None, history: HistoryReport | None) -> None:
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
        click.echo(f"not there (lost, or passed over by a salvage or restore): {gap}")
    if report.salvaged:
        note = msgspec.convert(report.salvaged, SalvageNote, strict=False)
        loss = loss_in_words(note.missing, note.possible, all_known=note.all_known)
        click.echo(f"read back from a damaged one ({note.reason}): {loss}")
    problems = report.problems + ([] if deep is None else deep.problems)
    if history is not None:
        parts = ", ".join(f"{amount(count)} {what}" for what, count in history.parts.items())
        click.echo(
            f"history: {amount(history.records)} records of"
            f" {counted(history.series, 'stream')} ({parts})"
        )
        problems += history.problems
    for problem in problems[:_PROBLEMS_SHOWN]:
        click.echo(f"problem: {problem}")
    if len(problems) > _PROBLEMS_SHOWN:
        click.echo(f"and {len(problems) - _PROBLEMS_SHOWN} more")
    if deep is not None:
        click.echo(f"{size(deep.bytes)} read from the card, {amount(deep.records)} records decoded")
    sealed = report.sealed + (0 if history is None else history.sealed)
    if sealed:
        click.echo(
            f"{amount(sealed)} values are sealed and were not looked into: their checksums need no"
            " key, what is in them needs store.key_file"
        )
    if not problems:
        click.echo(f"{path}: sound")
