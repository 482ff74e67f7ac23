"""The command line. ``edge-agent COMMAND``; one file per command family, imported when used.

`main` knows every command by name only, so that ``--help`` is quick and ``run`` on a small board
never pays for what ``status`` or ``send`` import. Each command file has a `click` command or group
named ``command``. What they share, options and the way errors are shown, is in `common`.

Exit codes: 0 done · 1 the command's own "no" (a damaged store, a difference found) · 2 wrong
usage · 75 the store is in use · 78 the configuration cannot be used.
"""

from __future__ import annotations

import errno
import importlib
import signal
import sys
import threading
from functools import partial
from typing import Any, Final

import click

from edge_agent import __version__
from edge_agent.cli.common import Failure, first_of, set_up_logging
from edge_agent.cli.process import EARLY_HANGUP, discard_stdout, open_standard_files
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.output.printable import why

#: Name to one line of help; `module_of` says where the command is.
COMMANDS: Final[dict[str, str]] = {
    "run": "Run the agent.",
    "setup": "Let sensors on the network in: certificate, tokens, configuration.",
    "demo": "Show the main job in the terminal: sensors, agent, hub, a cut cable.",
    "send": "Send records from a file or stdin to an agent, each acked.",
    "sensor": "Be a sensor: this machine itself, an MQTT broker, or a Modbus device.",
    "tail": "Show records as they arrive.",
    "query": "Ask for stored records.",
    "status": "Show how an agent is doing.",
    "top": "Watch streams, last values, upstreams and store, anew each second.",
    "export": "Write stored records to a file.",
    "import": "Bring in what a file upstream wrote elsewhere, exactly once.",
    "doctor": "Look for what may go wrong, and say what to do.",
    "upstream": "Try upstreams out, show what each last said, send one records again.",
    "consumer": "Show, pause, rewind and skip what goes upstream.",
    "quarantine": "Show, replay or drop what could not be used.",
    "backup": "Back the store up, while the agent runs or not.",
    "restore": "Make a store from a backup, under a new identity.",
    "erase": "Erase a stream from a store, so that its bytes are gone.",
    "compact": "Write a store anew, without what was deleted.",
    "check": "Check a store for damage, page by page.",
    "config": "Write, check or show a configuration.",
    "rules": "Try the rules of a configuration on records.",
    "source": "Show whose sources are, move and forget them.",
    "token": "Make, list, rotate and revoke tokens.",
    "tls": "Make a small certificate authority and a certificate; renew it.",
    "bench": "Measure this machine's own disk for durable records.",
}

#: Commands whose name is no module's, as it is a word of the language.
_MODULES: Final = {"import": "import_files"}
#: Commands that write something beside its place first, and must not leave it there.
TIDIES_UP: Final = frozenset(
    {"backup", "restore", "compact", "erase", "export", "check", "doctor", "config", "token", "tls"}
    | {"bench", "setup"}
)


def module_of(name: str) -> str:
    """The module of a command."""
    return f"edge_agent.cli.{_MODULES.get(name, name)}"


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """The whole command line, from a process that may lack the usual files."""
        open_standard_files()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise
            # Where it was stdout, its rest would be tried once more at the end.
            discard_stdout()
            failure = Failure(f"this could not be written: {why(error)}")
            failure.show()
            sys.exit(failure.exit_code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table: the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported now."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "run":
            # Before what takes long, which is importing it.
            EARLY_HANGUP.watch()
        module = importlib.import_module(module_of(cmd_name))
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error of ours is one line and an exit code, not a traceback."""
        try:
            return super().invoke(ctx)
        except EdgeAgentError as error:
            raise _failure(error) from error
        except BaseExceptionGroup as group:
            # Trio's nurseries wrap what their tasks raise. Only a group that holds nothing but
            # errors of ours is shortened; anything else is a mistake and keeps its traceback.
            ours, others = group.split(EdgeAgentError)
            if ours is None or others is not None:
                raise
            raise _failure(first_of(ours)) from group


def _failure(error: EdgeAgentError) -> Failure:
    is_usage = isinstance(error, ConfigError) and error.where.startswith("--")
    return Failure(str(error), 2 if is_usage else error.exit_code)


def _leave_in_order(context: click.Context) -> None:
    """SIGTERM and SIGHUP end the command as Ctrl-C does: whatever it has begun is undone."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            before = signal.signal(number, leave)
            context.call_on_close(partial(signal.signal, number, before))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-agent")
@click.option("-v", "--verbose", count=True, help="Say more; three times: say everything.")
@click.pass_context
def main(context: click.Context, verbose: int) -> None:
    """Keep what sensors send, durably, and bring it upstream.

    What is acknowledged is on the card; what is on the card arrives upstream.
    """
    if context.invoked_subcommand in TIDIES_UP:
        _leave_in_order(context)
    # A service tells what it does; a command that is done in a moment tells what went wrong.
    set_up_logging(verbose + (context.invoked_subcommand == "run"))
