"""``edge-agent config``: write a commented configuration, check one, show what is in force."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_agent.cli.common import Failure, config_options
from edge_agent.cli.run import settings_of
from edge_agent.config import Config, is_loopback, parse_address, render


@click.group()
def command() -> None:
    """Write, check or show a configuration."""


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="edge-agent.toml")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def init(file: Path, *, force: bool) -> None:
    """Write every key with its default and what it means to FILE ("-": to stdout)."""
    text = render(Config())
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        # "x": a configuration that somebody wrote is not replaced by accident.
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise Failure(f"{file} exists; --force replaces it") from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    click.echo(f"wrote {file}; next: edge-agent run --config {file}", err=True)


@command.command()
@config_options
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def check(config: Path | None, data: str | None, file: Path | None) -> None:
    """Say whether FILE (or --config) can be used, and what a person should know about it."""
    path = file or config
    settings = settings_of(path, data)
    for warning in _warnings(settings):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{path or 'the defaults'}: good")


@command.command()
@config_options
def show(config: Path | None, data: str | None) -> None:
    """Print the configuration in force: file, environment and defaults together."""
    click.echo(render(settings_of(config, data)), nl=False)


def _warnings(settings: Config) -> list[str]:
    """What is allowed and still worth a second look."""
    found = []
    host, _ = parse_address(settings.listen.address)
    if settings.listen.insecure and not is_loopback(host):
        found.append(f"listen.insecure: anybody who reaches {settings.listen.address} may send")
    for key, name in (
        ("listen.tls_certificate", settings.listen.tls_certificate),
        ("listen.tls_key", settings.listen.tls_key),
        ("listen.tokens", settings.listen.tokens),
        *((f"upstream.{one.name}.token_file", one.token_file) for one in settings.upstream),
        *((f"upstream.{one.name}.ca_file", one.ca_file) for one in settings.upstream),
    ):
        if name is not None and not os.access(name, os.R_OK):
            found.append(f"{key}: {name} cannot be read by this user")
    if not settings.upstream:
        found.append("no upstream: what is received stays on this machine")
    return found
