"""The command ``edge-agent setup``: certificate, tokens, configuration, and what to do next.

Everything that it does another command does, too (``tls init``, ``token add``, ``config check``):
it puts them in order. It can be run again at any time: the certificate is renewed by the same
authority, tokens and keys that are there stay. The configuration is written last, after it was
looked at as the agent's user; where a start would be refused, it stays as it was.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import click
from msgspec import structs

from edge_agent.cli.common import SYSTEM_CONFIG, Failure
from edge_agent.cli.run import settings_of
from edge_agent.cli.setup.plan import (
    BOTH_KINDS,
    EVERYWHERE,
    SetupPlan,
    avahi_service,
    changed,
    first_sensor,
    page_url,
    sensors_url,
)
from edge_agent.cli.tls import MACHINE, own_addresses, own_names
from edge_agent.cli.user import agent_user, look_at_start, user_option
from edge_agent.config import Config, parse, parse_address, people_url
from edge_agent.errors import ConfigError
from edge_agent.net.access import is_address, is_loopback
from edge_agent.output.printable import printable
from edge_agent.security.audit import audited
from edge_agent.security.certificate_life import SERVER, names_in
from edge_agent.security.tls import CaFiles, holds_authority, make_ca, renew
from edge_agent.security.tokens import add_token, list_tokens, rotate_token
from edge_agent.system.files import FOR_ALL, read_secret_line, replace_file

UNIT, TIMER = "edge-agent.service", "edge-agent-renew.timer"
_SYSTEMD, _AVAHI = Path("/run/systemd/system"), Path("/etc/avahi/services")
#: The first tokens: for sensors, and for who looks in.
SENSORS, PEOPLE = "sensors", "page"
#: The token for commands on this machine, which may everything, as root may.
LOCAL = "local"
_START_S = 60.0
#: Stands for a name that is not known here.
_UNNAMED = "THIS-MACHINE"


@click.command()
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    default=SYSTEM_CONFIG,
    show_default=True,
    help="The configuration to make or complete.",
)
@click.option(
    "--name",
    "names",
    metavar="NAME",
    type=MACHINE,
    multiple=True,
    help="A further name; repeat it.",
)
@click.option("--no-page", is_flag=True, help="The page is for this machine alone.")
@click.option("--no-restart", is_flag=True, help="Leave the agent as it runs.")
@click.option("--yes", is_flag=True, help="Ask nothing; take what is proposed.")
@user_option
def command(
    config: Path,
    names: tuple[str, ...],
    *,
    no_page: bool,
    no_restart: bool,
    yes: bool,
    user: str | None,
) -> None:
    """Let sensors on the network in: certificate, tokens, configuration, restart.

    Asks before it writes anything; --yes takes what it proposes. Run it again whenever this machine
    gets another name.
    """
    text = _read(config)
    settings = _understood(text, config)
    reader = agent_user(settings, user)
    foreign = _foreign_certificate(settings, config)
    known = list(dict.fromkeys((*names, *own_names())))
    with _answered():
        known += [] if yes or foreign else _asked_names(known)
        people = not no_page and _wants_people(settings, yes=yes)
    plan = _plan(settings, config, people=people, is_ours=foreign is None)
    new, changes = changed(text, plan)
    _propose(plan, known, [str(change) for change in changes], foreign, names)
    with _answered():
        if not yes and not click.confirm("Do this?", default=True):
            raise Failure("nothing was changed")
    secrets: dict[str, str | None] = {}
    try:
        with audited("setup", f"{plan.config}, {plan.tls}, {plan.tokens}"), _told_anyway(secrets):
            list_tokens(plan.tokens)  # What cannot be read is told before anything is written.
            ca = None if foreign else _certificate(plan.tls, known, reader).ca
            _make_tokens(plan, secrets, reader)
            _write(plan.config, text, new, reader)
            settings = settings_of(plan.config)
            _announce(settings, plan)
        with _told_anyway(secrets):
            is_started = no_restart or _restart(plan.config)
    except (PermissionError, ConfigError) as error:
        cause = error if isinstance(error, PermissionError) else error.__cause__
        if os.geteuid() == 0 or not isinstance(cause, PermissionError):
            raise
        where = cause.filename or plan.config.parent
        raise Failure(f"{where}: {cause.strerror}: sudo edge-agent setup", 2) from None
    # Also where it does not start: secrets are told once.
    _tell(settings, plan, ca, known, secrets, _name_in(foreign) if foreign else None)
    if not is_started:
        raise Failure(f"all is written, but it does not start: journalctl -u {UNIT} -n 20 says why")


def _plan(settings: Config, config: Path, *, people: bool, is_ours: bool) -> SetupPlan:
    plan = SetupPlan.beside(config.absolute(), people=people, everywhere=_everywhere())
    if settings.listen.tokens is not None:
        plan = replace(plan, tokens=Path(settings.listen.tokens))
    if settings.listen.tls_certificate is not None and is_ours:
        plan = replace(plan, tls=Path(settings.listen.tls_certificate).parent)
    return plan


def _foreign_certificate(settings: Config, config: Path) -> Path | None:
    """The certificate that is configured, where another authority than ours has made it."""
    if settings.listen.tls_certificate is None:
        return None
    certificate = Path(settings.listen.tls_certificate)
    beside = SetupPlan.beside(config.absolute(), people=True).tls
    is_ours = certificate.name == SERVER and (
        certificate.parent == beside or holds_authority(certificate.parent)
    )
    return None if is_ours else certificate


def _everywhere() -> str:
    only_6 = {ip_address(one).version for one in own_addresses()} == {6}
    return BOTH_KINDS if only_6 else EVERYWHERE


def _read(config: Path) -> str:
    try:
        text = config.read_text(encoding="utf-8") if config.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{config}: {error}", ConfigError.exit_code) from None
    return text.removeprefix("\ufeff")


def _understood(text: str, config: Path) -> Config:
    try:
        return parse(text, str(config))
    except ConfigError as error:
        # Perhaps all that is wrong is what this is for: an address that others reach already,
        # without certificate and tokens.
        try:
            new, _ = changed(text, SetupPlan.beside(config.absolute(), people=True))
            found = parse(new, str(config))
        except (ConfigError, ValueError):
            # An address that is none is no ConfigError to whoever changes it.
            raise Failure(str(error), ConfigError.exit_code) from None
        return structs.replace(found, listen=structs.replace(found.listen, tls_certificate=None))


@contextmanager
def _answered() -> Iterator[None]:
    """Questions are asked: nothing is changed where nobody answers."""
    try:
        yield
    except click.Abort:
        if sys.stdin.isatty():
            raise
        text = "nothing was changed: nobody answers here; --yes takes what is proposed"
        raise Failure(text, 2) from None


def _wants_people(settings: Config, *, yes: bool) -> bool:
    """Whether people on the network may see the page; what was answered before is proposed."""
    listen = settings.listen
    ran_before = listen.tls_certificate is not None and listen.tokens is not None
    address = settings.http.address
    closed = ran_before and address != "off" and is_loopback(parse_address(address)[0])
    if not yes:
        return click.confirm("May people on the network see the page?", default=not closed)
    if closed:
        click.echo(f"the page stays on loopback, {address}; without --yes you are asked")
    return not closed


def _asked_names(known: list[str]) -> list[str]:
    click.echo(f"This machine is called {', '.join(known)}.")
    given: list[str] = click.prompt(
        "Further names, if sensors use any", default="", show_default=False, value_proc=_machines
    )
    return [name for name in given if name not in known]


def _machines(given: str) -> list[str]:
    """The names in an answer; who asked asks again where one of them is none."""
    return [MACHINE.convert(name, None, None) for name in given.replace(",", " ").split()]


def _propose(
    plan: SetupPlan,
    names: list[str],
    changes: list[str],
    foreign: Path | None,
    further: tuple[str, ...],
) -> None:
    renewed = "renew the certificate in" if holds_authority(plan.tls) else "make a certificate in"
    if foreign:
        click.echo(f"\nleave the certificate {foreign} as it is: somebody else renews it")
        if further:
            click.echo(f"    --name {', '.join(further)} is not used: it has the names that it has")
    else:
        click.echo(f"\n{renewed} {plan.tls}, good for {', '.join(names) or 'this machine alone'}")
    if not foreign and all(map(is_address, names)):
        host = printable(socket.gethostname())
        click.echo(f"    the name {host!r} cannot stand in it: --name NAME adds one that can")
    if not any(own_addresses()):
        click.echo("    no network is up: run this again when this machine has an address")
    click.echo(f"keep tokens in {plan.tokens}, one for root's commands in {plan.local_token}")
    click.echo(f"in {plan.config}: {'nothing to change' if not changes else ''}")
    for change in changes:
        click.echo(f"    {change}")
    click.echo("")


def _certificate(folder: Path, names: list[str], reader: pwd.struct_passwd | None) -> CaFiles:
    everything = [*names, "localhost", "127.0.0.1", "::1"]
    if holds_authority(folder):
        return renew(folder, everything, reader=reader)[0]
    return make_ca(folder, everything, reader=reader)


@contextmanager
def _told_anyway(secrets: dict[str, str | None]) -> Iterator[None]:
    """What goes wrong is no reason to lose secrets that were made before: they are told once. Nor
    is it that somebody loses patience, as systemctl may take two minutes.
    """
    try:
        yield
    except BaseException:
        _tell_secrets({name: secret for name, secret in secrets.items() if secret})
        raise


def _tell_secrets(secrets: dict[str, str | None]) -> None:
    for name, secret in secrets.items():
        shown = secret or f"made before; a new secret: edge-agent token rotate {name}"
        click.echo(f"token {name:8} {shown}")
    if any(secrets.values()):
        click.echo("These are shown only now: note them.")


def _make_tokens(
    plan: SetupPlan, secrets: dict[str, str | None], reader: pwd.struct_passwd | None
) -> None:
    """Tokens that are not there yet; those that are told, into ``secrets``."""
    secrets[SENSORS] = _token(plan.tokens, SENSORS, reader, write=("**",))
    if plan.people:
        secrets[PEOPLE] = _token(plan.tokens, PEOPLE, reader, read=("**",))
    _local_token(plan, reader)


def _token(
    file: Path,
    name: str,
    reader: pwd.struct_passwd | None,
    *,
    write: tuple[str, ...] = (),
    read: tuple[str, ...] = (),
) -> str | None:
    """Its secret; None where the token is there already, whose secret nobody knows any more."""
    if any(one.name == name for one in list_tokens(file)):
        return None
    sources = ("**",) if write else ()
    now = time.time_ns()
    return add_token(
        file, name, write=write, sources=sources, read=read, created_ns=now, reader=reader
    )


def _local_token(plan: SetupPlan, reader: pwd.struct_passwd | None) -> None:
    """Leave a token for commands on this machine; only who runs this may read it."""
    if any(one.name == LOCAL for one in list_tokens(plan.tokens)):
        with suppress(OSError, ValueError):
            read_secret_line(plan.local_token)
            return
    secret = rotate_token(plan.tokens, LOCAL) or add_token(
        plan.tokens, LOCAL, write=["**"], sources=["**"], read=["**"], admin=True,
        created_ns=time.time_ns(), reader=reader,
    )  # fmt: skip
    replace_file(plan.local_token, f"{secret}\n".encode())


def _write(config: Path, old: str, new: str, reader: pwd.struct_passwd | None) -> None:
    """Put the new configuration in place, unless an agent could not start with it."""
    config.parent.mkdir(parents=True, exist_ok=True)
    trial = config.with_name(f".{config.name}.setup")
    # The agent's user reads it, also where root's umask is 077.
    replace_file(trial, new.encode(), FOR_ALL)
    try:
        refused, _ = look_at_start(trial, None, reader)
    finally:
        trial.unlink(missing_ok=True)
    # That an agent runs already is what setup is for.
    refused = [line for line in refused if "in use" not in line and "already" not in line]
    if refused:
        told = "\n".join(refused).replace(str(trial), str(config))
        raise Failure(f"{config} was not changed: an agent could not start:\n{told}", 78)
    if new != old:
        replace_file(config, new.encode(), FOR_ALL)


def _announce(settings: Config, plan: SetupPlan) -> None:
    """Let avahi-daemon tell the network of this machine's own agent, where there is one."""
    if plan.config != SYSTEM_CONFIG or not _AVAHI.is_dir():
        return
    _, sensors = parse_address(settings.listen.address)
    people = parse_address(settings.http.address)[1] if plan.people else None
    replace_file(_AVAHI / "edge-agent.service", avahi_service(sensors, people).encode(), FOR_ALL)


