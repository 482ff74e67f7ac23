"""Parts that the commands share: options, logging, and the way to say no.

Standard library, click and what needs no more only, so that every command starts quickly.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_agent.output.printable import printable, printable_lines
from edge_agent.values.stream_names import pattern_problem, source_problem, stream_problem

Raised = TypeVar("Raised", bound=Exception)
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Where README puts the configuration of this machine's agent.
SYSTEM_CONFIG = Path("/etc/edge-agent/edge-agent.toml")
#: Beside a configuration: the token of who may read it, for commands to the agent of this machine.
LOCAL_TOKEN = "local-token"
#: A token, for who would rather not have a file of it.
TOKEN_VARIABLE = "EDGE_AGENT_TOKEN"


class Failure(click.ClickException):
    """One line for a person and an exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        # click declares it as a class variable and reads it from the instance.
        vars(self)["exit_code"] = exit_code

    def format_message(self) -> str:
        """The message; what a peer wrote in it cannot move the cursor."""
        return printable_lines(self.message)


class CheckedText(click.ParamType[str]):
    """A text that ``problem`` finds nothing wrong with; else the command ends as by wrong usage,
    before it has done anything. With ``may_be_empty`` "" is as if it were not given, as an unset
    variable in a unit file makes it.
    """

    name = "text"

    def __init__(self, problem: Callable[[str], str | None], *, may_be_empty: bool = False) -> None:
        self._problem, self._may_be_empty = problem, may_be_empty

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """``value`` as it is."""
        if not value and self._may_be_empty:
            return value
        if (problem := self._problem(value)) is not None:
            self.fail(printable(problem), param, ctx)
        return value


#: Of options that have a default, or may be missing.
STREAM_NAME = CheckedText(stream_problem, may_be_empty=True)
SOURCE_NAME = CheckedText(source_problem, may_be_empty=True)
STREAM_PATTERN = CheckedText(pattern_problem)


class Family(click.Group):
    """Commands of one kind: its help lists each with its whole first sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As many lines for each as that takes; click would cut it off at the first."""
        rows = [
            (name, "" if one is None else one.get_short_help_str(limit=1000))
            for name in self.list_commands(ctx)
            for one in [self.get_command(ctx, name)]
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def config_options(function: Decorated) -> Decorated:
    """``--config FILE`` and ``--data DIR``, given to the command as ``config`` and ``data``: of the
    agent of this machine where none is named.
    """
    return _data_option(config_option(function))


def run_options(function: Decorated) -> Decorated:
    """The same for `run`, which takes no file that it was not told: another agent may be running
    with that one, and its upstreams are not for whoever tries something.
    """
    help_text = "TOML file. Without it: every default, and EDGE_AGENT__SECTION__KEY."
    return _data_option(_config_option(help_text, None)(function))


def config_option(function: Decorated) -> Decorated:
    """``--config FILE``: the configuration of this machine's agent, where there is one."""
    help_text = (
        f"TOML file. [{SYSTEM_CONFIG} where it is there; else every default, and"
        " EDGE_AGENT__SECTION__KEY]"
    )
    return _config_option(help_text, system_config)(function)


def _config_option(
    help_text: str, default: Callable[[], Path | None] | None
) -> Callable[[Decorated], Decorated]:
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="EDGE_AGENT_CONFIG",
        default=default,
        help=help_text,
    )


def _data_option(function: Decorated) -> Decorated:
    help_text = "Keep the store in DIR, whatever the configuration says."
    return click.option("--data", metavar="DIR", help=help_text)(function)


def json_option(function: Decorated) -> Decorated:
    """``--json``, given as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="As JSON.")(function)


def yes_option(function: Decorated) -> Decorated:
    """``--yes``; see `edge_agent.cli.store_access.agreed`."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def system_config() -> Path | None:
    """The configuration of this machine's agent, if there is one that we may read."""
    return SYSTEM_CONFIG if os.access(SYSTEM_CONFIG, os.R_OK) else None


