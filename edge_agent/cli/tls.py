"""``edge-agent tls init``: a certificate authority of one's own and this machine's certificate."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from edge_agent.server.tls import make_ca


@click.group()
def command() -> None:
    """Make a small certificate authority and a certificate."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    help="A name or address that sensors use for this machine; repeat it.",
)
def init(folder: Path, names: tuple[str, ...]) -> None:
    """Make an authority and this machine's certificate in DIR.

    The certificate is good for the names given, this machine's own name and loopback. Sensors
    need only ca.pem.
    """
    host = socket.gethostname()
    own = (host, f"{host}.local") if "." not in host else (host,)
    everything = dict.fromkeys((*names, *own, "localhost", "127.0.0.1", "::1"))
    files = make_ca(folder, tuple(everything))
    click.echo(
        f"made {files.ca}, good for {', '.join(everything)}.\n"
        "\n"
        "For the agent's configuration:\n"
        "    [listen]\n"
        f'    tls_certificate = "{files.certificate.resolve()}"\n'
        f'    tls_key = "{files.key.resolve()}"\n'
        f"Give {files.ca} to sensors (and to ca_file of agents that forward to this one).\n"
        f"Keep {files.ca_key} to yourself."
    )
