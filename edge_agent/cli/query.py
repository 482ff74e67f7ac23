"""``edge-agent query``: stored records, as a table or for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from edge_agent.cli.agent_http import AgentAddress, question, question_options, url_options
from edge_agent.cli.output import print_aggregates, print_csv, print_table
from edge_agent.printable import json_text


@click.command()
@url_options
@question_options
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option(
    "--order",
    type=click.Choice(["newest", "oldest"]),
    default="newest",
    show_default=True,
    help="Which come first, and stay within --limit: newest by time, or oldest as stored.",
)
@click.option("--aggregate", metavar="FIELD", help="Count, min, max, mean, … per stream instead.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "ndjson", "csv"]),
    default="table",
    show_default=True,
)
def command(
    agent: AgentAddress,
    stream: str,
    from_: str | None,
    to: str | None,
    wanted: str | None,
    limit: int,
    order: str,
    aggregate: str | None,
    form: str,
) -> None:
    """Ask for stored records."""
    parameters = question(stream=stream, from_=from_, to=to, filter=wanted, aggregate=aggregate)
    if aggregate is not None:
        answer = agent.page(parameters)
        print_aggregates(answer["aggregates"], form, sys.stdout)
        if answer["truncated"]:
            click.echo("the time for one answer was up; narrow --from and --to", err=True)
            sys.exit(1)
        return
    records: list[dict[str, object]] = []
    more = False
    for page in _pages(agent, parameters, limit, order):
        more = page["truncated"]
        if form == "ndjson":
            for record in page["records"]:
                print(json_text(record))
        else:
            records += page["records"]
    if form == "json":
        print(json_text(records, indent=2))
    elif form == "csv":
        print_csv(records, sys.stdout)
    elif form == "table":
        print_table(records, sys.stdout)
    if more:
        # Not "go on from the last time": several records may have it, and stored is not measured.
        click.echo(f"there are more than {limit}; a larger --limit shows them", err=True)


def _pages(
    agent: AgentAddress, parameters: dict[str, str], limit: int, order: str
) -> Iterable[dict[str, Any]]:
    if order == "oldest":
        return agent.pages(parameters, limit)
    records, more = agent.newest(parameters, limit)
    return [{"records": records, "truncated": more}]
