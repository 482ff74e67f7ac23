"""The plan of ``edge-agent setup``: changes of the configuration, and their description. Pure.

The file is somebody's own: comments, order and every key that setup has no word about stay as they
are (tomlkit). Of its own keys it takes only those that are not set. An address on loopback is
opened, the page's is put back there where people on the network may not see it; a port stays, as
does every other address.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from edge_agent.cli.common import LOCAL_TOKEN
from edge_agent.config import format_address, parse_address
from edge_agent.errors import ConfigError
from edge_agent.net.access import is_loopback

#: What an address becomes that is opened, and closed. Where a machine has IPv6 alone it listens for
#: both kinds: the other may only be late.
EVERYWHERE: Final = "0.0.0.0"
BOTH_KINDS: Final = ""
THIS_MACHINE: Final = "127.0.0.1"
SENSORS_PORT: Final = 8765
PEOPLE_PORT: Final = 8766


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """Where things are to be.

    Attributes:
        config: the configuration's file.
        tls: the folder for authority and certificate; not used where the configuration names a
            certificate of another authority.
        tokens: the file of tokens.
        local_token: the secret of one of them, for commands on this machine.
        people: whether people on the network may look in, too.
        everywhere: where an address listens that is opened.
    """

    config: Path
    tls: Path
    tokens: Path
    local_token: Path
    people: bool
    everywhere: str = EVERYWHERE

    @classmethod
    def beside(cls, config: Path, *, people: bool, everywhere: str = EVERYWHERE) -> SetupPlan:
        """Everything in the folder of the configuration."""
        folder, token = config.parent, config.parent / LOCAL_TOKEN
        return cls(config, folder / "tls", folder / "tokens", token, people, everywhere)


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key that is written; ``before`` is None where it was not set."""

    key: str
    before: str | None
    after: str

    def __str__(self) -> str:
        was = "" if self.before is None else f"  # was {self.before}"
        return f'{self.key} = "{self.after}"{was}'


def changed(text: str, plan: SetupPlan) -> tuple[str, list[KeyChange]]:
    """The configuration with what is missing, and what that is.

    Raises:
        ConfigError: it is no TOML, or its tables are none.
    """
    try:
        document = tomlkit.parse(text)
    except (TOMLKitError, RecursionError) as error:
        raise ConfigError(str(plan.config), "TOML", f"a mistake: {error}") from None
    listen = _table(document, "listen", plan)
    changes: list[KeyChange] = []
    own = {
        "tls_certificate": str(plan.tls / "server.pem"),
        "tls_key": str(plan.tls / "server-key.pem"),
        "tokens": str(plan.tokens),
    }
    _open(listen, "listen", SENSORS_PORT, changes, plan.everywhere)
    for key, value in own.items():
        if key not in listen:
            listen[key] = value
            changes.append(KeyChange(f"listen.{key}", None, value))
    if plan.people or "http" in document:
        where = plan.everywhere if plan.people else THIS_MACHINE
        _open(_table(document, "http", plan), "http", PEOPLE_PORT, changes, where)
    return tomlkit.dumps(document), changes


def avahi_service(sensors: int, people: int | None) -> str:
    """What avahi-daemon is to tell the network, as a file for ``/etc/avahi/services``."""
    pages = (
        f"  <service>\n    <type>_https._tcp</type>\n    <port>{people}</port>\n  </service>\n"
        if people is not None
        else ""
    )
    return (
        '<?xml version="1.0" standalone="no"?>\n'
        '<!DOCTYPE service-group SYSTEM "avahi-service.dtd">\n'
        "<!-- Made by edge-agent setup. -->\n"
        "<service-group>\n"
        '  <name replace-wildcards="yes">edge-agent on %h</name>\n'
        "  <service>\n"
        "    <type>_edge-agent._tcp</type>\n"
        f"    <port>{sensors}</port>\n"
        "    <txt-record>path=/ingest/</txt-record>\n"
        "    <txt-record>tls=1</txt-record>\n"
        "  </service>\n"
        f"{pages}"
        "</service-group>\n"
    )


def first_sensor(host: str, port: int, ca: Path | None, secret: str | None) -> list[str]:
    """Lines that send the first record, from any machine that has curl and ``ca``, where it needs
    one.
    """
    token = secret or "SECRET"
    trusting = "" if ca is None else f"--cacert {ca} "
    return [
        f"curl {trusting}https://{_named(host, port)}/ingest/test/1 \\",
        f'     -H "Authorization: Bearer {token}" -d \'{{"t": 21.5}}\'',
    ]


def sensors_url(host: str, port: int) -> str:
    """Where sensors connect."""
    return f"wss://{_named(host, port)}/ingest/STREAM"


def page_url(host: str, port: int) -> str:
    """Where the page is for people on the network."""
    return f"https://{_named(host, port)}/"


def _named(host: str, port: int) -> str:
    return format_address(host, port)


def _open(table: Any, name: str, usual: int, changes: list[KeyChange], where: str) -> None:
    """Open an address on loopback to all, at ``where``; or put one back there that others reach."""
    before = table.get("address")
    if before == "off":
        return
    host, port = (THIS_MACHINE, usual) if before is None else parse_address(str(before))
    if is_loopback(host) == is_loopback(where):
        return
    after = format_address(where, port)
    table["address"] = after
    changes.append(KeyChange(f"{name}.address", None if before is None else str(before), after))


def _table(document: tomlkit.TOMLDocument, name: str, plan: SetupPlan) -> Any:
    if name not in document:
        document[name] = tomlkit.table()
    table = document[name]
    if not hasattr(table, "items"):
        raise ConfigError(f"{plan.config}: {name}", "a table", str(table)[:80])
    return table
