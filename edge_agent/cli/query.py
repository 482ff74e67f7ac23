"""``edge-agent query``: stored records, points or figures, as a table or for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from edge_agent.cli.agent_http import AgentAddress, question, question_options, url_options
from edge_agent.cli.common import Failure
from edge_agent.cli.export import output_file
from edge_agent.cli.output import print_aggregates, print_csv, print_table
from edge_agent.cli.tables import print_answer
from edge_agent.history import AGGREGATES
from edge_agent.output.columnar import FORMS, OWN, Kinds, columnar_writer, needed
from edge_agent.output.printable import json_text


@click.command()
@url_options
@question_options
@click.option("--fields", metavar="NAMES", help="Columns of these alone: t,n.a,params.`a:0`.b")
@click.option("--step", metavar="LENGTH", help="Figures for each 10s, 1m, 1h, 1d …, or for all.")
@click.option(
    "--aggregate",
    metavar="NAMES",
    help="With --step: count, min, max, mean, sum, first, last, stddev, p50, p95, p99, increase,"
    " rate, twmean; mean by default. Without it: a field, for figures per stream.",
)
@click.option(
    "--group", metavar="BY", help="With --step: stream, none, or a part of names (1, 2 …)."
)
@click.option("--fill", metavar="WITH", help="With --step, for gaps: null, previous or a number.")
@click.option(
    "--order",
    type=click.Choice(["newest", "oldest"]),
    help="Which come first, and stay within --limit: newest by time, or oldest. Records: newest,"
    " and oldest is as stored; points and figures: oldest.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Records 1000, rows of points and figures 10000."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "ndjson", "csv", *FORMS]),
    default="table",
    show_default=True,
    help="How the answer is written.",
)
@click.option(
    "--output", metavar="FILE", help="For parquet and arrow, which need the extra arrow: the file."
)
def command(
    agent: AgentAddress,
    stream: str,
    from_: str | None,
    to: str | None,
    wanted: str | None,
    fields: str | None,
    step: str | None,
    aggregate: str | None,
    group: str | None,
    fill: str | None,
    order: str | None,
    limit: int | None,
    form: str,
    output: str | None,
) -> None:
    """Ask for stored records, for points (--fields) or for figures (--step)."""
    _check_output(form, output)
    if fields or step or group or fill:
        told = question(
            stream=stream,
            from_=from_,
            to=to,
            filter=wanted,
            fields=fields,
            step=step,
            aggregate=aggregate,
            group=group,
            fill=fill,
            order=order,
            limit=None if limit is None else str(limit),
        )
        # Figures come in one answer; points in as many as it takes.
        answer = agent.points(told, limit) if limit and not step else agent.table(told)
        if output is not None:
            _save(_rows_of(answer), ("time",), form, output)
        _show_table(answer, form, is_last_hour=from_ is None and to is None)
        return
    parameters = question(stream=stream, from_=from_, to=to, filter=wanted, aggregate=aggregate)
    if aggregate is None:
        _show_records(agent, parameters, limit or 1000, order or "newest", form, output)
    elif output is not None:
        raise Failure(f"--format {form} is of records, points and figures by --step", 2)
    else:
        _show_aggregates(agent, parameters, form)


def _show_aggregates(agent: AgentAddress, parameters: dict[str, str], form: str) -> None:
    """Figures of a field, for each stream."""
    field = parameters["aggregate"]
    if field in AGGREGATES:
        # A field may be called so, too; then its figures follow.
        click.echo(
            f'"{field}" is taken for the name of a field; figures by step need --step, such as'
            f" --step 1h --aggregate {field}, or --step all",
            err=True,
        )
    answer = agent.page(parameters)
    print_aggregates(answer["aggregates"], form, sys.stdout)
    if answer["truncated"]:
        click.echo("the time for one answer was up; narrow --from and --to", err=True)
        sys.exit(1)


def _check_output(form: str, output: str | None) -> None:
    if form in FORMS:
        needed()
    if form in FORMS and output is None:
        raise Failure(f"--format {form} needs --output FILE", 2)
    if form not in FORMS and output is not None:
        told = "--output FILE is for --format parquet and arrow; other formats: edge-agent … >FILE"
        raise Failure(told, 2)


def _rows_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    columns = answer["columns"][1:]
    return [
        {"time": row[0], "fields": dict(zip(columns, row[1:], strict=True))}
        for row in answer["rows"]
    ]


def _save(rows: list[dict[str, Any]], own: Sequence[str], form: str, file: str) -> None:
    kinds = Kinds()
    kinds.look_at(rows)
    with output_file(file) as out, columnar_writer(out, form, kinds, own) as writer:
        writer.write(rows)
    click.echo(f"{len(rows):,} rows in {file}", err=True)


def _show_records(
    agent: AgentAddress,
    parameters: dict[str, str],
    limit: int,
    order: str,
    form: str,
    output: str | None,
) -> None:
    records: list[dict[str, Any]] = []
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
    elif output is not None:
        _save(records, OWN, form, output)
    if more:
        # Not "go on from the last time": several records may have it, and stored is not measured.
        click.echo(f"there are more than {limit}; a larger --limit shows them", err=True)


def _show_table(answer: dict[str, Any], form: str, *, is_last_hour: bool) -> None:
    if form not in FORMS:
        print_answer(answer, form, sys.stdout)
    if not answer["rows"]:
        where = " in the last hour; --from -7d looks further back" if is_last_hour else ""
        click.echo(f"no number of such a field and stream was measured{where}", err=True)
    if answer["truncated"]:
        count = len(answer["rows"])
        click.echo(f"there are more than {count} rows; a larger --limit shows them", err=True)
    if lag := answer.get("lag"):
        click.echo(f"{lag} records that came last are not in it yet", err=True)


def _pages(
    agent: AgentAddress, parameters: dict[str, str], limit: int, order: str
) -> Iterable[dict[str, Any]]:
    if order == "oldest":
        return agent.pages(parameters, limit)
    records, more = agent.newest(parameters, limit)
    return [{"records": records, "truncated": more}]
