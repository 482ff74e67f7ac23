"""``edge-agent token``: make, list, rotate and revoke tokens, which let sensors and people in.

The secret alone goes to stdout, so that it can be piped into a file; it is shown once and stored
only as a hash. A running agent sees changes by itself.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_agent.cli.common import (
    STREAM_PATTERN,
    CheckedText,
    Failure,
    Family,
    config_options,
    holds_store,
    json_option,
)
from edge_agent.cli.output import print_columns
from edge_agent.cli.run import settings_of
from edge_agent.cli.store_access import reach, reach_options
from edge_agent.cli.user import agent_user, user_option
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.ops.text import to_second
from edge_agent.output.printable import json_text, why
from edge_agent.security.audit import audited
from edge_agent.security.tokens import (
    EVERYTHING,
    TOKEN_PATH,
    Token,
    add_token,
    list_tokens,
    revoke_token,
    rotate_token,
    token_name_problem,
)

_AGENT_ID = re.compile(r"[0-9a-f]{12}")

_file_option = click.option(
    "--file",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The tokens file. Without it: listen.tokens of the configuration.",
)


def _agent_ids(given: tuple[str, ...]) -> tuple[str, ...]:
    for agent in given:
        if agent != EVERYTHING and not _AGENT_ID.fullmatch(agent):
            raise click.BadParameter(
                f"{agent!r} is no agent's id: 12 characters of 0-9 and a-f, as `edge-agent status`"
                " on that machine shows it"
            )
    return given


@click.group(cls=Family)
def command() -> None:
    """Make, list, rotate and revoke tokens.

    What a token was the first to use belongs to its name: see edge-agent source.
    """


@command.command()
@click.argument("name", type=CheckedText(token_name_problem))
@click.option(
    "--write",
    metavar="PATTERN",
    type=STREAM_PATTERN,
    multiple=True,
    help="May write these streams.",
)
@click.option(
    "--source",
    "sources",
    metavar="PATTERN",
    type=STREAM_PATTERN,
    multiple=True,
    help="May write as these sources; one named without * is kept for it. [any]",
)
@click.option(
    "--read",
    metavar="PATTERN",
    type=STREAM_PATTERN,
    multiple=True,
    help="May read these streams.",
)
@click.option("--forward", is_flag=True, help="May forward as another agent.")
@click.option(
    "--agent",
    "agents",
    metavar="ID",
    multiple=True,
    callback=lambda context, option, given: _agent_ids(given),
    help="Forward what these agents stored, itself or by others, and nobody else's. [any]",
)
@click.option("--admin", is_flag=True, help="May give orders: consumer, quarantine, source.")
@click.option(
    "--in-url",
    is_flag=True,
    help="The secret may stand in the URL, for devices that take nothing else; with --write alone.",
)
@user_option
@_file_option
@config_options
def add(
    name: str,
    *,
    write: tuple[str, ...],
    sources: tuple[str, ...],
    read: tuple[str, ...],
    forward: bool,
    agents: tuple[str, ...],
    admin: bool,
    in_url: bool,
    user: str | None,
    file: Path | None,
    config: Path | None,
    data: str | None,
) -> None:
    """Make a token called NAME and print its secret, once.

    A name that was revoked gets back what belonged to it. With --forward and --write, what is
    forwarded has to be in those streams, too.

    \b
    edge-agent token add greenhouse --write 'greenhouse/**'
    edge-agent token add me --read '**'
    edge-agent token add pi-7 --forward
    """  # noqa: D301 - click wants the control character itself
    _look_at_options(bool(write), forward, read or admin, bool(agents), in_url=in_url)
    path = _path(file, config, data)
    reader = agent_user(settings_of(config, data), user)
    with audited("token add", f"{name} in {path}"):
        secret = add_token(
            path,
            name,
            write=write,
            sources=sources or (("**",) if write else ()),
            read=read,
            forward=forward,
            agents=agents,
            admin=admin,
            in_url=in_url,
            created_ns=time.time_ns(),
            reader=reader,
        )
    click.echo(f"{path}: added {name}. Its secret, which is shown only now:", err=True)
    click.echo(secret)
    if in_url:
        text = f"In a URL: wss://THIS-MACHINE:8765{TOKEN_PATH}{secret}/ingest/STREAM"
        click.echo(text, err=True)


def _look_at_options(
    write: bool, forward: bool, other: object, agents: bool, *, in_url: bool
) -> None:
    if agents and not forward:
        raise click.UsageError("--agent says what --forward may bring: it needs that")
    if not (write or forward or other):
        raise click.UsageError(
            "a token that may do nothing is of no use: --write, --read, --forward or --admin"
        )
    if in_url and (forward or other or not write):
        raise click.UsageError("--in-url goes with --write alone: others see what stands in a URL")


@command.command("list")
@_file_option
@json_option
@reach_options
def list_(
    file: Path | None, config: Path | None, data: str | None, *, as_json: bool, **where: Any
) -> None:
    """Show every token's name, what it may do, and its last use; never a secret.

    The running agent knows the last use; of one that does not run, its store, up to an hour less.
    """
    path = _path(file, config, data)
    if file is not None and not path.exists():
        raise Failure(f"{path}: there is no such file; edge-agent token add makes it")
    tokens = list_tokens(path)
    uses, problem = _uses(config, data, where)
    if problem:
        click.echo(f"when they were used last is not known: {problem}", err=True)
    if as_json:
        click.echo(json_text([_told(token, uses.get(token.name)) for token in tokens], indent=2))
        return
    if not tokens:
        click.echo("no tokens", err=True)
        return
    rows = [
        [one.name, to_second(one.created) or "-", _use(uses.get(one.name), problem), describe(one)]
        for one in tokens
    ]
    print_columns(("token", "made", "last used", "may"), rows, sys.stdout, most=400)


def _use(use: dict[str, Any] | None, problem: str) -> str:
    if use is None:
        return "unknown" if problem else "no use noted"
    return f"{to_second(use['last_used']) or '(no clock)'} from {use['from'] or 'here'}"


def _uses(
    config: Path | None, data: str | None, where: dict[str, Any]
) -> tuple[dict[str, dict[str, Any]], str]:
    """The uses that whoever can answer knows, by name; and why nobody can."""
    try:
        if where["url"] is None and not holds_store(Path(settings_of(config, data).store.path)):
            return {}, ""  # It has not run yet.
        found = reach(config, data, **where).token_uses()
    except (Failure, EdgeAgentError, OSError) as error:
        return {}, why(error) if isinstance(error, OSError) else str(error)
    return {one["name"]: one for one in found}, ""


def _told(token: Token, use: dict[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(token)
    del told["hash"]
    return {**told, "last_used": use and use["last_used"], "last_from": use and use["from"]}


@command.command()
@click.argument("name")
@_file_option
@config_options
def rotate(name: str, file: Path | None, config: Path | None, data: str | None) -> None:
    """Give the token called NAME a new secret, and print it, once.

    The old one lets nobody in any more. What the token may do and what belongs to it stays.
    """
    path = _path(file, config, data)
    with audited("token rotate", f"{name} in {path}"):
        secret = rotate_token(path, name)
        if secret is None:
            raise Failure(f"{path}: there is no token called {name}")
    click.echo(f"{path}: {name} has a new secret, which is shown only now:", err=True)
    click.echo(secret)


@command.command()
@click.argument("name")
@_file_option
@config_options
def revoke(name: str, file: Path | None, config: Path | None, data: str | None) -> None:
    """Remove the token called NAME: nobody new is let in with it.

    What belongs to its name stays so; edge-agent source move gives it to another one.
    """
    path = _path(file, config, data)
    with audited("token revoke", f"{name} in {path}"):
        if not revoke_token(path, name):
            raise Failure(f"{path}: there is no token called {name}")
    click.echo(f"{path}: revoked {name}", err=True)


def describe(token: Token) -> str:
    """What a token may do, in one line."""
    parts = []
    if token.write:
        parts.append(f"write {', '.join(token.write)} as {', '.join(token.sources) or 'nobody'}")
    if token.read:
        parts.append(f"read {', '.join(token.read)}")
    if token.forward:
        parts.append("forward" + (f" {', '.join(token.agents)}" if token.agents else ""))
    parts += ["admin"] if token.admin else []
    parts += ["in a URL"] if token.in_url else []
    return "; ".join(parts) or "nothing"


def _path(file: Path | None, config: Path | None, data: str | None) -> Path:
    if file is not None:
        return file
    settings = settings_of(config, data)
    if settings.listen.tokens is None:
        raise ConfigError(
            f"{config or 'defaults'}: listen.tokens",
            'a file such as "/etc/edge-agent/tokens", or --file here',
            "nothing",
        )
    return Path(settings.listen.tokens)