def local_token(config: Path | None, url: str) -> Path | None:
    """The token that ``edge-agent setup`` has left for commands on this machine, if we may read it
    and are given no other. ``url`` is the one in the configuration, and over TLS: while the agent
    is stopped, anybody on this machine may listen at its port. Neither a link counts nor another
    user's file: beside a configuration of his it would have root send him what he cannot read.
    """
    if config is None or os.environ.get(TOKEN_VARIABLE) or not url.startswith(("https:", "wss:")):
        return None
    file = config.parent / LOCAL_TOKEN
    try:
        found = file.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid())
    return file if is_ours and os.access(file, os.R_OK) else None


def sudo_advice(config: Path = SYSTEM_CONFIG) -> str:
    """``sudo, `` where root has a token for commands on this machine that we may not read: the
    first thing to try for whoever was refused for want of one.
    """
    file = config.parent / LOCAL_TOKEN
    is_there, is_ours = (os.access(file, how, effective_ids=True) for how in (os.F_OK, os.R_OK))
    return "sudo, " if is_there and not is_ours else ""


def port_options(
    function: Decorated, *, variable: str, port: str, token: str, scheme: str, flag: str = "--url"
) -> Decorated:
    """``--url`` (or ``flag``), ``--token-file`` and ``--ca-file`` of a port of the agent, told in
    its words.
    """
    function = click.option(
        "--ca-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help=f"Trust this certificate authority ({scheme}). [this machine's agent's]",
    )(function)
    function = click.option(
        "--token-file",
        metavar="FILE",
        envvar="EDGE_AGENT_TOKEN_FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"File that holds a token with {token}. [the token in {TOKEN_VARIABLE}; for"
        " this machine's agent the one that setup made, as root]",
    )(function)
    return click.option(flag, "url", envvar=variable, help=port)(function)


def certificate_advice(told: str) -> str:
    """What to do about a certificate that was not taken, for the reason that OpenSSL tells."""
    if "mismatch" in told:
        return "the URL has to name a host that the certificate is for"
    if "has expired" in told:
        return "it has to be renewed where the agent runs: edge-agent tls renew"
    if "not yet valid" in told:
        return "is this machine's clock right?"
    return "--ca-file names the ca.pem of the authority that made it (edge-agent tls init)"


def is_service() -> bool:
    """Whether systemd has started this: nobody waits at a terminal, and it is started again."""
    return _goes_to_journal()


def set_up_logging(verbose: int) -> None:
    """Diagnostics go to stderr; under systemd with its priorities and without a second time.

    ``verbose`` 0: warnings; 1: what happens; 2: details; 3: what libraries say, too.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JournalFormatter() if _goes_to_journal() else _PLAIN)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    if verbose < 3:
        logging.getLogger("trio-websocket").setLevel(logging.WARNING)


def first_of(group: BaseExceptionGroup[Raised]) -> Raised:
    """The first error in a group, however deep."""
    error: Raised | BaseExceptionGroup[Raised] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class OneLineFormatter(logging.Formatter):
    """A message is one line, whatever a peer wrote in it; a traceback's lines are indented, so that
    none of them looks like a message.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The message with its heading."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        """The traceback."""
        text = super().formatException(ei)
        return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


_PLAIN = OneLineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class JournalFormatter(OneLineFormatter):
    """``<priority>name: message`` on every line, as sd-daemon(3) wants it."""

    _PRIORITIES = (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
    )

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record, each of its lines with its priority."""
        priority = next((p for level, p in self._PRIORITIES if record.levelno >= level), 7)
        text = super().format(record)
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


def holds_store(path: Path) -> bool:
    """Whether there is a store in the agent's folder ``path``.

    Raises:
        Failure: we may not look, or the disk does not answer. "None" would be a wrong answer.
    """
    try:
        return stat.S_ISDIR((path / "store").stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise Failure(
            f"{path}: {error.strerror}. Run it as the agent's user (sudo -u edge-agent …), or as"
            " root"
        ) from error
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from error


def quit_if_no_store(path: Path) -> None:
    """Raises Failure where ``path`` is no agent's folder with a store in it."""
    if not holds_store(path):
        raise Failure(f"{path} holds no store; --config or --data names another")


def _goes_to_journal() -> bool:
    # systemd sets JOURNAL_STREAM to device:inode of the stderr that it connected, so that a
    # shell below a service that redirects stderr is not mistaken for it.
    wanted = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return wanted == f"{found.st_dev}:{found.st_ino}"