def _restart(config: Path) -> bool:
    """Whether the agent runs anew, or there is nothing that would run it."""
    if not _SYSTEMD.exists() or _systemctl("cat", UNIT) != 0:
        click.echo(f"start the agent: edge-agent run --config {config}\n")
        return True
    click.echo("restarting the agent …")
    if _systemctl("cat", TIMER) == 0:
        _systemctl("enable", "--now", TIMER)
    return _systemctl("restart", UNIT) == 0


def _systemctl(*words: str) -> int:
    command = ["systemctl", *words]
    try:
        return subprocess.run(
            command, capture_output=True, timeout=2 * _START_S, check=False
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return 1


def _tell(
    settings: Config,
    plan: SetupPlan,
    ca: Path | None,
    names: list[str],
    secrets: dict[str, str | None],
    its_own: str | None,
) -> None:
    _tell_secrets(secrets)
    address, sensors = parse_address(settings.listen.address)
    host = its_own or _reached_by(names, address)
    if ca is not None:
        click.echo(f"authority      {ca}: give it to sensors")
    if _UNNAMED in host:
        click.echo(f"the certificate leaves a name open: this machine's own for {_UNNAMED}")
    click.echo(f"\nsensors        {sensors_url(host, sensors)}")
    having = "has the authority's file" if ca is not None else "trusts who made the certificate"
    click.echo(f"The first one, from any machine that {having}:\n")
    for line in first_sensor(host, sensors, ca, secrets[SENSORS]):
        click.echo(f"    {line}")
    if plan.people:
        address, port = parse_address(settings.http.address)
        url = page_url(its_own or _reached_by(names, address), port)
        click.echo(f"\nthe page       {url}  (sign in with the token {PEOPLE})")
        if _UNNAMED not in url:
            _show_code(url)
    elif (own := people_url(settings)) is not None:
        click.echo(f"\nthe page       {own}, on this machine alone")


def _name_in(certificate: Path) -> str | None:
    """A name that it is good for, and no other is; None where it has none. Of ``*.example`` alone
    that is this machine's own name there, else one in which it is left open.
    """
    names = names_in(certificate)
    whole = [name for name in names if "*" not in name]
    own = [name for name in own_names() if f"*.{name.partition('.')[2]}" in names]
    return next(iter([*whole, *own, *(name.replace("*", _UNNAMED) for name in names)]), None)


def _reached_by(names: list[str], listens: str) -> str:
    """Where ``listens`` is reached: itself, if it is one address; of all of the machine's the name
    that most networks know, one by mDNS, else an address of its kind.
    """
    kinds = {EVERYWHERE: (4,), "::": (6,), BOTH_KINDS: (4, 6)}
    if listens not in kinds:
        return listens
    addresses = [one for one in own_addresses() if ip_address(one).version in kinds[listens]]
    by_mdns = [name for name in names if name.endswith(".local")]
    if by_mdns and _AVAHI.is_dir():
        return by_mdns[0]
    return (addresses or names or [socket.gethostname()])[0]


def _show_code(url: str) -> None:
    """The address as a QR code, for a telephone, where somebody looks."""
    if not sys.stdout.isatty():
        return
    import segno

    click.echo("")
    segno.make(url, micro=False).terminal(sys.stdout, compact=True)
