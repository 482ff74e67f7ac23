"""``edge-agent source``: whose each source is, and a person's word about it.

Works on a running agent, through its people's port, and on the store of one that does not run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.common import Family, json_option, yes_option
from edge_agent.cli.output import print_columns
from edge_agent.cli.store_access import agreed, reach, reach_options
from edge_agent.output.printable import json_text

if TYPE_CHECKING:
    from edge_agent.ops.orders.source_orders import SourceMove


@click.group(cls=Family)
def command() -> None:
    """Show whose sources are, move and forget them.

    With tokens a source belongs to the token, by its name, that was the first to use it, and so
    does an agent that forwards here (agent:ID): docs/identity.md.
    """


@command.command("list")
@click.option("--owner", metavar="NAME", help="Of this token alone.")
@json_option
@reach_options
def list_(*, owner: str | None, as_json: bool, **where: Any) -> None:
    """Show every source, whose it is, its next number, and when it was last heard."""
    found = reach(**where).sources()
    _show([one for one in found if owner is None or one["owner"] == owner], as_json=as_json)


@command.command()
@click.argument("source")
@click.option("--to", metavar="NAME", required=True, help="The token that may use it from now on.")
@click.option(
    "--keep-numbers",
    is_flag=True,
    help="It is the same device as before, which only has another token now.",
)
@json_option
@reach_options
def move(source: str, to: str, *, keep_numbers: bool, as_json: bool, **where: Any) -> None:
    """Let SOURCE belong to the token called NAME; an agent is agent:ID.

    Its numbering begins anew where the sender says, for the numbers that somebody else used up are
    not its own: what it still holds may arrive twice, and nothing is lost. An agent sends again
    all that it holds. With --keep-numbers it goes on where the old owner was.
    """
    from edge_agent.ops.orders.source_orders import SourceMove

    _settle(SourceMove("move", source, to, keep_numbers), as_json, where)


@command.command()
@click.argument("source")
@yes_option
@json_option
@reach_options
def forget(source: str, *, yes: bool, as_json: bool, **where: Any) -> None:
    """Forget SOURCE: whoever may use it next is the first, and says where numbering starts."""
    from edge_agent.ops.orders.source_orders import SourceMove

    agreed(f"Forget whose {source} is, and where its numbers are?", yes=yes)
    _settle(SourceMove("forget", source), as_json, where)


def _settle(order: SourceMove, as_json: bool, where: dict[str, Any]) -> None:
    _show(reach(**where).move_source(order), as_json=as_json)


def _show(sources: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(sources, indent=2))
        return
    rows = [
        [
            one["source"],
            one["owner"] or "-",
            str(one["next"]),
            (one["last_heard"] or "-")[:19],
        ]
        for one in sources
    ]
    if rows:
        print_columns(("source", "owner", "next", "last heard"), rows, sys.stdout)
    else:
        click.echo("no sources", err=True)
