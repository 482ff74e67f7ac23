"""``edge-agent query``: stored records, as a table or for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edge_agent.cli.asking import Asked, question
from edge_agent.cli.common import url_options
from edge_agent.cli.printing import compact, print_aggregates, print_csv, print_table


@click.command()
@url_options
@click.option("--stream", metavar="PATTERN", default="**", show_default=True, help="* ** allowed.")
@click.option("--from", "from_", metavar="TIME", help="RFC 3339, seconds since 1970, or -1h.")
@click.option("--to", metavar="TIME", help="Before this time.")
@click.option(
    "--filter", "wanted", metavar="EXPRESSION", help='Such as: t > 20 and site == "north".'
)
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--aggregate", metavar="FIELD", help="Count, min, max, mean, … per stream instead.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "ndjson", "csv"]),
    default="table",
    show_default=True,
)
def command(
    url: str,
    token_file: Path | None,
    ca_file: str | None,
    stream: str,
    from_: str | None,
    to: str | None,
    wanted: str | None,
    limit: int,
    aggregate: str | None,
    form: str,
) -> None:
    """Ask for stored records."""
    asked = Asked(url, token_file, ca_file)
    parameters = question(stream=stream, from_=from_, to=to, filter=wanted, aggregate=aggregate)
    if aggregate is not None:
        answer = asked.page(parameters)
        print_aggregates(answer["aggregates"], form, sys.stdout)
        if answer["truncated"]:
            click.echo("the time for one answer was up; narrow --from and --to", err=True)
            sys.exit(1)
        return
    records: list[dict[str, object]] = []
    more = False
    for page in asked.pages(parameters, limit):
        more = page["truncated"]
        if form == "ndjson":
            for record in page["records"]:
                print(compact(record))
        else:
            records += page["records"]
    if form == "json":
        print(json.dumps(records, indent=2, ensure_ascii=False))
    elif form == "csv":
        print_csv(records, sys.stdout)
    elif form == "table":
        print_table(records, sys.stdout)
    if more:
        click.echo(f"there are more than {limit}; --limit and --from go on", err=True)
