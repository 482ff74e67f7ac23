"""``edge-agent compact``: the store written anew, so that what was deleted is not in it any more.

LMDB reuses pages but never clears them: records that were trimmed stay readable in the file until
something else takes their place. The file keeps its size, which is reserved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edge_agent.cli.common import Failure, config_options, quit_if_no_store
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.run import settings_of
from edge_agent.digest import rewrite_history
from edge_agent.errors import StoreLocked
from edge_agent.ops.text import size
from edge_agent.seal import KeyRing, read_keys
from edge_agent.security.audit import audited
from edge_agent.store import damaged_folders
from edge_agent.store.tools import compact_store
from edge_agent.system.files import acting_as_owner


@click.command()
@config_options
def command(config: Path | None, data: str | None) -> None:
    """Write the store anew, without what was deleted.

    All of it is sealed then by the first key of store.key_file, or open where none is configured
    or store.seal is false. The agent must not be running on it. Needs room for what the store
    holds, beside the store.
    """
    path = store_of(config, data)
    seals = keys_of(config)
    with (
        audited("compact", str(path)),
        not_in_use(),
        acting_as_owner(path),
        progress_bar("compacting") as progress,
    ):
        done = compact_store(path, progress, seals)
        rewrite_history(path, seals=seals)
    click.echo(
        f"{path}: {done.blocks} blocks, {size(done.before_bytes)} in use before,"
        f" {size(done.after_bytes)} now"
    )
    for line in what_remains(path):
        click.echo(line)


def store_of(config: Path | None, data: str | None) -> Path:
    """The agent's folder; there is a store in it."""
    path = Path(settings_of(config, data).store.path)
    quit_if_no_store(path)
    return path


def keys_of(config: Path | None) -> KeyRing:
    """What seals the store, and opens it. Raises ConfigError."""
    store = settings_of(config).store
    return read_keys(store.key_file, os.urandom, seals=store.seal)


@contextmanager
def not_in_use() -> Iterator[None]:
    """Says what to do where an agent runs on the store."""
    try:
        yield
    except StoreLocked as error:
        raise Failure(f"{error}: stop the agent first", error.exit_code) from error


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how many bytes of how many are done."""
    with ProgressBar(what, 100) as bar:
        yield lambda done, total: bar.show(100 * done / max(total, 1), size(done))


def what_remains(path: Path) -> Iterator[str]:
    """Where else on this card records may be that were deleted here."""
    for folder in (*damaged_folders(path), *sorted(path.glob("replaced-*"))):
        yield f"still there: {folder}, an older store; remove it if nobody needs it"
