"""``edge-agent export``: everything that matches, into a file.

The answer is fetched page by page through the query's cursor, so neither side holds more than a
page. The file appears when it is whole: it is written beside its place, synced and renamed.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from edge_agent.cli.agent_http import AgentAddress, question, question_options, url_options
from edge_agent.cli.common import Failure
from edge_agent.cli.progress import ProgressBar
from edge_agent.output.columnar import FORMS, Kinds, columnar_writer, needed
from edge_agent.output.csv_rows import field_names, write_csv
from edge_agent.output.printable import cells_problem, json_text
from edge_agent.system.files import whole_file

_SUFFIXES = {
    ".csv": "csv", ".msgpack": "msgpack", ".parquet": "parquet", ".arrow": "arrow",
    ".feather": "arrow",
}  # fmt: skip


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@url_options
@question_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "ndjson", "csv", "msgpack", *FORMS]),
    default="auto",
    help="By default as the file is named, else ndjson.",
)
def command(
    file: str,
    agent: AgentAddress,
    stream: str,
    from_: str | None,
    to: str | None,
    wanted: str | None,
    form: str,
) -> None:
    """Write the stored records that match into FILE (- is stdout).

    CSV, Parquet and Arrow need to know every field in advance, so the agent is asked for the
    records twice. The latter two need the extra "arrow".
    """
    parameters = question(stream=stream, from_=from_, to=to, filter=wanted)
    if form == "auto":
        form = _SUFFIXES.get(Path(file).suffix.lower(), "ndjson")
    with ProgressBar("exporting", None) as bar:
        if form in FORMS:
            count = _export_columns(agent, parameters, file, form, bar)
            click.echo(f"{count:,} records exported", err=True)
            return
        names = _all_fields(agent, parameters, bar) if form == "csv" else []
        with output_file(file) as out:
            count = _export(agent, parameters, out, form, names, bar)
    click.echo(f"{count:,} records exported", err=True)


def _export(
    agent: AgentAddress,
    parameters: dict[str, str],
    out: IO[bytes],
    form: str,
    names: list[str],
    bar: ProgressBar,
) -> int:
    count = 0
    heading = True
    for page in agent.pages(parameters, None):
        records: list[dict[str, Any]] = page["records"]
        if form == "ndjson":
            out.writelines(json_text(record).encode() + b"\n" for record in records)
        elif form == "msgpack":
            out.writelines(map(msgspec.msgpack.encode, records))
        else:
            if problem := cells_problem(len(records), len(names)):
                raise Failure(f"{problem}: name a stream, or write NDJSON")
            text = io.StringIO()
            write_csv(records, names, text, heading=heading)
            heading = False
            out.write(text.getvalue().encode())
        count += len(records)
        bar.show(count, f"{count:,} records")
    return count


def _export_columns(
    agent: AgentAddress, parameters: dict[str, str], file: str, form: str, bar: ProgressBar
) -> int:
    needed()
    if file == "-":
        raise Failure(f"{form} needs a file that can be gone back in: name one instead of -", 2)
    kinds, seen, count = Kinds(), 0, 0
    for page in agent.pages(parameters, None):
        kinds.look_at(page["records"])
        seen += len(page["records"])
        bar.show(0, f"looking for fields in {seen:,} records")
    with output_file(file) as out, columnar_writer(out, form, kinds) as writer:
        # What came since the first look may have other types.
        pages = agent.pages(parameters, seen) if seen else []
        for page in pages:
            writer.write(page["records"])
            count += len(page["records"])
            bar.show(count, f"{count:,} records")
    return count


def _all_fields(agent: AgentAddress, parameters: dict[str, str], bar: ProgressBar) -> list[str]:
    names: dict[str, None] = {}
    seen = 0
    for page in agent.pages(parameters, None):
        names |= dict.fromkeys(field_names(page["records"]))
        seen += len(page["records"])
        bar.show(0, f"looking for fields in {seen:,} records")
    return list(names)


@contextmanager
def output_file(name: str) -> Iterator[IO[bytes]]:
    """A file that takes its place only once everything is in it and synced."""
    if name == "-":
        yield sys.stdout.buffer
        return
    try:
        with whole_file(Path(name)) as out:
            yield out
    except OSError as error:
        raise Failure(f"{name}: {error.strerror or error}") from error
