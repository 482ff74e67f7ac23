"""``edge-agent backup TARGET``: the store as of one commit, into a folder or a tar file."""

from __future__ import annotations

import os
import tarfile
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec

from edge_agent import __version__
from edge_agent.cli.common import Failure, config_options
from edge_agent.cli.compact import progress_bar, store_of
from edge_agent.digest import back_up_history
from edge_agent.ops.text import size
from edge_agent.output.printable import json_text, printable
from edge_agent.store import DATA
from edge_agent.store.tools import MANIFEST, Manifest, Progress, take_backup
from edge_agent.system.files import SECRET, acting_as_owner, whole_file


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@config_options
@click.option("--json", "as_json", is_flag=True, help="The manifest, as JSON.")
def command(target: Path, config: Path | None, data: str | None, *, as_json: bool) -> None:
    """Back the store up to TARGET, a new folder, or a file if it ends in .tar.

    The agent may be running: what it acks meanwhile is not in the backup, what it acked before is.
    Run it as the agent's user, or as root. `edge-agent restore` makes a store of it.
    """
    path = store_of(config, data)
    with acting_as_owner(target.parent), progress_bar("backing up") as progress:
        if target.suffix == ".tar":
            manifest = _packed(path, target, progress)
        else:
            manifest = _taken(path, target, progress)
    if as_json:
        click.echo(json_text(msgspec.to_builtins(manifest), indent=2))
    else:
        click.echo(f"{target}: {describe(manifest)}")


def describe(manifest: Manifest) -> str:
    """One line about a backup."""
    last = ", ".join(f"{log} up to {seq}" for log, seq in manifest.last.items())
    return printable(f"agent {manifest.agent_id}, {last}, {size(manifest.bytes)}")


def _taken(path: Path, target: Path, progress: Progress) -> Manifest:
    more = partial(back_up_history, path)
    return take_backup(path, target, __version__, time.time_ns(), progress, more=more)


def _packed(path: Path, target: Path, progress: Progress) -> Manifest:
    if os.path.lexists(target):
        raise Failure(f"{target} exists; a backup is not written over another")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
            folder = Path(beside) / "backup"
            manifest = _taken(path, folder, progress)
            with whole_file(target, SECRET) as out, tarfile.open(fileobj=out, mode="w") as tar:
                for name in (MANIFEST, DATA, *manifest.files):
                    tar.add(folder / name, name)
    except OSError as error:
        raise Failure(f"{target}: {error.strerror or error}") from error
    return manifest
