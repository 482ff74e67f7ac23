"""``edge-agent erase STREAM``: a stream's records are gone, from the file's bytes too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from edge_agent.cli.common import STREAM_PATTERN, config_options
from edge_agent.cli.compact import keys_of, not_in_use, progress_bar, store_of, what_remains
from edge_agent.cli.run import settings_of
from edge_agent.cli.store_access import agreed
from edge_agent.config import UPSTREAM
from edge_agent.digest import rewrite_history
from edge_agent.forward import without_records
from edge_agent.live import RULE, state_without
from edge_agent.ops.text import amount
from edge_agent.output.printable import json_text
from edge_agent.security.audit import audited
from edge_agent.store.tools import Erasing, erase_streams
from edge_agent.system.files import acting_as_owner
from edge_agent.values.stream_names import compile_pattern


@click.command()
@click.argument("stream", type=STREAM_PATTERN)
@config_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="What was erased, as JSON.")
def command(
    stream: str, config: Path | None, data: str | None, *, yes: bool, as_json: bool
) -> None:
    """Erase STREAM (a name, or a pattern with * and **) from the store.

    From every log, from history and from quarantine; the files are written anew without it, so that
    no byte of it stays in them. The agent must not be running on it. What upstreams, backups and
    readers already have is theirs, and on the card itself a file's former blocks may be readable
    until they are used again (fstrim lets go of them).
    """
    matches = compile_pattern(stream)
    path = store_of(config, data)
    agreed(f"Erase {stream} from {path} for good?", yes=yes)
    literal = "" if "*" in stream else stream
    level = settings_of(config, data).store.compression_level
    seals = keys_of(config)
    with (
        audited("erase", f"{stream} from {path}") as outcome,
        not_in_use(),
        acting_as_owner(path),
        progress_bar("erasing") as progress,
    ):
        rebuilt, found = erase_streams(
            path, matches, literal, level, progress, seals=seals,
            forget=partial(_forgotten, matches), restate=_restated,
        )  # fmt: skip
        history = rewrite_history(path, matches, seals)
        outcome.told = f"done: {sum(found.records.values())} records, {found.entries} entries"
    if as_json:
        told = {"records": found.records, "quarantine": found.entries, "damaged": found.damaged}
        told |= {"history": history, "mentioned": sorted(found.mentioned), **asdict(rebuilt)}
        click.echo(json_text(told, indent=2))
        return
    _tell(path, found, history)


def _forgotten(matches: Callable[[str], bool], consumer: str, state: bytes) -> bytes:
    # A rule's open windows and alarms are figures of it as well.
    return state_without(state, matches) if consumer.startswith(RULE) else state


def _restated(consumer: str, state: bytes) -> bytes:
    # What an HTTP upstream was sent under a key, it must not be sent under that key with less.
    return without_records(state) if consumer.startswith(UPSTREAM) else state


def _tell(path: Path, found: Erasing, history: list[str]) -> None:
    for name, count in sorted(found.records.items()):
        click.echo(f"erased {name}: {amount(count)} records")
    if found.entries:
        click.echo(f"erased {found.entries} entries of quarantine")
    for name in history:
        click.echo(f"erased {name} from history")
    if not found.records and not found.entries and not history:
        click.echo("there was nothing of it; the store was compacted all the same")
    if found.damaged:
        click.echo(f"left out {found.damaged} blocks that could not be read, whatever they held")
    if found.damaged_entries:
        click.echo(f"left out {found.damaged_entries} entries of quarantine that could not be read")
    for consumer in sorted(found.mentioned):
        click.echo(f"still there: {consumer} keeps something of it in its state")
    for line in what_remains(path):
        click.echo(line)
    click.echo("not reached: backups, other machines that already have it, free blocks of the card")
