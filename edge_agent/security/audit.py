"""The audit: one line for each order, with who gave it, what it is about, and what came of it.

An order is what a person has done that changes what is kept, who may come or what is sent: `ORDERS`
has them all, under the names of their commands. One that a running agent obeyed is noted there and
not by the command that brought it. What was turned away at a port's door is no order, and told as
such (`edge_agent.net.refused_peers`).

Where there is journald each line goes there by its own protocol, with fields that can be asked for
(`journalctl -t edge-agent-audit -o json`): EDGE_AGENT_ORDER, _WHO, _FROM, _WHAT and _OUTCOME. The
time, and the user and process that wrote it, are journald's own word, which the writer cannot
forge; the agent's user cannot change or remove a line, as it could in a file of its own. That is
why there is no file beside it. Without journald (a container) the line goes where the agent's other
lines go; a command then leaves none.
"""

from __future__ import annotations

import logging
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.output.printable import printable

logger = logging.getLogger(__name__)

#: Every order, and what it changes.
ORDERS: Final[dict[str, str]] = {
    "consumer pause": "nothing more is sent to a consumer",
    "consumer resume": "it is sent to again",
    "consumer rewind": "it is sent again what it had",
    "consumer skip": "it is never sent what comes before",
    "consumer forget": "its position is removed",
    "upstream resend": "it is sent once more what it may lack, or no longer",
    "source move": "a source, or an agent, belongs to another token",
    "source forget": "it belongs to nobody",
    "quarantine replay": "entries are read, or sent, again",
    "quarantine drop": "entries are removed",
    "token add": "somebody more may come in",
    "token rotate": "a token has another secret",
    "token revoke": "somebody may no longer come in",
    "tls init": "an authority or a certificate is made",
    "tls renew": "a certificate is renewed",
    "setup": "certificate, tokens and configuration",
    "reload": "rules, upstreams and files are read again (SIGHUP)",
    "erase": "a stream's records are removed",
    "compact": "the store is written anew",
    "restore": "a store is made from a backup",
}
IDENTIFIER: Final = "edge-agent-audit"
#: Where journald listens (systemd.journal-fields(7), "Native Journal Protocol").
JOURNAL = Path("/run/systemd/journal/socket")
_NOTICE = "5"
_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class Actor:
    """Who gave an order; ``address`` is "" on this machine itself."""

    name: str
    address: str = ""


#: What the agent does by itself, and what a signal asked of it.
AGENT, SIGNAL = Actor("the agent"), Actor("SIGHUP")


@dataclass(slots=True)
class OrderOutcome:
    """What came of an order, where that is more than done or not."""

    told: str = "done"


def local_user() -> Actor:
    """Whoever runs this command, and not as whom it works meanwhile."""
    uid = os.getuid()
    try:
        return Actor(f"uid {uid} ({pwd.getpwuid(uid).pw_name})")
    except KeyError:
        return Actor(f"uid {uid}")


@contextmanager
def audited(order: str, what: str, actor: Actor | None = None) -> Iterator[OrderOutcome]:
    """While this lasts an order is obeyed; at its end the line is written, whatever comes of it.

    ``order`` is one of `ORDERS`; ``actor`` None: whoever runs this command.
    """
    outcome, who = OrderOutcome(), actor or local_user()
    try:
        yield outcome
    except BaseException as error:
        # What is no mistake, but an end from outside, is worded for programmers.
        told = str(error) if isinstance(error, Exception) else ""
        note(order, what, f"failed: {told or type(error).__name__}", who)
        raise
    note(order, what, outcome.told, who)


def note(order: str, what: str, outcome: str, actor: Actor) -> None:
    """Write one line. Never raises for what the journal does."""
    fields = {
        "order": order,
        "who": actor.name,
        "from": actor.address or "here",
        "what": what,
        "outcome": outcome,
    }
    safe = {key: printable(value)[:_CHARACTERS_MAX] for key, value in fields.items()}
    line = " ".join(f"{key}={_quoted(value)}" for key, value in safe.items())
    if not _to_journal(line, safe):
        logger.info("audit: %s", line)


def _quoted(text: str) -> str:
    return text if text.isalnum() else '"' + text.replace('"', "'") + '"'


def _to_journal(line: str, fields: dict[str, str]) -> bool:
    own = {f"EDGE_AGENT_{key.upper()}": value for key, value in fields.items()}
    usual = {"MESSAGE": line, "PRIORITY": _NOTICE, "SYSLOG_IDENTIFIER": IDENTIFIER}
    # No value has a line end: what is printable has none.
    data = "".join(f"{key}={value}\n" for key, value in (usual | own).items()).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
            out.sendto(data, str(JOURNAL))
    except OSError:
        return False
    return True
