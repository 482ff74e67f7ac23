"""The command ``edge-agent send`` and its options.

Sending a file again doubles nothing, although nothing is remembered on this side: the source's
name derives from the file (its absolute path, its first line and the stream that it goes to), and
its n-th record *is* number n of that source. The agent's welcome says which numbers it has, and
those are passed over. So:

- killed half-way, the command simply is run again;
- a file that has grown since is continued;
- a file that has become shorter than what the agent has of it is an error, since then it is
  another file: ``--source`` gives it a name of its own;
- a file of the same name with another first line is another source; one that was changed in the
  middle is *not* noticed.

A record is a line of JSON, or a row of CSV; the header, blank lines and, with ``--skip-bad``, bad
rows are none and have no number. Records from stdin come from a source with a random name, since
nothing can be known of an earlier run.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path
from typing import BinaryIO, cast

import click

from edge_agent.cli.agent_http import sensor_options
from edge_agent.cli.async_main import run
from edge_agent.cli.common import SOURCE_NAME, STREAM_NAME
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.send.options import Diary, host_name, ingest_url
from edge_agent.cli.send.rows import BoundedLines, FileFormat, guess_format, read_rows
from edge_agent.cli.send.times import TimeReader
from edge_agent.cli.send.work import Sending, SendOutcome


def file_source(path: Path, first_line: str, stream: str) -> str:
    """The name of the source that a file is, e.g. ``file/temps.csv-1c5a0f9be2d7``.

    It is the same for the same absolute path, first line and stream, on this machine and on any
    other; a host name is not part of it, so that a moved card still resumes.
    """
    told = f"{path.resolve()}\0{first_line.rstrip()}\0{stream}".encode("utf-8", "surrogateescape")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[:100]
    return f"file/{name}-{hashlib.sha256(told).hexdigest()[:12]}"


def stdin_source() -> str:
    """A name that nobody used before."""
    return f"stdin/{host_name()}-{secrets.token_hex(6)}"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), default="-")
@sensor_options
@click.option(
    "--stream",
    metavar="NAME",
    type=STREAM_NAME,
    help="Stream of records that name none themselves.",
)
@click.option(
    "--source",
    metavar="NAME",
    type=SOURCE_NAME,
    help="Who sends; by default derived from the file.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "jsonl", "csv"]),
    default="auto",
    help="What FILE holds. [what its name or its beginning says]",
)
@click.option("--time-column", metavar="NAME", help="Column with the time. [default: time]")
@click.option(
    "--time-format",
    metavar="FORMAT",
    help="iso, unix, unix-ms, unix-us, unix-ns or like %Y/%m/%d %H:%M. [default: iso]",
)
@click.option(
    "--tz", metavar="ZONE", help="Zone of times that name none: Europe/Berlin, +02:00, UTC, local."
)
@click.option("--skip-bad", is_flag=True, help="Pass bad rows over instead of stopping there.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Give up when nothing was acked for so many seconds.",
)
def command(
    file: str,
    url: str,
    token: str | None,
    ca_file: str | None,
    stream: str | None,
    source: str | None,
    form: str,
    time_column: str | None,
    time_format: str | None,
    tz: str | None,
    skip_bad: bool,
    timeout: float,
) -> None:
    """Send the records of FILE (JSON lines or CSV; - is stdin), each acked when it is durable.

    Sending a file again doubles nothing: run it again after whatever went wrong.
    """
    times = TimeReader.parse(time_column, time_format, tz)
    target = ingest_url(url, stream)
    with click.open_file(file, "rb") as opened:
        lines = BoundedLines(cast("BinaryIO", opened))
        first_line = lines.peek()
        is_file = file != "-"
        if not source:
            name = target.partition("/ingest/")[2]
            source = file_source(Path(file), first_line, name) if is_file else stdin_source()
        chosen = guess_format(file, lines) if form == "auto" else cast("FileFormat", form)
        sending = Sending(
            target,
            source,
            token=token,
            ca_file=ca_file,
            numbered=is_file,
            skip_bad=skip_bad,
            timeout=timeout,
            diary=Diary(),
        )
        size = Path(file).stat().st_size if is_file else None
        try:
            with ProgressBar("sending", size) as bar:
                run(lambda: sending.run(read_rows(lines, chosen, times), lines, bar))
        finally:
            _tell(sending.outcome, source)


def _tell(outcome: SendOutcome, source: str) -> None:
    parts = [f"{outcome.acked:,} of {outcome.records:,} records acked as {source}"]
    if earlier := min(outcome.had, outcome.records):
        parts.append(f"{earlier:,} of them earlier")
    if outcome.refused:
        parts.append(f"{len(outcome.refused):,} refused")
    if outcome.skipped:
        parts.append(f"{outcome.skipped:,} bad rows skipped")
    click.echo(", ".join(parts), err=True)
