"""``edge-agent tls``: a certificate authority of one's own and this machine's certificate."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from edge_agent.cli.common import CheckedText, Failure, Family, config_options
from edge_agent.cli.run import settings_of
from edge_agent.cli.user import agent_user, user_option
from edge_agent.errors import ConfigError
from edge_agent.output.printable import why
from edge_agent.security.audit import audited
from edge_agent.security.certificate_life import RENEW_S, SERVER, certificate_life
from edge_agent.security.tls import (
    holds_authority,
    is_name,
    machine_problem,
    make_ca,
    renew,
    renew_where_due,
)
from edge_agent.system.clock import SystemClock
from edge_agent.values.record import NANOSECONDS, format_time

#: A name or an address of this machine.
MACHINE: Final = CheckedText(machine_problem)
_RESOLVER = Path("/etc/resolv.conf")


@click.group(cls=Family)
def command() -> None:
    """Make a small certificate authority and a certificate; renew it."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--name",
    "names",
    metavar="NAME",
    type=MACHINE,
    multiple=True,
    help="A name or address that sensors use for this machine; repeat it.",
)
@user_option
@config_options
def init(
    folder: Path,
    names: tuple[str, ...],
    user: str | None,
    config: Path | None,
    data: str | None,
) -> None:
    """Make an authority and this machine's certificate in DIR.

    The certificate is good for the names given and for all that this machine is called now: its
    name, its addresses, loopback. Sensors need only ca.pem. Run again for
    the same DIR, before the certificate ends or when the machine gets another name, it makes a new
    certificate by the same authority, also good for the names of the last one. Sensors notice
    nothing, and a running agent takes it up within a minute.
    """
    reader = agent_user(settings_of(config, data), user)
    everything = list(dict.fromkeys((*names, *own_names(), "localhost", "127.0.0.1", "::1")))
    with audited("tls init", str(folder.absolute())):
        if holds_authority(folder):
            files, everything = renew(folder, everything, reader=reader)
            click.echo(f"renewed {files.certificate}, by the same {files.ca}")
        else:
            files = make_ca(folder, everything, reader=reader)
            click.echo(f"made {files.ca}")
    click.echo(
        f"good for {', '.join(everything)}.\n"
        "\n"
        "For the agent's configuration:\n"
        "    [listen]\n"
        f'    tls_certificate = "{files.certificate.resolve()}"\n'
        f'    tls_key = "{files.key.resolve()}"\n'
        f"Give {files.ca} to sensors (and to ca_file of agents that forward to this one).\n"
        f"Keep {files.ca_key} to yourself. Where the agent may not read it, nothing renews the\n"
        "certificate unless something calls `edge-agent tls renew`: edge-agent-renew.timer does."
    )


@command.command("renew")
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path)
)
@config_options
def renew_(folder: Path | None, config: Path | None, data: str | None) -> None:
    """Renew the certificate in DIR if two thirds of its life are over.

    For names and under the key that it has, by the authority that `tls init` made; without DIR, the
    one of listen.tls_certificate. Nothing is done while this machine's clock has not been set.
    edge-agent-renew.timer calls this every day.
    """
    certificate = folder / SERVER if folder is not None else _configured(config, data)
    try:
        certificate.stat()
    except OSError as error:
        raise Failure(f"{certificate}: {why(error)}", ConfigError.exit_code) from None
    now = SystemClock().read()
    if not now.synced:
        click.echo("the clock has not been set since the start: nothing is renewed by it")
        return
    now_s = now.wall_ns / NANOSECONDS
    try:
        life, done = certificate_life(certificate, now_s), ""
        if life.is_due:
            with audited("tls renew", str(certificate)):
                if life.obstacle:
                    raise Failure(f"{certificate} is to be renewed, but {life.obstacle}")
                renew_where_due(certificate, now_s)
            life, done = certificate_life(certificate, now_s), "renewed, and "
    except (OSError, ValueError) as error:
        raise Failure(f"{certificate}: {why(error)}", ConfigError.exit_code) from None
    until = format_time(int(life.ends_s) * NANOSECONDS)
    rest = ""
    if life.authority_ends_s is not None and life.ends_in_s > RENEW_S:
        due = format_time(int(life.ends_s - RENEW_S) * NANOSECONDS)
        new = f"`edge-agent tls init {certificate.parent}`"
        rest = f", and renewed from {due} on; {new} makes a new one now"
    click.echo(f"{certificate}: {done}good until {until}{rest}")


def _configured(config: Path | None, data: str | None) -> Path:
    certificate = settings_of(config, data).listen.tls_certificate
    if certificate is None:
        raise ConfigError("listen.tls_certificate", "a certificate, or DIR here", "nothing")
    return Path(certificate)


def own_names() -> Iterator[str]:
    """What this machine is called on its network: its names, then its addresses."""
    host = _ascii(socket.gethostname())
    names = [host]
    if host.partition(".")[0] == "localhost":
        names = []  # Nobody has named it: on another machine that means the other.
    elif "." not in host:
        names += [f"{host}.{domain}" for domain in ("local", *_search_domains())]
    yield from filter(is_name, names)
    yield from own_addresses()


def _ascii(host: str) -> str:
    """A host's name as DNS and certificates have it, ``büro`` as ``xn--bro-hoa``; "" where it has
    no such form.
    """
    try:
        return host.rstrip(".").encode("idna").decode()
    except UnicodeError:
        return ""


def own_addresses() -> Iterator[str]:
    """Addresses of this machine that others can reach."""
    import psutil

    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            found = ipaddress.ip_address(each.address.partition("%")[0])
            if not (found.is_loopback or found.is_link_local or found.is_unspecified):
                yield str(found)


def _search_domains() -> list[str]:
    try:
        text = _RESOLVER.read_text(errors="replace")
    except OSError:
        return []
    lines = re.findall(r"^\s*(?:search|domain)\s+(.*)$", text, re.MULTILINE)
    return [one.strip(".") for line in lines for one in line.split() if is_name(one.strip("."))]
