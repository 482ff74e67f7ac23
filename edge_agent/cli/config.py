"""``edge-agent config``: write a commented configuration, check one, show what is in force."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_agent.cli.common import Failure, Family, config_options
from edge_agent.cli.run import examined, settings_of
from edge_agent.cli.user import agent_user, look_at_start, user_option
from edge_agent.config import Config, render_toml
from edge_agent.errors import ConfigError
from edge_agent.ops.facts import missing_protection, what_is_open
from edge_agent.output.printable import printable
from edge_agent.system.files import OPEN, replace_file


@click.group(cls=Family)
def command() -> None:
    """Write, check or show a configuration."""


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="edge-agent.toml")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def init(file: Path, *, force: bool) -> None:
    """Write every key with its default and what it means to FILE ("-": to stdout)."""
    text = render_toml(Config())
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        # A configuration that somebody wrote is not replaced by accident.
        if os.path.lexists(file) and not force:
            raise Failure(f"{file} exists; --force replaces it")
        replace_file(file, text.encode(), OPEN)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    click.echo(f"wrote {file}; next: edge-agent run --config {file}", err=True)


@command.command()
@config_options
@user_option
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def check(config: Path | None, data: str | None, user: str | None, file: Path | None) -> None:
    """Say whether an agent can start with FILE (or --config), and what else a person should know.

    Looked at as the user that runs the agent, with what a start needs: certificate, key, tokens,
    the store's folder and its room, both addresses. Exit code 78 where a start would be refused.
    """
    path = file or config
    settings, wrong = examined(path, data)
    refused, warnings = look_at_start(path, data, agent_user(settings, user))
    if not wrong.told():
        warnings = [*_warnings(settings), *warnings]
    for warning in warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    if refused:
        raise Failure("\n".join(refused), ConfigError.exit_code)
    click.echo(f"{path or 'the defaults'}: good")


@command.command()
@config_options
def show(config: Path | None, data: str | None) -> None:
    """Print the configuration in force: file, environment and defaults together."""
    click.echo(render_toml(settings_of(config, data)), nl=False)


def _warnings(settings: Config) -> list[str]:
    """What is allowed and still worth a second look."""
    found = []
    for address in (settings.listen.address, settings.http.address):
        lacking = missing_protection(settings, address)
        if lacking:
            found.append(f"listen.insecure: {what_is_open(address, lacking)}")
    if not settings.upstream:
        found.append("no upstream: what is received stays on this machine")
    return found
