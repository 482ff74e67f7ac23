"""``edge-agent import FILE|FOLDER…``: what a file upstream wrote elsewhere, into an agent.

The other half of a disk that is carried: NDJSON files come in through the session that agents have
with one another, so each record once, with its time, source and id (docs/upstreams.md, "Files").
Nothing is remembered on this side: the agent knows how far it has come, so that the command simply
is run again after whatever went wrong.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from edge_agent.cli.agent_http import sensor_options
from edge_agent.cli.async_main import run
from edge_agent.cli.common import Failure
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.send.options import EX_DATAERR, EX_UNAVAILABLE
from edge_agent.errors import SinkUnavailable
from edge_agent.output.printable import why

if TYPE_CHECKING:
    from edge_agent.forward.carried import BroughtIn, Files

_to_options = partial(
    sensor_options,
    flag="--to",
    port="The sensors' port of the agent that gets them. [the one of this machine]",
)


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, metavar="FILE|FOLDER…", type=click.Path(exists=True)
)
@_to_options
@click.option(
    "--with-gaps", is_flag=True, help="Go on where a file is missing; it cannot follow later."
)
def command(
    paths: tuple[str, ...], url: str, token: str | None, ca_file: str | None, *, with_gaps: bool
) -> None:
    """Bring in the NDJSON files that a file upstream wrote, exactly once.

    Of a FOLDER all such files are taken, in the order of their numbers. A file that is broken is
    told with its line; nothing of it is taken, and what stands before it is. With tokens, the one
    that this takes has the scope forward.
    """
    # Imported here: what it needs is the agent's, and --help is quick.
    from edge_agent.forward.carried import find_files

    try:
        files = find_files(map(Path, paths))
    except OSError as error:
        raise Failure(f"{error.filename}: {why(error)}") from error
    if not files:
        raise Failure("there is no NDJSON file of a file upstream", EX_DATAERR)
    with ProgressBar("importing", None) as bar:
        _bring(files, _forward_url(url), token, ca_file, bar, with_gaps=with_gaps)


def _bring(
    files: Files,
    url: str,
    token: str | None,
    ca_file: str | None,
    bar: ProgressBar,
    *,
    with_gaps: bool,
) -> None:
    from edge_agent.config import Upstream
    from edge_agent.forward import Credentials, client_context
    from edge_agent.forward.carried import Bringing
    from edge_agent.system.clock import SystemClock

    upstream = Upstream(name="import", url=url, ca_file=ca_file)
    headers = () if token is None else (("Authorization", f"Bearer {token}"),)
    try:
        tls = client_context(ca_file) if upstream.scheme == "wss" else None
        credentials = Credentials(headers, tls, None, ())
        bringing = Bringing(
            upstream,
            credentials,
            SystemClock(),
            with_gaps=with_gaps,
            tell=lambda done: bar.show(done.records, f"{done.records:,} records"),
        )
        try:
            run(partial(bringing.run, files))
        finally:
            _tell(bringing.done)
    except SinkUnavailable as error:
        raise Failure(
            f"{url}: {error}. Run it again; nothing comes twice", EX_UNAVAILABLE
        ) from error
    if bringing.done.refused:
        refused, reason = bringing.done.refused, bringing.done.refusal
        raise Failure(f"{refused:,} blocks with records were refused: {reason}", EX_DATAERR)


def _tell(done: BroughtIn) -> None:
    for missing in done.missing:
        click.echo(f"given up: {missing}", err=True)
    click.echo(
        f"{done.records:,} records brought in, {done.known:,} were there already"
        f" ({done.files:,} files)",
        err=True,
    )


def _forward_url(url: str) -> str:
    """The URL of the port for agents, of a base URL. Raises Failure."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("ws", "wss") and parts.hostname is not None
    except ValueError:
        fits = False
    if not fits or parts.path.rstrip("/") not in ("", "/forward"):
        raise Failure(f"--to: expected ws://HOST:PORT or wss://HOST:PORT, found {url!r}", 2)
    return f"{parts.scheme}://{parts.netloc}/forward"
