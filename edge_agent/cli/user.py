"""The user that runs the agent: who reads what root makes, and as whom a start is checked."""

from __future__ import annotations

import os
import pwd
from contextlib import ExitStack
from pathlib import Path

import click

from edge_agent.cli.common import Failure
from edge_agent.cli.run import examined
from edge_agent.config import Config
from edge_agent.errors import ConfigError
from edge_agent.system.files import acting_as

#: Whom README and the unit make.
DEFAULT_USER = "edge-agent"

user_option = click.option(
    "--user",
    metavar="NAME",
    help="The user that runs the agent. [owner of the store's folder; for root only]",
)


def agent_user(settings: Config, given: str | None = None) -> pwd.struct_passwd | None:
    """The user ``given``, else the owner of the store's folder, else the one that README makes.

    None where nobody is named and we are not root, who are then the agent's user ourselves.

    Raises:
        UsageError: there is no such user.
    """
    if given is not None:
        try:
            return pwd.getpwuid(int(given)) if given.isdecimal() else pwd.getpwnam(given)
        except KeyError:
            raise click.UsageError(f"--user: this machine has no user {given!r}") from None
    if os.geteuid() != 0:
        return None
    path = Path(settings.store.path)
    try:
        if path.exists():
            return pwd.getpwuid(path.stat().st_uid)
        return pwd.getpwnam(DEFAULT_USER)
    except (KeyError, OSError):
        # Nobody's, or no folder that there may be: the start says so.
        return None


def look_at_start(
    config: Path | None, data: str | None, user: pwd.struct_passwd | None
) -> tuple[list[str], list[str]]:
    """Why an agent of ``user``'s could not start with this configuration, and warnings.

    Raises:
        Failure: we are not root and cannot look as somebody else.
    """
    # Imported here: what only asks a running agent does not pay for the agent's parts.
    from edge_agent.assembly import startup

    with ExitStack() as acting:
        if user is not None and user.pw_uid != os.geteuid():
            if os.geteuid() != 0:
                raise Failure(f"only root can look as {user.pw_name}: sudo edge-agent …", 2)
            acting.enter_context(acting_as(user.pw_uid, user.pw_gid))
        try:
            # Read again, as the one who will have to read it.
            settings, wrong = examined(config, data)
        except ConfigError as error:
            return [str(error)], []
        warnings = startup.shortcomings(settings, wrong.touches)
        return wrong.told() + startup.refusals(settings, wrong.touches), warnings
